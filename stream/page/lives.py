"""
What became of the models: what serves, what is on trial or being trained, and a line for each thing that happened.

Pure: announcements and events in, as decoded JSON; a worker announces each swap for itself, which is one line here.
"""

from collections import deque
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, NamedTuple

from stream.page.shape import Entry, GateFigures, Json, Learning, Model, Swap, Trial

MOST_ENTRIES: Final = 40
MOST_SWAPS: Final = 100
LEARNING_S: Final = 3_600.0
"""After which an update is taken for lost, with its trainer: it tells when it ends, and ends within minutes."""


def moment(text: str) -> float:
    """Return a moment of RFC 3339 in seconds since the epoch."""
    return datetime.fromisoformat(text).timestamp()


class _Rollout(NamedTuple):
    """What should be, as it was announced; 0 is the fallback, and no challenger."""

    decided_at: float
    champion: int
    challenger: int
    share: float


class Life:
    """
    One model's.

    Args:
        name: The model's.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._entries: deque[Entry] = deque(maxlen=MOST_ENTRIES)
        self._swaps: deque[tuple[Swap, set[str]]] = deque(maxlen=MOST_SWAPS)
        self._rollout: _Rollout | None = None
        self._trials: dict[int, float] = {}
        self._learning: Learning | None = None

    @property
    def swaps(self) -> list[Swap]:
        """When another version went live, the oldest first."""
        return [swap for swap, _ in self._swaps]

    def announced(self, rollout: Json) -> None:
        """Take note of what should be; an older announcement changes nothing."""
        champion, challenger = rollout["champion"], rollout["challenger"]
        found = _Rollout(
            moment(rollout["decided_at"]), champion["version"] if champion else 0,
            challenger["version"] if challenger else 0, float(rollout["challenger_share"]),
        )  # fmt: skip
        if self._rollout is None or found.decided_at >= self._rollout.decided_at:
            self._rollout = found

    def happened(self, event: Json) -> None:
        """Take note of an event; of those that are no line of a timeline nothing is kept."""
        at = moment(event["at"])
        match event["type"]:
            case "model_swapped":
                self._swapped(event, at)
            case "model_refused":
                self._add(at, "refused", event["version"], reason=event["reason"])
            case "update_started":
                self._update_started(event, at)
            case "challenger_started":
                version = event["candidate_version"]
                self._trials = {version: at}
                self._ended(version)
                self._add(at, "challenger_started", version, event["champion_version"], share=event["share"])
            case "gate_decided":
                self._decided(event, at)
            case "candidate_dropped":
                self._ended(event["candidate_version"])
                self._add(at, "candidate_dropped", event["candidate_version"], reason=event["reason"])
            case "rolled_back":
                # Below 0: what was taken back had become worse by so much.
                self._add(at, "rolled_back", event["version"], event["to_version"],
                          reason=event["reason"], gain=-event["worsened"])  # fmt: skip
            case "drift_detected":
                said = {name: event[name] for name in ("subject", "before", "after")}
                self._add(at, "drift", None, reason=_drift_in_words(event), **said)
            case _:
                pass

    def state(self, now: float) -> Model:
        """Return what the page shows of it."""
        learning = self._learning
        if learning is not None and now - learning["since"] > LEARNING_S:
            learning = None
        return {
            "name": self._name,
            "serving": self._serving(),
            "trial": self._trial(),
            "learning": learning,
            "timeline": list(self._entries),
        }

    def _serving(self) -> int:
        """
        Return what serves: what workers said last, or what is announced if they said nothing for weeks.

        That the fallback should serve holds at once: it is always there, and who begins with it tells nothing.
        """
        if self._rollout is not None and not self._rollout.champion:
            return 0
        if self._swaps:
            return self._swaps[-1][0]["version"] or 0
        return self._rollout.champion if self._rollout else 0

    def _trial(self) -> Trial | None:
        rollout = self._rollout
        if rollout is None or not rollout.challenger:
            return None
        since = self._trials.get(rollout.challenger) or rollout.decided_at
        return {"version": rollout.challenger, "share": rollout.share, "since": since}

    def _swapped(self, event: Json, at: float) -> None:
        """
        Add a line for a swap, unless it is one that another worker has told of already.

        A worker that comes late goes through the same versions again: each swap of its own is looked for behind the
        latest line that it was part of.
        """
        version, previous, worker = event["version"], event["previous"], event["worker"]
        behind: list[tuple[Swap, set[str]]] = []
        for told in reversed(self._swaps):
            if worker in told[1]:
                break
            behind.append(told)
        for swap, workers in reversed(behind):
            if swap["version"] == version:
                workers.add(worker)
                return
        # A worker that has just started had the fallback before: what served before is what the others had.
        served = self._swaps[-1][0]["version"] if self._swaps else previous
        self._swaps.append(({"at": at, "model": self._name, "version": version, "previous": served}, {worker}))
        self._add(at, "swapped", version, served, previous=served)

    def _update_started(self, event: Json, at: float) -> None:
        version, answers, trigger = event["candidate_version"], event["answers"], event["trigger"]
        self._learning = {"version": version, "since": at, "answers": answers, "trigger": trigger}
        self._add(at, "update_started", version, answers=answers, trigger=trigger)

    def _decided(self, event: Json, at: float) -> None:
        what = "promoted" if event["promoted"] else "kept_out"
        figures = {name: _figures(event[name]) for name in ("candidate", "champion", "fallback")}
        self._add(at, what, event["candidate_version"], event["champion_version"], reason=event["reason"],
                  gain=event["gain"], needed=event["needed"], users=event["users"], figures=figures)  # fmt: skip

    def _ended(self, version: int) -> None:
        """Take note that a version is not being trained any more."""
        if self._learning is not None and self._learning["version"] <= version:
            self._learning = None

    def _add(self, at: float, what: str, version: int | None, against: int | None = None, **more: Any) -> None:  # noqa: ANN401
        entry: Any = {
            "at": at, "what": what, "version": version, "against": against, "reason": None, "gain": None,
            "needed": None, "users": None, "figures": None,
        }  # fmt: skip
        self._entries.append(entry | more)


def _figures(figures: Mapping[str, Any]) -> GateFigures:
    return {
        "n": figures["n"], "auc": figures.get("auc"), "logloss": figures["logloss"], "ece": figures["ece"],
        "time_error_s": figures.get("time_mae_seconds"),
    }  # fmt: skip


def _drift_in_words(event: Json) -> str:
    subject = "log loss" if event["kind"] == "loss" else event["subject"].replace("_", " ")
    return f"{subject} went from {event['before']:.4g} to {event['after']:.4g}"
