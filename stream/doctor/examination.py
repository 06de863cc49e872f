"""
One check after the other: each looks, and says what it makes of it; a check that fails stops none that follows.

What needs a broker is looked at only if one answers: nobody waits for the same silence twice.
"""

import platform
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from datetime import timedelta
from functools import cached_property
from importlib.util import find_spec
from typing import Final

import confluent_kafka
import redis
from confluent_kafka import KafkaError, KafkaException

from stream.doctor import looking, on_broker, on_others, on_settings
from stream.doctor.findings import Finding, ok, unsure, wrong
from stream.doctor.kafka import SAMPLED_TOPICS, AwayError, Kafka
from stream.errors import StreamError
from stream.models.dkt import KNOWLEDGE
from stream.models.risk import RISK
from stream.models.store import Store
from stream.settings import Settings
from stream.transport.progress import Place
from stream.transport.topics import Existing, problems_of, reaching, wanted

MODELS: Final = (KNOWLEDGE, RISK)

_WITHIN_S: Final = 5.0
_LOOK_BACK: Final = timedelta(hours=1)
_PARTS: Final = ("champion", "challenger", "previous")

_OF_BROKER: Final = (
    "listeners", "features", "topics", "producers", "dead letters", "workers", "trainer", "models",
)  # fmt: skip
"""What cannot be told while no broker answers."""

_DENIED: Final = frozenset(
    {
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.GROUP_AUTHORIZATION_FAILED,
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,
    }
)
_RIGHTS: Final = "whoever runs the doctor needs the rights of an operator: docs/security.md"

Look = Callable[[], list[Finding]]


class Examination:
    """
    All checks.

    Args:
        settings: What is examined.
        environment: Where it came from.
        now: Our clock, seconds since the epoch.
    """

    def __init__(
        self, settings: Settings, environment: Mapping[str, str], now: Callable[[], float] = time.time
    ) -> None:
        self._settings = settings
        self._environment = environment
        self._now = now
        self._topics: dict[str, Existing] = {}
        self._hosts: set[str] = set()
        self._machines: set[str] = set()
        self._redis_ahead_s: float | None = None

    @cached_property
    def _kafka(self) -> Kafka:
        """Whom to ask; raises `AwayError` where the settings make no client."""
        return Kafka(self._settings)

    def checks(self) -> Iterator[tuple[str, Look]]:
        """
        Yield the name of each check, and the check; each is to be made before the next is asked for.

        A look returns its findings and raises nothing.
        """
        settings = self._settings
        for name, look in _of_here(settings, self._environment):
            yield name, self._guarded(name, look)
        yield "broker", self._guarded("broker", self._broker)
        if self._hosts:
            yield from self._of_broker()
        else:
            for name in _OF_BROKER:
                yield name, lambda name=name: [unsure(name, "no broker answers: see above")]  # type: ignore[misc]
        for name, look in (
            ("store", self._store),
            ("redis", self._redis),
            ("clock", self._clock),
            ("worker's port", lambda: self._port("worker", settings.metrics_host, settings.worker_metrics_port)),
            ("trainer's port", lambda: self._port("trainer", settings.metrics_host, settings.trainer_metrics_port)),
            ("page's port", lambda: self._port("page", settings.page_host, settings.page_port, ("/healthz",))),
        ):
            yield name, self._guarded(name, look)

    def _of_broker(self) -> Iterator[tuple[str, Look]]:
        looks: dict[str, Look] = {
            "listeners": self._listeners,
            "topics": self._our_topics,
            "features": self._features,
            "producers": self._producers,
            "dead letters": self._dead_letters,
            "workers": self._workers,
            "trainer": self._trainer,
            "models": self._models,
        }
        for name, look in looks.items():
            yield name, self._guarded(name, look)

    def _guarded(self, name: str, look: Look) -> Look:
        return _guarded(name, look, self._settings)

    def _broker(self) -> list[Finding]:
        settings = self._settings
        addresses = [address.strip() for address in settings.broker.split(",") if address.strip()]
        problems = {address: why for address, why in looking.connected(addresses).items() if why}
        if len(problems) == len(addresses):
            remedy = 'start it, or name another: export STREAM_BROKER="host:9092"'
            return on_others.judge_refused("broker", "no Kafka broker answers", problems, remedy)
        brokers = self._kafka.reach()
        self._hosts = set(brokers.values())
        found = f"{settings.broker} answers ({settings.security_protocol})"
        if problems:
            found += "; not so " + ", ".join(f"{address}: {why}" for address, why in problems.items())
        return [ok("broker", found)]

    def _listeners(self) -> list[Finding]:
        problems = {address: why for address, why in looking.connected(sorted(self._hosts)).items() if why}
        return on_broker.judge_listeners(problems, len(self._hosts))

    def _our_topics(self) -> list[Finding]:
        settings = self._settings
        self._topics = self._kafka.topics()
        ours = [topic.name for topic in wanted(settings)] + list(settings.source_formats)
        missing = [name for name in ours if name not in self._topics]
        misfits = [problem for problem in problems_of(settings, self._topics) if problem.topic not in missing]
        told = [bool(self._topics[topic.name].config) for topic in wanted(settings) if topic.name in self._topics]
        denied = self._kafka.denied(missing)
        topics = on_broker.Topics(len(ours), missing, denied, misfits, all(told), reaching(settings))
        return on_broker.judge_topics(settings, topics)

    def _features(self) -> list[Finding]:
        try:
            apis: dict[int, int] | None = looking.apis(self._settings, min(self._hosts))
        except (OSError, ValueError):
            apis = None
        cluster = on_broker.Cluster(
            brokers=len(self._hosts),
            apis=apis,
            config=self._kafka.broker_config(),
            has_transactions=on_broker.TRANSACTION_LOG in self._topics,
        )
        return on_broker.judge_cluster(self._settings, cluster)

    def _partitions(self, name: str) -> int:
        """Return how many partitions one of our topics has, by the catalog's name; raises `StreamError` if none."""
        topic = self._topics.get(self._settings.topic(name))
        if topic is None:
            raise StreamError(f"topic {self._settings.topic(name)} is missing")
        return topic.partitions

    def _producers(self) -> list[Finding]:
        letters: list[on_broker.Letters] = []
        is_whole = True
        # That they cannot be read, `dead letters` says.
        with suppress(StreamError, KafkaException, ValueError):
            letters, is_whole = self._letters
        findings: list[Finding] = []
        for name in SAMPLED_TOPICS:
            sample = self._kafka.sample(name, self._partitions(name))
            findings += on_broker.judge_producers(sample, letters, is_whole=is_whole)
        return findings

    @cached_property
    def _letters(self) -> tuple[list[on_broker.Letters], bool]:
        """Dead letters of the last hour, and whether these are all; read once."""
        return self._kafka.letters(self._partitions("dead-letters"), _LOOK_BACK)

    def _dead_letters(self) -> list[Finding]:
        letters, is_whole = self._letters
        return on_broker.judge_dead_letters(letters, is_whole=is_whole)

    def _places(self, *names: str) -> list[Place]:
        return [(self._settings.topic(name), p) for name in names for p in range(self._partitions(name))]

    def _workers(self) -> list[Finding]:
        places = self._places("interactions", "academics", "prediction-requests", "erasures")
        group = self._kafka.group(self._settings.group, places)
        self._machines |= {member.host for member in group.members}
        known = frozenset({*(topic.name for topic in wanted(self._settings)), *self._settings.source_formats})
        return on_broker.judge_workers(self._settings, group, known)

    def _trainer(self) -> list[Finding]:
        group = self._kafka.group(f"{self._settings.group}-trainer", self._places("training-examples"))
        self._machines |= {member.host for member in group.members}
        return on_broker.judge_trainer(group)

    def _models(self) -> list[Finding]:
        settings = self._settings
        rollouts = self._kafka.rollouts(self._partitions("model-updates"))

        def load() -> list[on_others.Announced]:
            store = Store(settings.model_store)
            return [
                looking.loaded(settings, store, name, part, release)
                for name, rollout in rollouts.items()
                for part in _PARTS
                if name in MODELS and (release := getattr(rollout, part)) is not None
            ]

        return on_others.judge_models(MODELS, looking.within(_WITHIN_S, load) if rollouts else [])

    def _store(self) -> list[Finding]:
        settings = self._settings

        def look() -> tuple[str, dict[str, int]]:
            store = Store(settings.model_store)
            return str(store), looking.versions_in(store, MODELS)

        try:
            place, versions = looking.within(_WITHIN_S, look)
        except (StreamError, TimeoutError) as error:
            remedy = "mend it, or name another: export STREAM_MODEL_STORE=..."
            return [wrong("store", f"{settings.model_store} cannot be read: {error}", remedy)]
        elsewhere = sorted(self._machines - self._here())
        return on_others.judge_store(place, versions, looking.folder(settings.model_store), elsewhere)

    def _here(self) -> set[str]:
        """Return under which addresses this machine is known, as far as brokers can be reached to tell."""
        found = {"127.0.0.1", "::1"}
        if self._hosts:
            # That their addresses are wrong, `listeners` says.
            with suppress(OSError, ValueError):
                found.add(looking.our_address(min(self._hosts)))
        return found

    def _redis(self) -> list[Finding]:
        url = self._settings.redis_url
        if url is None:
            return [ok("redis", "STREAM_REDIS_URL is not set: latest predictions are on their topics alone")]
        try:
            found, at = looking.within(_WITHIN_S, lambda: looking.redis_of(url.get_secret_value()))
        except (redis.AuthenticationError, redis.exceptions.NoPermissionError) as error:
            return [wrong("redis", f"it does not let us in: {error}", "mend user and password in STREAM_REDIS_URL")]
        except (redis.RedisError, TimeoutError) as error:
            remedy = "start it, or mend STREAM_REDIS_URL; workers go on, and fill it when it is back"
            return [wrong("redis", f"it does not answer: {error}", remedy)]
        self._redis_ahead_s = at - self._now()
        return on_others.judge_redis(found)

    def _clock(self) -> list[Finding]:
        told = ("interactions", "academics", "predictions.correctness", "predictions.risk")
        names = [self._settings.topic(name) for name in told]
        shown = {name: self._topics[name] for name in names if name in self._topics}
        newest = self._kafka.newest(shown) if shown else {}
        # After all that was read: what came while other checks took their time is not ahead of us.
        now, ahead_s = self._now(), self._redis_ahead_s
        return on_others.judge_clock(on_others.Times(now, None if ahead_s is None else now + ahead_s, newest))

    def _port(
        self, process: str, host: str, port: int, paths: tuple[str, ...] = ("/healthz", "/readyz")
    ) -> list[Finding]:
        name = f"{process}'s port"
        if port == 0:
            return [ok(name, "0: none is asked for")]
        host = looking.local(host)
        return on_others.judge_port(name, f"{host}:{port}", looking.answers(host, port, paths), f"stream {process}")


def _guarded(name: str, look: Look, settings: Settings | None = None) -> Look:
    """Return a look that tells of what went wrong with it, and raises nothing."""

    def guarded() -> list[Finding]:
        try:
            found = look()
        except AwayError as error:
            found = [wrong(name, str(error), error.remedy)]
        except KafkaException as error:
            remedy = _RIGHTS if error.args[0].code() in _DENIED else ""
            found = [unsure(name, f"Kafka does not tell: {error.args[0].str()}", remedy)]
        except (StreamError, TimeoutError) as error:
            found = [unsure(name, f"it could not be looked at: {error}")]
        except Exception as error:  # noqa: BLE001 (what fails here must not hide what else is wrong)
            found = [unsure(name, f"the check itself failed, which is our fault: {type(error).__name__}: {error}")]
        return [_clean(finding, settings) for finding in found]

    return guarded


def _clean(finding: Finding, settings: Settings | None) -> Finding:
    """Return a finding of one line, without secrets, and with nothing that a terminal would obey."""
    said = finding.found if settings is None else on_settings.without_secrets(finding.found, settings)
    found = "".join(c if c.isprintable() else "\ufffd" for c in " ".join(said.split()))
    return Finding(finding.name, finding.verdict, found, finding.remedy)


def _of_here(settings: Settings, environment: Mapping[str, str]) -> Iterator[tuple[str, Look]]:
    """Yield the checks that need nothing but this process."""
    yield "settings", lambda: on_settings.judge_settings(settings)
    yield from unsettled(environment)
    yield "files", lambda: _files(settings)


def _files(settings: Settings) -> list[Finding]:
    # A worker's image has no torch, and writes none of them.
    can_learn = find_spec("torch") is not None
    files = {"STREAM_BUFFER": settings.buffer, "STREAM_RISK_EXAMPLES": settings.risk_examples} if can_learn else {}
    return on_settings.judge_files(
        {name: looking.unwritable(path) for name, path in files.items()}, can_learn=can_learn
    )


def unsettled(environment: Mapping[str, str]) -> Iterator[tuple[str, Look]]:
    """Yield the checks that need no settings, which may be wrong."""
    yield "environment", lambda: on_settings.judge_environment(environment)
    yield (
        "versions",
        lambda: on_settings.judge_versions(
            platform.python_version(),
            looking.packages(),
            str(confluent_kafka.libversion()[0]),
            str(confluent_kafka.__version__),
        ),
    )


def misset(sentence: str, environment: Mapping[str, str]) -> Iterator[tuple[str, Look]]:
    """
    Yield the checks that are left where settings are wrong by themselves.

    Args:
        sentence: What is wrong with them.
        environment: Where they came from.
    """
    remedy = "set it as said; docs/settings lists every setting and its range"
    if "tcp://" in sentence:
        remedy = "Kubernetes set it for a service of that name: enableServiceLinks: false in the pod's spec"
    yield "settings", lambda: [wrong("settings", sentence, remedy)]
    for name, look in unsettled(environment):
        yield name, _guarded(name, look)
    for name in ("broker", *_OF_BROKER, "store", "redis"):
        yield name, lambda name=name: [unsure(name, "the settings must be right first")]  # type: ignore[misc]
