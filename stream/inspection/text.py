"""What is known of a user, as lines to read. Pure."""

from collections.abc import Callable
from datetime import datetime
from typing import Final

from stream.inspection.portrait import Portrait

_REMEMBERED_SHOWN: Final = 10
_CONCEPTS_SHOWN: Final = 8
_TARGETS_SHOWN: Final = 3
_NOT_WHOLE: Final = "may be older: not all was read in time"


def shown(found: Portrait) -> list[str]:
    """Return what is known of a user as lines to read."""
    # Ids and names are whatever senders wrote: a terminal must not obey them.
    return ["".join(c if c.isprintable() else "\ufffd" for c in line) for line in _lines(found)]


def _lines(found: Portrait) -> list[str]:
    lines = [f"user {found['user_id']}, partition {found['partition']} of {found['partitions']}"]
    sizes = ", ".join(f"{table} {size:,} bytes" for table, size in found["size_bytes"].items())
    seen = ", ".join(f"{topic} {offset}" for topic, offset in found["seen"].items() if offset is not None)
    lines += [_line("stored", sizes), _line("seen up to", seen or "nothing")]
    if found["erased"]:
        return [*lines, _line("history", "erased: nothing is kept but what has been seen")]
    history = found["history"]
    answers = f"{_rate(history)}; {history['views']} views, {history['feedback']} feedback"
    lines.append(_line("history", answers))
    lines += [_line("", f"{name}: {_rate(of)}") for name, of in history["by_difficulty"].items()]
    lines.append(_line("last seen", _short(history["last_at"])))
    for name in ("ability", "speed"):
        belief = found[name]
        lines.append(_line(name, f"{belief['mean']:+.2f} ± {belief['deviation']:.2f}"))
    lines.append(_line("hidden state", _told_hidden(found["hidden"])))
    lines += [_line("", _NOT_WHOLE)] if found["hidden"] and not found["hidden"]["whole"] else []
    for name in ("topics", "skills"):
        concepts = found[name]
        lines += _block(name, [f"{c['name']}: {_rate(c)}" for c in concepts[:_CONCEPTS_SHOWN]])
    remembered = found["remembered"][-_REMEMBERED_SHOWN:]
    lines += _block(f"answers (latest {len(remembered)} of {len(found['remembered'])})", [
        f"{_short(a['at'])} {'right' if a['correct'] else 'wrong'} {a['skill']}"
        + (f", about {_rough(a['seconds'])} s" if a["seconds"] is not None else "")
        for a in reversed(remembered)
    ])  # fmt: skip
    lines += _told_academics(found["academics"])
    return lines + _told_predictions(found["predictions"])


def _line(name: str, value: str) -> str:
    return f"  {name:<13}{value}"


def _block(name: str, lines: list[str]) -> list[str]:
    return [f"  {name}", *(f"    {line}" for line in lines)] if lines else []


def _rate(of: Portrait) -> str:
    """Return how many answers there were, how many were right, and how long they took."""
    answers = f"{of['answers']:,} answer{'' if of['answers'] == 1 else 's'}"
    right = "" if of["correct_share"] is None else f", {of['correct_share']:.0%} right"
    return answers + right + ("" if of["mean_seconds"] is None else f", {of['mean_seconds']:.0f} s each")


def _rough(seconds: float) -> str:
    """Return a remembered time to what its stored form is good for: a few percent."""
    return f"{seconds:.1f}" if seconds < 10 else f"{seconds:,.0f}"  # noqa: PLR2004 (two digits)


def _short(at: str | None) -> str:
    return "never" if at is None else f"{datetime.fromisoformat(at):%Y-%m-%d %H:%M:%S} UTC"


def _told_hidden(hidden: Portrait | None) -> str:
    if hidden is None:
        return "none: rebuilt from the remembered answers when a network serves"
    if hidden["format"] is None and not hidden["whole"]:
        return f"of a model that was not found ({hidden['tag']})"
    if hidden["format"] is None:
        return f"of a model that is no longer announced ({hidden['tag']}): rebuilt when the user next answers"
    return f"of {hidden['format']}, which knowledge version {hidden['version']} reads"


def _told_academics(academics: Portrait | None) -> list[str]:
    if academics is None:
        return [_line("academics", "nothing")]
    outcome = f", outcome {academics['outcome']}" if academics["outcome"] else ""
    lines = [_line("academics", f"{academics['events']} events, last {_short(academics['last_at'])}{outcome}")]
    lines += [_line("", fact) for fact in academics["enrolment"]]
    weeks = [(week["monday"], week) for week in academics["weeks"]]
    for name, of in [*([("before", academics["before"])] if academics["before"] else []), *weeks]:
        said = ", ".join(f"{what.replace('_', ' ')} {count:g}" for what, count in of.items() if what != "monday")
        lines.append(f"    {name}: {said}")
    return lines


def _told_predictions(predictions: Portrait) -> list[str]:
    how = "the latest" if predictions["whole"] else _NOT_WHOLE
    lines = [_line("predictions", f"{how}, from {predictions['from']}")]
    for kind, said in _SAYINGS.items():
        found = predictions[kind]
        if found is None:
            lines.append(f"    {kind}: none found")
            continue
        model = found["model"]
        by = "the fallback" if found["fallback"] else f"{model['name']} version {model['version']}"
        as_of = found.get("as_of")
        when = f"as of {_short(as_of)}" if as_of else _short(found["produced_at"])
        lines += [f"    {kind} by {by}, {when}", f"      {said(found)}"]
    return lines


def _target(target: Portrait) -> str:
    of = [target["topic_id"], target.get("item_id"), target.get("difficulty")]
    return "/".join(part for part in of if part)


def _of_correctness(found: Portrait) -> str:
    return ", ".join(f"{_target(of)} {of['p_correct']:.0%}" for of in found["targets"][:_TARGETS_SHOWN])


def _of_time(found: Portrait) -> str:
    return ", ".join(f"{_target(of)} {of['p50']:.0f} s" for of in found["targets"][:_TARGETS_SHOWN])


def _of_risk(found: Portrait) -> str:
    factors = "".join(f", {f['feature']} {f['contribution']:+.2f}" for f in found["factors"][:_TARGETS_SHOWN])
    return f"{found['category']} ({found['score']:.2f}){factors}"


_SAYINGS: Final[dict[str, Callable[[Portrait], str]]] = {
    "correctness": _of_correctness,
    "time": _of_time,
    "risk": _of_risk,
}
