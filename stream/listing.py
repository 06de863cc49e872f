"""What `stream models list` and `stream models show` say: the store, the rollout, and what happened to each version."""

from collections.abc import Callable, Iterable, Sequence
from typing import Final, NamedTuple

from pydantic import TypeAdapter, ValidationError

from schemas import (
    CandidateDropped,
    ChallengerStarted,
    Figures,
    GateDecided,
    ModelEvent,
    ModelRefused,
    ModelRollout,
    ModelSwapped,
    QualityMeasured,
    RolledBack,
    UpdateStarted,
)
from stream.errors import ArtifactError, StoreError, StreamError
from stream.models.artifacts import Manifest, RiskManifest, read_manifest, read_risk_manifest
from stream.models.dkt import KNOWLEDGE
from stream.models.risk import RISK
from stream.models.store import Store
from stream.settings import Settings
from stream.transport.rollout import current, read_whole

_EVENT: TypeAdapter[ModelEvent] = TypeAdapter(ModelEvent)


_READERS: Final[dict[str, Callable[[Store, str], Manifest | RiskManifest]]] = {
    KNOWLEDGE: read_manifest,
    RISK: read_risk_manifest,
}


class Known(NamedTuple):
    """
    All that is known of a model's versions.

    Attributes:
        name: The model's.
        manifests: Of the versions in the store, or why one cannot be used.
        rollout: What should serve; None if nothing was ever announced.
        events: What happened, the oldest first.
    """

    name: str
    manifests: dict[int, Manifest | RiskManifest | StreamError]
    rollout: ModelRollout | None
    events: Sequence[ModelEvent]


def known(settings: Settings, names: Sequence[str]) -> list[Known]:
    """
    Return it of each of some models, from the store and the broker.

    Raises:
        UserError: If the broker cannot be reached.
    """
    store = Store(settings.model_store)
    events: dict[bytes, list[ModelEvent]] = {name.encode(): [] for name in names}

    def take(_topic: str, key: bytes, value: bytes, _at: float) -> None:
        if key in events:
            try:
                events[key].append(_EVENT.validate_json(value))
            except ValidationError:
                return  # of another release of ours: what it says is not known here

    read_whole(settings, ("model-events",), take)
    return [Known(name, _manifests(store, name), current(settings, name), events[name.encode()]) for name in names]


def _manifests(store: Store, name: str) -> dict[int, Manifest | RiskManifest | StreamError]:
    found: dict[int, Manifest | RiskManifest | StreamError] = {}
    for version in store.versions(name):
        try:
            found[version] = _READERS[name](store, store.folder_of(name, version))
        except (ArtifactError, StoreError) as error:
            found[version] = error
    return found


def versions_of(about: Known) -> list[int]:
    """Return every version that is in the store, or of which something was told."""
    return sorted({*about.manifests, *(v for e in about.events if (v := _subject(e)) is not None)})


def listed(about: Known) -> list[str]:
    """Return a line for each version: what it learned from, the part that it plays, and what the gate decided."""
    lines = [_line(version, about) for version in versions_of(about)]
    if about.rollout is None or about.rollout.champion is None:
        lines.append(f"no version of {about.name} is announced: the fallback serves")
    return lines


def shown(about: Known, version: int | None) -> list[str]:
    """Return what is live and how good it is; or, of one version, its figures and all that happened to it."""
    if version is None:
        return _live(about)
    manifest = about.manifests.get(version)
    lines = [_line(version, about)]
    if isinstance(manifest, Manifest):
        lines.append(f"  state format {manifest.state_format}, {len(manifest.skills)} skills")
    elif isinstance(manifest, RiskManifest):
        known_of = f"{len(manifest.facts)} texts and {len(manifest.numbers)} numbers of enrolments"
        lines.append(f"  {manifest.serving} serves, {known_of}")
    if isinstance(manifest, Manifest | RiskManifest):
        lines += [f"  {name} {value:.6g}" for name, value in manifest.metrics.items()]
    lines += [f"  {event.at:%Y-%m-%d %H:%M:%S} {_told(event)}" for event in about.events if _subject(event) == version]
    return lines


def _live(about: Known) -> list[str]:
    rollout = about.rollout
    champion = rollout.champion if rollout is not None else None
    lines = [f"champion: {_named(champion.version if champion else None)}"]
    if rollout is not None and rollout.previous is not None:
        lines.append(f"before it: {_named(rollout.previous.version)}")
    if rollout is not None and rollout.challenger is not None:
        share = f"serves {rollout.challenger_share:.0%} of the users" if rollout.challenger_share else "only predicts"
        lines.append(f"on trial: {_named(rollout.challenger.version)}, which {share}")
    measured = [event for event in about.events if isinstance(event, QualityMeasured)]
    if measured:
        quality = measured[-1]
        lines.append(f"{quality.at:%Y-%m-%d %H:%M:%S}, over the latest that were judged:")
        rows = {"all": quality.overall, "fallback": quality.fallback}
        rows |= {f"version {name}": figures for name, figures in quality.versions.items()} | quality.slices
        lines += [f"  {name}: {_figures(figures)}" for name, figures in rows.items()]
    return lines


def _line(version: int, about: Known) -> str:
    manifest = about.manifests.get(version)
    match manifest:
        case Manifest():
            what = f"{manifest.trained_on.answers} answers of {manifest.trained_on.users} users"
        case RiskManifest():
            of = manifest.trained_on
            what = f"{of.weeks} weeks of {of.users} users, {of.at_risk:.0%} at risk"
        case StreamError():
            what = f"cannot be used: {manifest}"
        case _:
            what = "no longer in the store"
    of_it = [event for event in about.events if _subject(event) == version]
    told = next((_told(event) for event in reversed(of_it) if isinstance(event, _DECISIVE)), None)
    part = _part(version, about.rollout)
    return f"{about.name} version {version}: {what}" + (f"; {told}" if told else "") + (f"  <- {part}" if part else "")


_DECISIVE = (GateDecided, RolledBack, CandidateDropped, ModelRefused)


def _part(version: int, rollout: ModelRollout | None) -> str | None:
    """Return the part that a version plays."""
    if rollout is None:
        return None
    parts = {"champion": rollout.champion, "on trial": rollout.challenger, "before it": rollout.previous}
    return next((part for part, release in parts.items() if release is not None and release.version == version), None)


def _subject(event: ModelEvent) -> int | None:
    """Return the version that an event is about."""
    match event:
        case GateDecided() | ChallengerStarted() | CandidateDropped() | UpdateStarted():
            return event.candidate_version
        case RolledBack() | ModelSwapped() | ModelRefused():
            return event.version
        case _:
            return None


def _told(event: ModelEvent) -> str:
    """Return an event as a part of a sentence."""
    match event:
        case GateDecided():
            verdict = "promoted" if event.promoted else "kept out"
            before, after = event.champion.logloss, event.candidate.logloss
            text = (
                f"{verdict}: {event.reason} (log loss {after:.4f}, {_named(event.champion_version)} {before:.4f}, "
                f"{event.candidate.n} predictions of {event.users} users)"
            )
        case RolledBack():
            text = f"rolled back to {_named(event.to_version)}: {event.reason}"
        case CandidateDropped():
            text = f"dropped: {event.reason}"
        case ModelRefused():
            text = f"refused by {event.worker}: {event.reason}"
        case ChallengerStarted():
            text = f"on trial against {_named(event.champion_version)}, share {event.share:.0%}"
        case UpdateStarted():
            text = f"an update began on {event.answers} examples ({event.trigger})"
        case ModelSwapped():
            text = f"live in {event.worker}, before it {_named(event.previous)}"
        case _:
            text = event.type
    return text


def _named(version: int | None) -> str:
    return "the fallback" if version is None else f"version {version}"


def _figures(figures: Figures) -> str:
    parts: Iterable[tuple[str, float | None]] = (
        ("log loss", figures.logloss), ("AUC", figures.auc), ("calibration error", figures.ece),
        ("time error s", figures.time_mae_seconds), ("at risk", figures.base_rate), ("mean score", figures.mean_score),
        ("false positives", figures.fpr), ("false negatives", figures.fnr),
    )  # fmt: skip
    return f"{figures.n} predictions, " + ", ".join(f"{name} {value:.4f}" for name, value in parts if value is not None)
