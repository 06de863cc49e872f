"""What is to be said of settings, of the environment that they come from, and of what is installed. Pure."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Final

from stream.doctor.findings import Finding, counted, listed, ok, unsure, wrong
from stream.settings import SECRETS, Settings

PREFIX: Final = "STREAM_"

_OPEN: Final = ("0.0.0.0", "::", "")  # noqa: S104 (looked for, not listened on)
_INJECTED: Final = re.compile(r"_SERVICE_(HOST|PORT\w*)$|_PORT(_\d+_(TCP|UDP)\w*)?$")
_OTHERS: Final = frozenset({"STREAM_REQUIRE_BROKER"})
"""Variables of ours that are no settings: the tests'."""

_SHORT_KEY: Final = 16
"""Characters of a pseudonym key below which it can be guessed."""

_SASL: Final = ("sasl_username", "sasl_password")
_SSL: Final = ("ssl_ca_file", "ssl_cert_file", "ssl_key_file")


def judge_environment(environment: Mapping[str, str]) -> list[Finding]:
    """Return what is to be said of `STREAM_*` variables that are no settings: typing errors, most likely."""
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    given = [name for name in environment if name.upper().startswith(PREFIX)]
    findings = []
    for name in sorted(name for name in given if name.upper() not in known | _OTHERS):
        if _is_injected(name, environment[name]):
            continue
        near = get_close_matches(name.upper(), known, n=1, cutoff=0.75)
        if near:
            findings.append(
                wrong(
                    "environment", f"{name} is no setting, and does nothing; expected {near[0]}?",
                    f'unset {name}; export {near[0]}="..."',
                )
            )  # fmt: skip
        else:
            findings.append(
                unsure("environment", f"{name} is no setting of ours, and does nothing", f"unset {name} if it was one")
            )
    if findings:
        return findings
    used = sorted({name.upper() for name in given} & known)
    shown = f": {listed(used, 6)}" if used else ""
    return [ok("environment", f"{counted(len(used), 'setting')} given by {PREFIX}* variables{shown}")]


def _is_injected(name: str, value: str) -> bool:
    """Return whether Kubernetes may have set a variable for a service whose name begins with `stream`."""
    return bool(_INJECTED.search(name)) and ("://" in value or "_SERVICE_" in name or "_TCP" in name)


def judge_settings(settings: Settings) -> list[Finding]:
    """Return the contradictions among settings that each are right by themselves."""
    findings = [*_contradictions(settings), *_open_hosts(settings)]
    if not findings:
        findings.append(ok("settings", f"each is in its range, and none contradicts another; {_in_short(settings)}"))
    return findings


def _in_short(settings: Settings) -> str:
    return f"group {settings.group}, {counted(settings.partitions, 'partition')}, {settings.guarantee}"


def _contradictions(settings: Settings) -> Iterable[Finding]:
    def contradiction(found: str, remedy: str) -> Finding:
        return wrong("settings", found, remedy)

    session_ms = settings.session_timeout_s * 1_000
    if settings.fetch_max_wait_ms >= session_ms:
        yield contradiction(
            f"STREAM_FETCH_MAX_WAIT_MS={settings.fetch_max_wait_ms} is no shorter than a session of {session_ms:.0f} "
            "ms: a rebalance waits for it, and the worker is given up meanwhile",
            "export STREAM_FETCH_MAX_WAIT_MS=100",
        )
    if settings.stalled_after_s <= settings.session_timeout_s:
        yield contradiction(
            f"STREAM_STALLED_AFTER_S={settings.stalled_after_s:g} is not above STREAM_SESSION_TIMEOUT_S="
            f"{settings.session_timeout_s:g}: a worker that waits for a dead one's partitions would be called stalled",
            f"export STREAM_STALLED_AFTER_S={max(60.0, 3 * settings.session_timeout_s):g}",
        )
    if settings.gate_every > settings.gate_budget:
        yield contradiction(
            f"STREAM_GATE_EVERY={settings.gate_every} is above STREAM_GATE_BUDGET={settings.gate_budget}: candidates "
            "are given up before the gate has looked at them",
            f"export STREAM_GATE_EVERY={min(250, settings.gate_budget)}",
        )
    if settings.buffer.absolute() == settings.risk_examples.absolute():
        yield contradiction(
            f"STREAM_BUFFER and STREAM_RISK_EXAMPLES are the same file, {settings.buffer}",
            "unset STREAM_RISK_EXAMPLES",
        )
    for fields, protocol in ((_SASL, "SASL"), (_SSL, "SSL")):
        unused = [PREFIX + name.upper() for name in fields if getattr(settings, name) is not None]
        if unused and protocol not in settings.security_protocol:
            yield contradiction(
                f"{' and '.join(unused)} {'is' if len(unused) == 1 else 'are'} set, but STREAM_SECURITY_PROTOCOL="
                f"{settings.security_protocol} does not use {protocol}",
                f"export STREAM_SECURITY_PROTOCOL={_protocol(settings)}",
            )
    for name in ("pseudonym_key", "pseudonym_previous_key"):
        key = getattr(settings, name)
        if key is not None and len(key.get_secret_value()) < _SHORT_KEY:
            yield contradiction(
                f"{PREFIX}{name.upper()} has fewer than {_SHORT_KEY} characters: who has a list of users can guess it",
                "openssl rand -hex 32 makes one; change it as docs/adapters.md says, or users change their names",
            )


def _protocol(settings: Settings) -> str:
    """Return the protocol that all that is set would fit."""
    is_sasl = any(getattr(settings, name) is not None for name in _SASL) or "SASL" in settings.security_protocol
    is_ssl = any(getattr(settings, name) is not None for name in _SSL) or "SSL" in settings.security_protocol
    security = "SSL" if is_ssl else "PLAINTEXT"
    return f"SASL_{security}" if is_sasl else security


def _open_hosts(settings: Settings) -> Iterable[Finding]:
    """Yield what listens on every address: whether it may, only the network's owner knows."""
    for name, what in (("metrics_host", "figures and health"), ("page_host", "users' ids and answers")):
        if getattr(settings, name) in _OPEN:
            yield unsure(
                "settings",
                f"{PREFIX}{name.upper()}={getattr(settings, name)} shows {what} to whoever reaches this machine; "
                "whether that is only you cannot be told from here",
                f"export {PREFIX}{name.upper()}=127.0.0.1, unless a firewall keeps others out",
            )


@dataclass(frozen=True, slots=True)
class Package:
    """
    A package that this one asks for.

    Attributes:
        name: Its.
        wanted: Versions that fit.
        found: The version that is installed; None if it is not.
        fits: Whether that is one of them.
        is_extra: Whether only the trainer asks for it.
    """

    name: str
    wanted: str
    found: str | None
    fits: bool
    is_extra: bool = False


def judge_versions(python: str, packages: list[Package], librdkafka: str, client: str) -> list[Finding]:
    """
    Return what is to be said of what is installed.

    Args:
        python: The interpreter's version.
        packages: What is asked for; none where nothing is known of what was installed.
        librdkafka: The version of the library.
        client: The version of confluent-kafka, which brings its own.
    """
    if not packages:
        return [unsure("versions", "learnerstream was not installed, but is run from its files", "pip install -e .")]
    has_torch = any(package.name == "torch" and package.found for package in packages)
    bad = [p for p in packages if not p.fits and (has_torch or not p.is_extra)]
    if bad:
        found = "; ".join(f"{p.name}: expected {p.wanted}, found {p.found or 'none'}" for p in bad)
        command = " ".join(f"'{p.name}{p.wanted}'" for p in bad)
        return [wrong("versions", found, f"pip install {command}")]
    if librdkafka.split(".")[:2] != client.split(".")[:2]:
        return [
            wrong(
                "versions",
                f"confluent-kafka {client} runs with librdkafka {librdkafka}, which is not the one that it brings",
                "pip install --force-reinstall --only-binary :all: confluent-kafka",
            )
        ]
    torch = next((p.found for p in packages if p.name == "torch" and p.found), None)
    trainer = f"torch {torch}" if torch else "no torch, which only the trainer needs"
    return [
        ok(
            "versions",
            f"Python {python}, {counted(len(packages), 'package')} in range, librdkafka {librdkafka}, {trainer}",
        )
    ]


def judge_files(places: Mapping[str, str], *, can_learn: bool) -> list[Finding]:
    """
    Return what is to be said of where the trainer writes.

    Args:
        places: Why a file of a setting cannot be written; empty where it can.
        can_learn: Whether torch is here, without which no trainer is.
    """
    if not can_learn:
        return [ok("files", "none is written here: no trainer runs without torch")]
    bad = {setting: why for setting, why in places.items() if why}
    if bad:
        return [
            wrong("files", f"{setting}: {why}", f"export {setting}=..., a place that the trainer may write to")
            for setting, why in bad.items()
        ]
    return [ok("files", f"the trainer may write where {' and '.join(places)} say")]


def without_secrets(sentence: str, settings: Settings) -> str:
    """Return a sentence of somebody else's, in which no secret of ours is left."""
    for name in SECRETS:
        secret = getattr(settings, name)
        if secret is not None and secret.get_secret_value():
            sentence = sentence.replace(secret.get_secret_value(), "...")
    return sentence
