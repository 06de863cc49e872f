"""
Every setting, read once at the entry from `STREAM_*` variables.

Functions take the values that they need, never the whole of it; only composition roots do.
"""

import re
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from pydantic import AwareDatetime, Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from schemas.catalog import TOPICS
from stream.adapters.detection import AUTO, FORMATS

SENSITIVE = (
    "gender", "sex", "disab", "depriv", "imd", "age", "birth", "dob", "ethnic", "race", "religion", "nation",
    "orientation", "marital", "income", "health",
)  # fmt: skip
"""Words, and beginnings of words, in the names of fields about a person."""


def is_sensitive(field: str) -> bool:
    """Return whether a field's name says that it is about a person: `gender`, `age_band`, `imd-band`, `ageBand`."""
    parted = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", field)
    words = re.split(r"[^a-z]+", f"{field} {parted}".lower())
    return any(
        word == known or (len(known) > _SHORT and word.startswith(known)) for word in words for known in SENSITIVE
    )


_SHORT = 3
"""Letters up to which a word must be the whole: `agenda` is nothing about age."""

_OURS = ("course", "course_day", "enrolled_before")
"""What is known of every enrolment; `context` cannot have fields of these names beside it."""

_MOST_FIELDS = 7
"""Texts that an enrolment keeps beside its course (`stream.state.academic.FACTS`); any field may be one."""


_IRL = re.compile(r"https?://(?:[^\x00-\x20\x7f-\xa0<>\"{}|\\^`%]|%[0-9A-Fa-f]{2})+")
"""A URL of any script's letters: no spaces, controls, quotes, brackets; percent signs lead two digits (RFC 3987)."""

_URI_REFERENCE = re.compile(r"(?:[A-Za-z][A-Za-z0-9+.-]*:|/|(?=[^:/]+(?:/|$)))(?:[A-Za-z0-9._~:/@+-]|%[0-9A-Fa-f]{2})*")
"""A scheme, or a path; a relative one without a colon in its first part (RFC 3986, section 4.1)."""


_ADDRESS = re.compile(r"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+(?:%[A-Za-z0-9._-]+)?\]):(?P<port>[0-9]{1,5})")
"""`host:port`, of IPv6 in brackets."""

_LAST_PORT = 65_535


def _has_host(reference: str) -> bool:
    """Return whether a URL names a host, and a port only if it is one."""
    try:
        parts = urlsplit(reference)
        return bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        return False


PSEUDONYM_SECRETS = ("pseudonym_key", "pseudonym_previous_key")
SECRETS = ("sasl_password", "redis_url", *PSEUDONYM_SECRETS)
"""Fields whose values are never shown."""


class Settings(BaseSettings):
    """What an operator may choose. Each field is `STREAM_` and its name in capitals."""

    model_config = SettingsConfigDict(env_prefix="STREAM_", frozen=True, extra="ignore")

    broker: str = Field(
        "127.0.0.1:9092",
        description="Kafka bootstrap servers, `host:port`, several joined by commas; of IPv6 `[::1]:9092`",
    )
    group: str = Field(
        "learnerstream",
        pattern=r"^[A-Za-z0-9._-]{1,100}$",
        description="consumer group of the workers; changelog topics and the trainer's group begin with it",
    )
    topic_prefix: str = Field("", pattern=r"^[A-Za-z0-9._-]{0,100}$", description="put before every topic's name")
    partitions: int = Field(
        16,
        ge=1,
        le=1000,
        description="partitions of the topics that are created; fixed from then on (users would move)",
    )
    replication: int = Field(1, ge=1, le=9, description="replicas of the topics that are created; 3 in production")
    topics: Literal["create", "check", "trust"] = Field(
        "create",
        description="at start: `create` missing topics and check the others; only `check`; "
        "or `trust` a broker that has no admin API",
    )
    guarantee: Literal["at_least_once", "exactly_once"] = Field(
        "at_least_once",
        description="`at_least_once`, made idempotent by the state; or `exactly_once`: outputs, state and offsets in "
        "one Kafka transaction",
    )
    session_timeout_s: float = Field(10.0, ge=6, le=300, description="seconds until a silent worker's partitions move")
    heartbeat_s: float = Field(
        1.0, ge=0.1, le=100, description="seconds between two heartbeats; a third of the session at most"
    )
    instance_id: str | None = Field(
        None,
        pattern=r"^[A-Za-z0-9._-]{1,100}$",
        description="static membership: a worker that comes back under its id within the session keeps its partitions; "
        "each worker needs an id of its own",
    )
    standby_replicas: int = Field(
        0, ge=0, le=8, description="workers that keep a copy of each partition's state, to take over without reading it"
    )
    commit_interval_s: float = Field(1.0, ge=0.05, le=60, description="seconds between two commits of offsets")

    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT", description="how to talk to Kafka"
    )
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(
        "PLAIN", description="with SASL: the mechanism"
    )
    sasl_username: str | None = Field(None, description="with SASL: the user")
    sasl_password: SecretStr | None = Field(None, description="with SASL: the password")
    ssl_ca_file: Path | None = Field(None, description="with SSL: the authority's certificate, PEM")
    ssl_cert_file: Path | None = Field(None, description="with SSL: our certificate, PEM")
    ssl_key_file: Path | None = Field(None, description="with SSL: our key, PEM, without a passphrase")

    batch_max: int = Field(500, ge=1, le=20_000, description="events in a batch at most")
    fetch_max_wait_ms: int = Field(
        100,
        ge=1,
        le=30_000,
        description="milliseconds that the broker may hold an empty fetch, for which a new partition waits once",
    )
    message_max_bytes: int = Field(
        4_194_304,
        ge=65_536,
        le=104_857_600,
        description="largest message that topics, producers and consumers carry, bytes",
    )
    event_max_bytes: int = Field(
        262_144, ge=1_024, le=104_857_600, description="an event above this is a dead letter, bytes"
    )
    dead_letter_max_bytes: int = Field(
        65_536,
        ge=256,
        le=10_485_760,
        description="original bytes that a dead letter keeps; the rest is cut, with its digest",
    )
    compression: Literal["none", "lz4", "zstd", "snappy", "gzip"] = Field("lz4", description="of what we produce")
    linger_ms: float = Field(
        5.0, ge=0, le=1000, description="milliseconds that the producer waits for more to send at once"
    )

    sources: str = Field(
        "",
        description="foreign topics that are read, converted and written to `interactions` and `academics`, joined by "
        "commas: `lms.xapi=xapi,lms.events=auto`; formats: " + ", ".join(f"`{name}`" for name in FORMATS),
    )
    opened_limit_s: float = Field(
        1_800.0,
        ge=0,
        le=86_400,
        description="seconds after which an item that was opened tells nothing of how long its answer took, where the "
        "source does not say; 0: never",
    )
    pseudonym_key: SecretStr | None = Field(
        None,
        description="secret under which the users of sources become pseudonyms (HMAC-SHA256); unset: their ids go on "
        "as they are",
    )
    pseudonym_previous_key: SecretStr | None = Field(
        None, description="the secret before it, which events before STREAM_PSEUDONYM_SINCE keep"
    )
    pseudonym_since: AwareDatetime | None = Field(
        None, description="from when on, by the time of events, STREAM_PSEUDONYM_KEY is used, RFC 3339"
    )

    remembered_answers: int = Field(100, ge=5, le=1000, description="answers remembered of each user")
    latest_topics: int = Field(
        3, ge=0, le=16, description="topics met last that a prediction covers besides the event's own"
    )

    risk_features: str = Field(
        "education,attempts,credits,module,presentation",
        description="fields of an enrolment that the risk model may see, joined by commas; others are not even kept",
    )
    risk_slices: str = Field(
        "",
        description="fields of an enrolment by which fairness is watched, joined by commas; no features, unless "
        "STREAM_RISK_SENSITIVE lets them be both",
    )
    risk_sensitive: bool = Field(
        False,
        description="whether STREAM_RISK_FEATURES may name fields about a person, such as gender, disability or age",
    )

    future_hours: float = Field(
        24.0,
        gt=0,
        le=8_760,
        description="hours that an event may be ahead of its Kafka timestamp: an academic one beyond is a dead letter, "
        "and none moves the clock that closes weeks any further",
    )

    redis_url: SecretStr | None = Field(
        None, description="Redis for the latest predictions, `redis://host:port/db`; unset: none"
    )
    redis_pending_max: int = Field(
        100_000, ge=100, le=10_000_000, description="users whose latest predictions wait while Redis is away"
    )

    model_store: str = Field(
        "models",
        min_length=1,
        description="where model artifacts are kept, for workers and trainer: a folder, or a URL that fsspec reaches, "
        "such as s3://bucket/models",
    )
    keep_models: int = Field(
        20, ge=1, le=10_000, description="latest versions that the store keeps, besides those that are announced"
    )
    model_max_bytes: int = Field(
        67_108_864, ge=1_024, le=2_147_483_648, description="largest model file that is loaded, bytes"
    )
    model_precision: Literal["fp32", "int8"] = Field(
        "fp32",
        description="form of a model that a worker serves: `int8`, a quarter of the size, where the artifact has one",
    )
    runs: Path = Field(Path("runs"), description="folder in which `stream train` keeps a record of each training")

    metrics_host: str = Field("127.0.0.1", description="address of `/metrics`, `/healthz` and `/readyz`")
    worker_metrics_port: int = Field(6066, ge=0, le=65_535, description="port of the worker's `/metrics`; 0: none")
    trainer_metrics_port: int = Field(6067, ge=0, le=65_535, description="port of the trainer's `/metrics`; 0: none")
    stalled_after_s: float = Field(
        60.0,
        ge=5,
        le=3_600,
        description="seconds without progress, while there is something to read, after which `/healthz` says that the "
        "process lives and does nothing; below 40, a transaction that another producer leaves open on a topic can look "
        "like that",
    )
    page_host: str = Field(
        "127.0.0.1",
        description="address of the live page; it shows users' ids, so put a proxy that asks who is there "
        "before any other",
    )
    page_port: int = Field(6068, ge=1, le=65_535, description="port of the live page")
    page_names: str = Field(
        "",
        description="host names by which the live page is reached besides localhost, STREAM_PAGE_HOST and addresses, "
        "joined by commas: by no other name does it answer",
    )
    page_history_minutes: float = Field(
        15.0, ge=0, le=10_080, description="minutes before its start from which on the live page reads, at most"
    )
    quality_window: int = Field(
        5_000, ge=100, le=1_000_000, description="latest answers over which live AUC and log loss go"
    )

    rebuild_answers: int = Field(
        5_000,
        ge=100,
        le=1_000_000,
        description="remembered answers that a batch may be read again to rebuild the states of its users, after a "
        "model of another state format went live",
    )

    learn_every: int = Field(5, ge=1, le=1_000_000, description="completed answers between two wishes for an update")
    learn_from: int = Field(10, ge=1, le=1_000_000, description="completed answers before the first update")
    learn_every_minutes: float = Field(
        0.0, ge=0, le=100_000, description="minutes after which an update is wished for, if any answer came; 0: never"
    )
    learn_on_drift: bool = Field(
        True, description="whether drift is answered by an update at once, in place of a candidate that waits"
    )
    update_seconds: float = Field(8.0, ge=0.1, le=3_600, description="seconds of training in one update, at most")
    update_answers: int = Field(
        100_000,
        ge=100,
        le=10_000_000,
        description="answers that one update learns from, at most; of risk, weeks of users",
    )
    update_memory_mb: int = Field(
        4_096, ge=512, le=1_048_576, description="memory of an update's process, MiB; above it, the update is ended"
    )
    learning_rate: float = Field(0.006, gt=0, le=1, description="AdamW's learning rate in an update")
    gate_every: int = Field(
        250, ge=50, le=1_000_000, description="answers between two looks of the gate at a candidate"
    )
    gate_budget: int = Field(
        20_000, ge=100, le=10_000_000, description="answers after which a candidate that is not better is given up"
    )
    step_budget_ms: float = Field(
        50.0, gt=0, le=10_000, description="milliseconds that a candidate's step of 500 users may take"
    )
    risk_step_budget_ms: float = Field(
        400.0,
        gt=0,
        le=10_000,
        description="milliseconds that a risk candidate may take to score 500 users, factors too",
    )
    challenger_share: float = Field(
        0.0, ge=0, le=1, description="share of users whom a candidate serves while it is on trial; 0: it only predicts"
    )
    rollback_window: int = Field(
        5_000, ge=200, le=1_000_000, description="answers after a promotion in which it may be undone by itself"
    )
    rollback_margin: float = Field(
        0.05, gt=0, le=10, description="nats by which live log loss may worsen in that window"
    )
    risk_learn_every: int = Field(
        2_000,
        ge=1,
        le=10_000_000,
        description="weeks of users whose outcome has become known between two updates of the risk model",
    )
    risk_learn_from: int = Field(
        2_000, ge=1, le=10_000_000, description="such weeks before the first update of the risk model"
    )
    risk_learning_rate: float = Field(
        1e-4, gt=0, le=1, description="AdamW's learning rate where an update of the risk model goes on from what serves"
    )
    risk_examples: Path = Field(
        Path("risk-examples.sqlite"),
        description="file in which the trainer keeps weeks of users until it is known what became of them; as large as "
        "STREAM_BUFFER_USERS and STREAM_BUFFER_BYTES allow",
    )
    watch_window: int = Field(
        2_000,
        ge=200,
        le=1_000_000,
        description="answers over which the trainer's live quality and drift go; of risk, weeks of users",
    )
    buffer: Path = Field(Path("buffer.sqlite"), description="file of the trainer's replay buffer")
    buffer_users: int = Field(20_000, ge=10, le=50_000_000, description="users whom the buffer keeps, at most")
    buffer_bytes: int = Field(
        268_435_456, ge=65_536, le=1 << 40, description="bytes of answers that the buffer keeps, at most"
    )
    buffer_run: int = Field(200, ge=10, le=10_000, description="answers that the buffer keeps of one user")
    trainer_backlog: int = Field(
        0,
        ge=0,
        le=10_000_000,
        description="answers after which a trainer that is busy stops reading; 0: never (the demo sets it)",
    )
    publish_items_every_s: float = Field(
        2.0,
        ge=0.05,
        le=3_600,
        description="seconds between two publications of item parameters, after each of which offsets are committed; "
        "above 90, raise the limit of the alert StreamCommitsStalled",
    )

    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="least level that is logged")

    cloudevents: Literal["binary", "structured"] = Field(
        "binary",
        description="how predictions and replies are CloudEvents: `binary`, attributes in headers; or `structured`, in "
        "an envelope around the value, for consumers that see no headers",
    )
    cloudevents_source: str = Field(
        "/learnerstream",
        pattern=r"^[A-Za-z0-9._~:/@%+-]{1,200}$",
        description="`source` of CloudEvents, a URI: another one for each system whose predictions meet somewhere, as "
        "ids are unique within one",
    )
    risk_statements: bool = Field(
        False, description="whether each risk is also published as an xAPI statement, on `predictions.risk.xapi`"
    )
    actor_home_page: str | None = Field(
        None,
        description="with STREAM_RISK_STATEMENTS: URL of the system that knows learners under their ids, as "
        "`account.homePage` of statements; with STREAM_PSEUDONYM_KEY one of its own, as their names there are others",
    )

    @field_validator("broker")
    @classmethod
    def _are_addresses(cls, broker: str) -> str:
        addresses = [address.strip() for address in broker.split(",") if address.strip()]
        for address in addresses or [broker]:
            found = _ADDRESS.fullmatch(address)
            if found is None or not 0 < int(found["port"]) <= _LAST_PORT:
                raise ValueError(
                    "expected host:port, such as 127.0.0.1:9092 or [::1]:9092, several joined by commas, "
                    f"found {address!r}"
                )
        return ",".join(addresses)

    @field_validator("model_store", mode="before")
    @classmethod
    def _as_text(cls, store: object) -> object:
        return str(store) if isinstance(store, Path) else store

    @field_validator("ssl_ca_file", "ssl_cert_file", "ssl_key_file")
    @classmethod
    def _exists(cls, path: Path | None) -> Path | None:
        if path is not None and not path.is_file():
            raise ValueError(f"expected a file, found nothing at {path}")
        return path

    @field_validator("sources")
    @classmethod
    def _are_sources(cls, sources: str) -> str:
        named = [re.split(r"[=:]", each.strip(), maxsplit=1) for each in sources.split(",") if each.strip()]
        for topic, *format_ in named:
            if not re.fullmatch(r"[A-Za-z0-9._-]{1,249}", topic.strip()):
                raise ValueError(f"expected TOPIC=FORMAT, several joined by commas, found the topic {topic!r}")
            if format_ and format_[0].strip() not in FORMATS:
                raise ValueError(
                    f"topic {topic.strip()}: expected one of {', '.join(FORMATS)}, found {format_[0].strip()!r}"
                )
        topics = [topic.strip() for topic, *_ in named]
        twice = sorted({topic for topic in topics if topics.count(topic) > 1})
        if twice:
            raise ValueError(f"expected each topic once, found {', '.join(twice)} several times")
        return ",".join("=".join([topic.strip(), *(f.strip() for f in format_)]) for topic, *format_ in named)

    @field_validator("pseudonym_key", "pseudonym_previous_key")
    @classmethod
    def _is_secret(cls, key: SecretStr | None) -> SecretStr | None:
        if key is None:
            return None
        if not key.get_secret_value().strip():
            raise ValueError("expected a secret, found an empty text; leave it unset for no pseudonyms")
        # A file that it was read from ends in one.
        return SecretStr(key.get_secret_value().rstrip("\r\n"))

    @field_validator("actor_home_page")
    @classmethod
    def _is_home_page(cls, page: str | None) -> str | None:
        if page is not None and not (_IRL.fullmatch(page) and _has_host(page)):
            raise ValueError(f"expected a URL such as https://lms.example.org, found {page!r}")
        return page

    @field_validator("cloudevents_source")
    @classmethod
    def _is_source(cls, source: str) -> str:
        if not (_URI_REFERENCE.fullmatch(source) and (not urlsplit(source).netloc or _has_host(source))):
            raise ValueError(
                f"expected a URI reference such as /learnerstream or https://school.example.org/a, found {source!r}"
            )
        return source

    @field_validator("redis_url")
    @classmethod
    def _is_redis(cls, url: SecretStr | None) -> SecretStr | None:
        if url is not None and not url.get_secret_value().startswith(("redis://", "rediss://", "unix://")):
            raise ValueError("expected a URL such as redis://127.0.0.1:6379/0")
        return url

    @field_validator("risk_features", "risk_slices")
    @classmethod
    def _are_fields(cls, names: str) -> str:
        return ",".join(name.strip() for name in names.split(",") if name.strip())

    @model_validator(mode="after")
    def _no_sensitive_features(self) -> "Settings":
        found = sorted(field for field in self.risk_feature_fields if is_sensitive(field))
        if found and not self.risk_sensitive:
            raise ValueError(
                f"STREAM_RISK_FEATURES: expected no field about a person, found {', '.join(found)}; watch fairness by "
                "it in STREAM_RISK_SLICES, or set STREAM_RISK_SENSITIVE=true if it is lawful where you are"
            )
        both = self.risk_feature_fields & self.risk_slice_fields
        if both and not self.risk_sensitive:
            raise ValueError(
                f"STREAM_RISK_SLICES: expected no features of the risk model, found {', '.join(sorted(both))}"
            )
        return self

    @model_validator(mode="after")
    def _fit_an_enrolment(self) -> "Settings":
        for name, fields in (
            ("STREAM_RISK_FEATURES", self.risk_feature_fields),
            ("STREAM_RISK_SLICES", self.risk_slice_fields),
        ):
            ours = sorted(fields.intersection(_OURS))
            if ours:
                raise ValueError(
                    f"{name}: expected fields of an enrolment's context, found {', '.join(ours)}, which the model sees "
                    "in any case; leave it out"
                )
        both = self.risk_feature_fields | self.risk_slice_fields
        if len(both) > _MOST_FIELDS:
            raise ValueError(
                f"STREAM_RISK_FEATURES and STREAM_RISK_SLICES: expected at most {_MOST_FIELDS} fields together, as an "
                f"enrolment keeps no more, found {len(both)}: {', '.join(sorted(both))}; name fewer"
            )
        return self

    @model_validator(mode="after")
    def _rotate_whole(self) -> "Settings":
        given = (self.pseudonym_previous_key is not None, self.pseudonym_since is not None)
        if any(given) and not (all(given) and self.pseudonym_key is not None):
            raise ValueError(
                "STREAM_PSEUDONYM_PREVIOUS_KEY and STREAM_PSEUDONYM_SINCE go together, beside STREAM_PSEUDONYM_KEY: "
                "set all three, or STREAM_PSEUDONYM_KEY alone"
            )
        return self

    @model_validator(mode="after")
    def _read_others_topics(self) -> "Settings":
        # By the catalog's names metrics and health tell of our own, whatever their prefix.
        known = {self.topic(name) for name in TOPICS} | set(TOPICS)
        # The tables' changelogs, as `stream.transport.topics.changelog` names them.
        changelog = re.compile(rf"{re.escape(self.group)}-.+-changelog")
        ours = sorted(name for name in self.source_formats if name in known or changelog.fullmatch(name))
        if ours:
            raise ValueError(
                f"STREAM_SOURCES: expected topics of other systems, found {', '.join(ours)}, which the worker itself "
                "reads or writes, or knows one of its own by"
            )
        return self

    @property
    def source_formats(self) -> dict[str, str]:
        """Foreign topics and their formats."""
        named = (source.partition("=") for source in self.sources.split(",") if source)
        return {topic: format_ or AUTO for topic, _, format_ in named}

    @property
    def risk_feature_fields(self) -> frozenset[str]:
        """Fields of an enrolment that the risk model may see."""
        return frozenset(self.risk_features.split(",")) - {""}

    @property
    def risk_slice_fields(self) -> frozenset[str]:
        """Fields of an enrolment by which fairness is watched."""
        return frozenset(self.risk_slices.split(",")) - {""}

    @model_validator(mode="after")
    def _agree(self) -> "Settings":
        if self.security_protocol.startswith("SASL") and (self.sasl_username is None or self.sasl_password is None):
            raise ValueError(
                f"STREAM_SECURITY_PROTOCOL={self.security_protocol} needs STREAM_SASL_USERNAME and STREAM_SASL_PASSWORD"
            )
        if self.risk_statements and self.actor_home_page is None:
            raise ValueError(
                "STREAM_RISK_STATEMENTS=true needs STREAM_ACTOR_HOME_PAGE, such as https://lms.example.org: statements "
                "name learners by it and their ids"
            )
        if self.heartbeat_s > self.session_timeout_s / 3:
            raise ValueError("STREAM_HEARTBEAT_S must not be above a third of STREAM_SESSION_TIMEOUT_S")
        if self.event_max_bytes > self.message_max_bytes:
            raise ValueError("STREAM_EVENT_MAX_BYTES must not be above STREAM_MESSAGE_MAX_BYTES")
        # A letter holds value, key and headers, each cut to the limit and in base64, and the key once more.
        if self.message_max_bytes < 5 * self.dead_letter_max_bytes + 65_536:
            raise ValueError("STREAM_MESSAGE_MAX_BYTES must be at least 5 x STREAM_DEAD_LETTER_MAX_BYTES + 65536")
        return self

    def topic(self, name: str) -> str:
        """Return the topic's name on the broker."""
        return self.topic_prefix + name
