"""What is to be said of clocks, Redis, models and ports. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final, Literal

from stream.doctor.findings import Finding, counted, listed, ok, unsure, wrong

_APART_S: Final = 5.0
"""Clocks that differ by less disturb nothing: latencies are told in seconds."""

_FRESH_S: Final = 60.0
"""A record that is no older tells that our clock is not far ahead."""

_OLDEST_REDIS: Final = (4, 0)
"""HSET takes several fields since then."""

_NEARLY_FULL: Final = 0.9
_SLOW_S: Final = 0.5
_SYNCHRONISE: Final = "run a time service (chrony, systemd-timesyncd) on this machine, and on the other"


@dataclass(frozen=True, slots=True)
class Times:
    """
    What is known of others' clocks, seconds since the epoch.

    Attributes:
        now: By ours.
        redis: Redis's now; None without one.
        newest: The latest timestamp on topics, and who set it, by topic.
    """

    now: float
    redis: float | None = None
    newest: Mapping[str, tuple[float, str]] = field(default_factory=dict)


def judge_clock(times: Times) -> list[Finding]:
    """Return what is to be said of our clock: Kafka itself does not tell the time, what stands on it tells some."""
    findings = []
    if times.redis is not None and abs(times.redis - times.now) > _APART_S:
        findings.append(
            wrong("clock", f"ours is {_apart(times.now - times.redis)} Redis's", _SYNCHRONISE),
        )
    ahead = {topic: at for topic, at in times.newest.items() if at[0] > times.now + _APART_S}
    if ahead:
        topic, (at, who) = max(ahead.items(), key=lambda each: each[1][0])
        findings.append(
            wrong(
                "clock",
                f"ours is {_apart(times.now - at)} the latest record of {topic}, whose time {who} set",
                _SYNCHRONISE,
            )
        )
    if findings:
        return findings
    agree = f"Redis's is {abs(times.redis - times.now):.1f} s from it" if times.redis is not None else ""
    latest = max((at for at, _ in times.newest.values()), default=None)
    if latest is not None and times.now - latest < _FRESH_S:
        agree = agree or f"the latest record is {max(times.now - latest, 0):.0f} s old"
    shown = f"ours says {datetime.fromtimestamp(times.now, UTC):%Y-%m-%d %H:%M:%S} UTC"
    if agree:
        return [ok("clock", f"{shown}; {agree}")]
    why = "no record shows it" if latest is None else f"the latest record is {_ago(times.now - latest)} old"
    return [
        unsure("clock", f"{shown}; Kafka does not tell its own, and {why}", "compare it with a clock that is right")
    ]


def _apart(seconds: float) -> str:
    """Return how far a clock is ahead of another, or behind it."""
    return f"{_ago(abs(seconds))} {'ahead of' if seconds > 0 else 'behind'}"


def _ago(seconds: float) -> str:
    for unit, size in (("days", 86_400), ("hours", 3_600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


@dataclass(frozen=True, slots=True)
class RedisFound:
    """
    What Redis says of itself.

    Attributes:
        version: Its.
        role: `master`, or `slave`, which takes no writes.
        policy: What it does when memory is full.
        used_bytes: Memory that is used.
        most_bytes: Memory that it may use; 0 for no limit.
        latency_s: How long it takes to answer.
    """

    version: str
    role: str
    policy: str
    used_bytes: int
    most_bytes: int
    latency_s: float


def judge_redis(found: RedisFound) -> list[Finding]:
    """Return what is to be said of a Redis that answers."""
    findings = []
    if tuple(int(part) for part in found.version.split(".")[:2] if part.isdigit()) < _OLDEST_REDIS:
        findings.append(
            wrong("redis", f"expected Redis 4.0 or later, found {found.version}: writes are refused", "update Redis")
        )
    if found.role == "slave":
        findings.append(wrong("redis", "it is a replica, which takes no writes", "name its master in STREAM_REDIS_URL"))
    share = found.used_bytes / found.most_bytes if found.most_bytes else 0.0
    if share > _NEARLY_FULL and not found.policy.startswith("allkeys"):
        findings.append(
            wrong(
                "redis",
                f"{share:.0%} of its memory is used, and maxmemory-policy={found.policy} will refuse writes",
                "redis-cli config set maxmemory-policy allkeys-lru, or raise maxmemory",
            )
        )
    if found.latency_s > _SLOW_S:
        findings.append(
            wrong(
                "redis", f"it takes {found.latency_s:.1f} s to answer", "redis-cli --latency says more; bring it nearer"
            )
        )
    if findings:
        return findings
    return [ok("redis", f"version {found.version} answers in {found.latency_s * 1_000:.1f} ms, policy {found.policy}")]


@dataclass(frozen=True, slots=True)
class Announced:
    """
    A version that is announced, and what became of loading it here.

    Attributes:
        name: The model's.
        version: Its.
        part: `champion`, `challenger`, or `previous`, to which a rollback goes back.
        problem: Why it cannot be used; empty if it can.
    """

    name: str
    version: int
    part: str
    problem: str = ""


_SO: Final = {
    "champion": "workers go on with what they have, and new ones with the fallback",
    "challenger": "it is not on trial",
    "previous": "a rollback cannot go back to it",
}


def judge_models(names: Sequence[str], announced: Sequence[Announced]) -> list[Finding]:
    """Return what is to be said of the models that are announced."""
    findings = [
        wrong(
            "models",
            f"{each.name} version {each.version} ({each.part}) cannot be used, so {_SO[each.part]}: {each.problem}",
            _other_version(each),
        )
        for each in announced
        if each.problem
    ]
    if findings:
        return findings
    serving = {each.name: each for each in announced if each.part == "champion"}
    said = [
        f"{name} version {serving[name].version} loads" if name in serving else f"{name}: the fallback serves"
        for name in names
    ]
    others = len(announced) - len(serving)
    return [ok("models", "; ".join(said) + (f"; {others} more that are announced load" if others else ""))]


def _other_version(each: Announced) -> str:
    if each.part == "champion":
        return f"put the artifact back, or: stream models rollback --model {each.name}"
    if each.part == "challenger":
        return f"put the artifact back, or take another: stream models learn-now --model {each.name}"
    return f"put the artifact back; stream models list --model {each.name} shows the others"


Folder = Literal["none", "here", "absent", "file"]
"""What a store is on this machine: nothing, as a URL reaches it; a folder; one yet to be made; or no folder at all."""


def judge_store(place: str, versions: Mapping[str, int], folder: Folder, elsewhere: Sequence[str]) -> list[Finding]:
    """
    Return what is to be said of a store of models that can be listed.

    Args:
        place: Its.
        versions: How many it holds, by model.
        folder: What it is on this machine.
        elsewhere: Other machines on which workers or trainer run.
    """
    if folder == "file":
        return [wrong("store", f"{place} is a file", "name a folder or a URL: export STREAM_MODEL_STORE=...")]
    if folder == "absent":
        return [
            unsure(
                "store", f"there is no folder {place}: the trainer makes it, unless models are elsewhere already",
                "export STREAM_MODEL_STORE=..., if there are any",
            )
        ]  # fmt: skip
    held = ", ".join(f"{name} {count}" for name, count in versions.items())
    if folder == "here" and elsewhere:
        return [
            unsure(
                "store",
                f"{place} is a folder here, but workers or trainer run on {listed(list(elsewhere))}: whether they see "
                "the same one cannot be told from here",
                "share the folder, or have all use a URL: export STREAM_MODEL_STORE=s3://bucket/models",
            )
        ]
    return [ok("store", f"{place} can be read; versions: {held}")]


@dataclass(frozen=True, slots=True)
class Answer:
    """
    What a port answered.

    Attributes:
        status: HTTP's; 0 where nothing answers.
        text: The first line of it.
    """

    status: int
    text: str


def judge_port(name: str, address: str, answers: Mapping[str, Answer], command: str) -> list[Finding]:
    """
    Return what is to be said of a process by its port.

    Args:
        name: Of the check.
        address: `host:port`.
        answers: By path, such as `/healthz`.
        command: What starts it.
    """
    if not any(answer.status for answer in answers.values()):
        return [
            unsure(
                name, f"nothing answers on {address}: none runs here, or with another port",
                f"{command}, if one is to run here",
            )
        ]  # fmt: skip
    findings = []
    for path, answer in answers.items():
        if answer.status == _UNAVAILABLE:
            findings.append(
                wrong(
                    name,
                    f"http://{address}{path} says: {answer.text}",
                    f"read its log; restart {command} if it stays so",
                )
            )
        elif (answer.status, answer.text) not in _HEALTHY:
            findings.append(
                unsure(
                    name,
                    f"http://{address}{path} answers {answer.status} {answer.text!r}: something else listens there",
                )
            )
    said = " and ".join(f"{path} {answer.text}" for path, answer in answers.items())
    return findings or [ok(name, f"{address} says {said}")]


_UNAVAILABLE: Final = 503
_HEALTHY: Final = ((200, "ok"), (200, "ready"))


def judge_refused(name: str, what: str, problems: Mapping[str, str], remedy: str) -> list[Finding]:
    """Return that something cannot be reached: of each place why."""
    said = "; ".join(f"{place}: {why}" for place, why in problems.items())
    return [wrong(name, f"{what} ({counted(len(problems), 'address', 'addresses')} tried): {said}", remedy)]
