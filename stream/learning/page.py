"""
An evaluation as a page, for people who would rather look: one HTML file, no scripts, nothing loaded from elsewhere.

Pure. What it shows is computed in `stream.learning.groups`; what is evaluated is `stream.learning.user_split`'s.
Lengths in drawings are in units of an SVG that is `_WIDTH` wide.
"""
# ruff: noqa: RUF001 (ranges are shown with en dashes)

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stream.learning.groups import Group, Timed, auc_interval, by_expected_time, by_history, by_skill, reliability
from stream.learning.history import History
from stream.learning.references import Prediction
from stream.models.lnirt import MIN_SECONDS

# ----------------------------------------------------------------------------------------------------------- page


def render(
    report: Mapping[str, Any],
    history: History,
    rows: NDArray[np.int64],
    said: Prediction,
    skill_names: Sequence[str],
    progress: Sequence[Mapping[str, float]],
) -> str:
    """
    Return the page.

    Args:
        report: As `evaluation.evaluate` makes it.
        history: Past answers.
        rows: Of those that were predicted, `(M,)`.
        said: What the model that serves said of every answer, `(N,)`.
        skill_names: Row `i + 1` of `history.skill_rows` is `skill_names[i]`.
        progress: Of each epoch of training `epoch`, `loss`, `logloss`, `auc` and `learning_rate`; may be empty.
    """
    assert said.p_correct is not None  # noqa: S101 (what serves says something of correctness)
    correct, p = history.correct[rows], said.p_correct[rows].astype(np.float64)
    sections = [
        _header(report),
        _key_figures(report, float(correct.mean())),
        _models(report),
        _reliability(reliability(correct, p)),
        _learners(by_history(history.began[rows], correct, p)),
    ]
    timed = rows[~np.isnan(history.response_time_s[rows])]
    if len(timed) and said.mu is not None and said.sigma is not None:
        seconds = history.response_time_s[timed].astype(np.float64)
        sections.append(_times(by_expected_time(seconds, said.mu[timed], said.sigma[timed])))
    if progress:
        sections.append(_training(progress))
    sections += [_skills(by_skill(history.skill_rows[rows], skill_names, correct, p)), _footer(report)]
    return _PAGE.format(title=escape(f"{report['file']} · evaluation"), style=_STYLE, body="\n".join(sections))


def _header(report: Mapping[str, Any]) -> str:
    users = report["users"]
    serving = _PLAIN.get(report["serving"], report["serving"])
    parts = "".join(
        f'<span class="{part}" style="flex-grow:{count}">{count:,} {_PARTS[part]}</span>'
        for part, count in users.items()
    )
    return (
        f'<header><p class="eyebrow">learnerstream · evaluation</p><h1>{escape(report["file"])}</h1>'
        f'<p class="lead">{report["n"]:,} answers of {users["test"]:,} users whom no model had met, each predicted '
        f"from what that user had answered before. The answers of {users['training']:,} other users trained the "
        f"models; those of {users['validation']:,} more said when to stop, and chose what serves: "
        f"<strong>{escape(serving)}</strong>.</p>"
        f'<div class="split" aria-hidden="true">{parts}</div></header>'
    )


_PARTS = {"training": "train", "validation": "validate", "test": "test"}

_PLAIN = {
    "knowledge": "the knowledge-tracing network",
    "lnirt": "LNIRT, the fallback that needs no training",
    "item_mean": "share of right answers to the item",
    "logistic": "logistic regression on counts",
    "boosting": "gradient boosting on the worker's features",
    "dkt": "plain recurrent network",
    "embedding_correctness": "network on embeddings, of right and wrong",
    "median": "median time of all answers",
    "item_median": "median time of the item",
    "item_median_user_speed": "median time of the item at the user's pace",
    "embedding_time": "network on embeddings, of time",
}


def _key_figures(report: Mapping[str, Any], share: float) -> str:
    found = report["models"][report["serving"]]
    constant = {
        "share": _percent(share),
        "logloss": f"{-sum(part * math.log(part) for part in (share, 1 - share) if part):.4f}",
        "brier": f"{share * (1 - share):.4f}",
    }
    tiles = "".join(
        f'<div class="tile"><h3>{name}</h3><p class="value">{show(found[key])}</p>'
        f"<p>{sentence.format(**constant)}</p></div>"
        for key, (name, show, sentence) in _TILES.items()
        if found[key] is not None
    )
    return _section("Key figures", f'<div class="tiles">{tiles}</div>', f"Of {_code(report['serving'])}, which serves.")


def _models(report: Mapping[str, Any]) -> str:
    models = {name: found for name, found in report["models"].items() if any(found[key] is not None for key in found)}
    columns = {key: each for key, each in _COLUMNS.items() if any(found[key] is not None for found in models.values())}
    best = {
        key: show(min((found[key] for found in models.values() if found[key] is not None), key=badness))
        for key, (_, show, badness) in columns.items()
    }
    rows = []
    for name, found in models.items():
        serves = ' <span class="badge">serves</span>' if name == report["serving"] else ""
        plain = f"<small>{escape(_PLAIN[name])}</small>" if name in _PLAIN else ""
        cells = {key: show(found[key]) for key, (_, show, _) in columns.items()}
        marked = (f"<strong>{cell}</strong>" if cell == best[key] else cell for key, cell in cells.items())
        rows.append((_code(name) + serves + plain, *marked))
    return _section(
        "All models",
        _table("Figures of all models", ("model", *(head for head, *_ in columns.values())), rows),
        "On the same answers. The best of a column is bold; of shares inside, the one nearest to 80%. A dash stands "
        "where a model says nothing.",
    )


def _reliability(groups: list[Group]) -> str:
    rows = [(each.name, f"{each.n:,}", *map(_percent, (each.p_correct, each.right)), _range(each)) for each in groups]
    head = ("said", "answers", "predicted", "right", "95% interval")
    return _section(
        "Does it mean what it says?",
        _pair(_draw_reliability(groups), _table("Answers by what was predicted", head, rows)),
        "Of the answers that were given 70%, about 70% should be right: dots on the dashed line. Bars show how many "
        "answers there were.",
    )


def _learners(groups: list[Group]) -> str:
    rows = [(escape(each.name), f"{each.n:,}", *map(_percent, (each.right, each.p_correct)), _four(each.logloss),
             _four(each.auc)) for each in groups]  # fmt: skip
    head = ("answer", "answers", "right", "predicted", "log loss", "AUC")
    return _section(
        "How soon does it know a user?",
        _pair(_draw_learners(groups), _table("Answers by how many the user had given before", head, rows)),
        "Before a user's first answer only the item and its skills are known, later the user too. The groups differ in "
        "their people as well, for not all answer as much; and log loss is low where most answers are alike.",
    )


def _times(groups: list[Timed]) -> str:
    rows = [("–".join(map(_short, each.span_s)) + " s", f"{each.n:,}", _seconds(each.expected_s),
             _seconds(each.observed_s), _percent(each.inside)) for each in groups]  # fmt: skip
    head = ("expected", "answers", "median predicted", "median taken", "inside 80%")
    return _section(
        "How long will it take?",
        _pair(_draw_times(groups), _table("Answers by expected response time", head, rows)),
        "Above: medians on the dashed line are right; a whisker holds the middle 80% of the times taken. Below: how "
        "many lay inside the 80% interval that was predicted for each.",
    )


def _training(progress: Sequence[Mapping[str, float]]) -> str:
    rows = [(str(int(each["epoch"])), *(_four(each[key]) for key in ("loss", "logloss", "auc")),
             f"{each['learning_rate']:.2g}") for each in progress]  # fmt: skip
    head = ("epoch", "training loss", "log loss", "AUC", "learning rate")
    return _section(
        "How the network was learned",
        _pair(_draw_training(progress), _table("Epochs of training", head, rows)),
        "Log loss and AUC are those of the validation users after each epoch; the best epoch's weights are kept. The "
        "training loss holds response times too and is not to be compared with them.",
    )


def _skills(groups: list[Group]) -> str:
    rows = [(escape(each.name), f"{each.n:,}", *map(_percent, (each.right, each.p_correct)), _draw_skill(each),
             _four(each.logloss), _four(each.auc)) for each in groups[:_MOST_SKILLS]]  # fmt: skip
    head = ("skill", "answers", "right", "predicted", "0–100%", "log loss", "AUC")
    rest = groups[_MOST_SKILLS:]
    more = f"<p>{len(rest):,} more skills with {sum(each.n for each in rest):,} answers are left out.</p>"
    return _section(
        "Skill by skill", _table("Skills, the one with most answers first", head, rows) + (more if rest else ""),
        f"{_OBSERVED} observed, with its 95% interval; {_PREDICTED} predicted. An answer with several skills counts "
        "for each.",
    )  # fmt: skip


_MOST_SKILLS = 50


def _footer(report: Mapping[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in report["versions"].items())
    return (
        f"<footer><p>Task {escape(report['task'])}, protocol {escape(report['protocol'])}, seed {report['seed']}, "
        f"{report['seconds']:,} seconds; {escape(versions)}.</p>"
        "<p>The 95% intervals take answers as independent; as those of one user are not, true ones are wider.</p>"
        f"<p>SHA-256 of the file: <code>{escape(report['digest'])}</code></p></footer>"
    )


# ---------------------------------------------------------------------------------------------------------- words


def _four(value: float | None) -> str:
    return "–" if value is None or math.isnan(value) else f"{value:.4f}"


def _seconds(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f} s"


def _percent(share: float | None) -> str:
    return "–" if share is None or math.isnan(share) else f"{100 * share:.1f}%"


def _short(value: float) -> str:
    return f"{value:.2g}" if value < 10 else f"{value:,.0f}"  # noqa: PLR2004 (two digits)


def _range(group: Group) -> str:
    return f"{100 * group.interval[0]:.1f}–{100 * group.interval[1]:.1f}%" if group.n else "–"


def _code(name: str) -> str:
    return f"<code>{escape(name).replace('_', '_<wbr>')}</code>"


# fmt: off
_TILES: dict[str, tuple[str, Callable[[float | None], str], str]] = {
    "auc": ("AUC", _four, (
        "How often, of a right and a wrong answer, the right one had been given the higher probability. 0.5 is "
        "guessing, 1 is perfect.")),
    "logloss": ("Log loss", _four, (
        "What confidence in the wrong outcome costs; 0 is perfect. To say {share}, the share of right answers, every "
        "time costs {logloss}.")),
    "brier": ("Brier score", _four, (
        "Mean squared distance between the probability and what came; 0 is perfect. To say {share} every time has "
        "{brier}.")),
    "ece": ("Calibration error", _percent, (
        "How far probabilities are from the shares of right answers, on average over ten bins.")),
    "time_mae_s_clipped_p99": ("Time error", _seconds, (
        "Mean distance between the median predicted and the time taken, both cut at the 99th percentile of training.")),
    "time_coverage_80": ("In the 80% interval", _percent, (
        "Response times between the 10% and the 90% quantile that were predicted. 80% would be right.")),
}
"""Of a key of the report: its name, how it is shown, and what it means."""

_COLUMNS: dict[str, tuple[str, Callable[[float | None], str], Callable[[float], float]]] = {
    "auc": ("AUC", _four, lambda value: -value),
    "logloss": ("log loss", _four, abs),
    "brier": ("Brier", _four, abs),
    "ece": ("calibration error", _four, abs),
    "time_mae_s": ("time error", _seconds, abs),
    "time_mae_s_clipped_p99": ("time error, clipped", _seconds, abs),
    "time_coverage_80": ("inside 80%", _percent, lambda value: abs(value - 0.8)),
}
"""Of the same: its heading, how it is shown, and what is least where it is best."""
# fmt: on


def _section(heading: str, content: str, note: str) -> str:
    return f'<section><h2>{heading}</h2><p class="note">{note}</p>{content}</section>'


def _pair(drawing: str, table: str) -> str:
    return f'<div class="pair"><figure>{drawing}</figure>{table}</div>'


def _table(caption: str, head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table of cells that are HTML already; the first of a row is its heading."""
    heads = "".join(f'<th scope="col">{name}</th>' for name in head)
    lines = (f'<tr><th scope="row">{first}</th>' + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"
             for first, *cells in rows)  # fmt: skip
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-label="{caption}"><table><caption>{caption}</caption>'
        f"<thead><tr>{heads}</tr></thead><tbody>{''.join(lines)}</tbody></table></div>"
    )


# ------------------------------------------------------------------------------------------------------- drawings

_WIDTH, _HEIGHT, _LEFT, _RIGHT = 400, 412, 44, 382


@dataclass(frozen=True, slots=True)
class _Scale:
    """From values to lengths, linear."""

    values: tuple[float, float]
    lengths: tuple[float, float]

    def __call__(self, value: float) -> float:
        (low, high), (start, end) = self.values, self.lengths
        return start + (end - start) * (value - low) / (high - low)


def _ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Return round values, about so many, the first at or below `low`, the last at or above `high`."""
    rough = max(high - low, 1e-3) / about
    power = 10 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * 0.999)
    first = math.floor(low / step + 1e-9)
    last = max(math.ceil(high / step - 1e-9), first + 1)
    return [round(step * number, 10) for number in range(first, last + 1)]


def _alike(ticks: Sequence[float]) -> Callable[[float], str]:
    """Return how ticks are shown: all with as many digits as one of them needs."""
    digits = max(len(f"{tick:g}".partition(".")[2]) for tick in ticks)
    return lambda tick: f"{tick:.{digits}f}"


def _shares(values: Iterable[float], about: int = 5) -> list[float]:
    """Return ticks within [0, 1], two at least, that hold all of some shares."""
    known = list(values)
    return [tick for tick in _ticks(min(0.98, *known), max(known), about) if 0 <= tick <= 1]


def _log_ticks(low: float, high: float) -> list[float]:
    """Return logarithms of round values between two logarithms, as close as seven of them allow."""
    found: list[float] = []
    for factors in ((1,), (1, 2, 5), (1, 1.5, 2, 3, 4, 5, 7)):
        powers = range(math.floor(low), math.ceil(high) + 1)
        closer = [power + math.log10(factor) for power in powers for factor in factors]
        closer = [tick for tick in closer if low <= tick <= high]
        found = closer if len(closer) <= 7 or not found else found  # noqa: PLR2004 (that is the room)
    return found


def _tag(name: str, content: str = "", **attributes: str | float) -> str:
    """Return an element; numbers are lengths, `class_` is `class`, `text_anchor` is `text-anchor`."""
    given = (
        f' {key.rstrip("_").replace("_", "-")}="{escape(value) if isinstance(value, str) else format(value, ".1f")}"'
        for key, value in attributes.items()
    )
    return f"<{name}{''.join(given)}>{content}</{name}>"


def _svg(key: str, title: str, description: str, below: str, *body: str) -> str:
    """Return a drawing with what its horizontal axis shows written below."""
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-labelledby="{key}-title {key}-desc">'
        f'<title id="{key}-title">{title}</title><desc id="{key}-desc">{description}</desc>'
        f"{''.join(body)}{_text((_LEFT + _RIGHT) / 2, _HEIGHT - 4, below)}</svg>"
    )


def _text(x: float, y: float, words: str, anchor: str = "middle") -> str:
    return _tag("text", escape(words), x=x, y=y, text_anchor=anchor)


def _line(x: float, y: float, x_end: float, y_end: float, kind: str) -> str:
    return _tag("line", x1=x, y1=y, x2=x_end, y2=y_end, class_=kind)


def _path(points: Iterable[tuple[float, float]], kind: str = "predicted") -> str:
    return _tag("polyline", points=" ".join(f"{x:.1f},{y:.1f}" for x, y in points), class_=kind)


def _dot(x: float, y: float, words: str, kind: str = "observed", radius: float = 4.5) -> str:
    return _tag("circle", _tag("title", escape(words)), cx=x, cy=y, r=radius, class_=kind)


def _share(x: float, y: _Scale, share: float, interval: tuple[float, float], words: str) -> str:
    """Return an observed share, or time, with the interval about it."""
    return _line(x, y(interval[0]), x, y(interval[1]), "whisker") + _dot(x, y(share), words)


def _legend(x: float, y: float, kind: str, words: str) -> str:
    mark = _dot(x + 8, y, words) if kind == "observed" else _line(x, y, x + 16, y, kind)
    return mark + _text(x + 24, y + 4, words, "start")


def _levels(y: _Scale, ticks: Iterable[float], show: Callable[[float], str]) -> str:
    """Return a horizontal line at each tick, and its value at the left."""
    return "".join(
        _line(_LEFT, y(tick), _RIGHT, y(tick), "grid") + _text(_LEFT - 7, y(tick) + 4, show(tick), "end")
        for tick in ticks
    )


def _round_percent(share: float) -> str:
    return f"{100 * share:g}%"


def _draw_reliability(groups: list[Group]) -> str:
    x, y = _Scale((0, 1), (_LEFT, _RIGHT)), _Scale((0, 1), (290, 24))
    height = _Scale((0, max(group.n for group in groups)), (0, 54))
    ticks = [number / 5 for number in range(6)]
    marks = []
    for number, each in enumerate(groups):
        bar = {"x": x(number / len(groups)) + 1.5, "width": (_RIGHT - _LEFT) / len(groups) - 3}
        bar |= {"y": 372 - height(each.n), "height": height(each.n)}
        marks.append(_tag("rect", _tag("title", f"{each.name}: {each.n:,} answers"), class_="bar", **bar))
        if each.n:
            words = f"predicted {_percent(each.p_correct)}, right {_percent(each.right)} of {each.n:,}"
            marks.append(_share(x(each.p_correct), y, each.right, each.interval, words))
    return _svg(
        "reliability", "Reliability diagram", "Share of right answers over the probability that was predicted, in ten "
        "bins, with 95% intervals; below, the number of answers in each bin.", "probability that was predicted",
        _text(4, 12, "share of right answers", "start"), _levels(y, ticks, _round_percent),
        _line(x(0), y(0), x(1), y(1), "ideal"), *marks, _text(4, 312, "answers", "start"),
        _line(_LEFT, 372, _RIGHT, 372, "grid"), *(_text(x(tick), 389, _round_percent(tick)) for tick in ticks),
        _legend(54, 40, "observed", "observed"), _legend(54, 58, "ideal", "as it should be"),
    )  # fmt: skip


def _draw_learners(groups: list[Group]) -> str:
    x = _Scale((-0.5, len(groups) - 0.5), (_LEFT, _RIGHT))
    shares = _shares(value for each in groups for value in (*each.interval, each.p_correct))
    y = _Scale((shares[0], shares[-1]), (210, 24))
    marks = [_path((x(number), y(each.p_correct)) for number, each in enumerate(groups))]
    for number, each in enumerate(groups):
        words = f"{each.name}: right {_percent(each.right)}, predicted {_percent(each.p_correct)} of {each.n:,}"
        marks.append(_share(x(number), y, each.right, each.interval, words))
    ranked = [(x(number), each.auc, auc_interval(each.n, each.right, each.auc))
              for number, each in enumerate(groups) if each.auc is not None]  # fmt: skip
    if ranked:
        aucs = _shares((end for *_, ends in ranked for end in ends), 3)
        z = _Scale((aucs[0], aucs[-1]), (372, 278))
        marks += [_text(4, 266, "AUC", "start"), _levels(z, aucs, _alike(aucs))]
        marks.append(_path((at, z(area)) for at, area, _ in ranked))
        for at, area, (low, high) in ranked:
            marks += [_line(at, z(low), at, z(high), "predicted"), _dot(at, z(area), f"{area:.4f}", "predicted", 3.5)]
    return _svg(
        "learners", "Predictions by answers given before", "Above, the share of right answers with 95% intervals and "
        "the mean prediction, from a user's first answer on; below, AUC of the same, with 95% intervals.",
        "answer of the user, from", _text(4, 12, "share of right answers", "start"), _levels(y, shares, _round_percent),
        *marks, *(_text(x(number), 390, each.name.partition("–")[0]) for number, each in enumerate(groups)),
        _legend(54, 232, "observed", "observed"), _legend(170, 232, "predicted", "predicted"),
    )  # fmt: skip


def _draw_times(groups: list[Timed]) -> str:
    def log(seconds: float) -> float:
        return math.log10(max(seconds, MIN_SECONDS))

    expected = [log(each.expected_s) for each in groups]
    taken = [log(seconds) for each in groups for seconds in (*each.middle_s, each.expected_s)]
    x = _Scale((min(expected) - 0.09, max(expected) + 0.09), (_LEFT, _RIGHT))
    y = _Scale((min(taken) - 0.09, max(taken) + 0.09), (210, 24))
    inside = _shares((0.7, 0.9, *(value for each in groups for value in each.interval)))
    z = _Scale((inside[0], inside[-1]), (372, 258))
    marks = []
    for each, at in zip(groups, map(x, expected), strict=True):
        words = f"predicted {_seconds(each.expected_s)}, taken {_seconds(each.observed_s)}, {each.n:,} answers"
        marks.append(_share(at, y, log(each.observed_s), (log(each.middle_s[0]), log(each.middle_s[1])), words))
        marks.append(_share(at, z, each.inside, each.interval, f"{_percent(each.inside)} inside"))
    return _svg(
        "times", "Response times by expected time", "Above, the median time taken and the middle 80% over the "
        "predicted median, both logarithmic; below, the share of times inside the predicted 80% interval.",
        "median predicted, seconds", _text(4, 12, "seconds taken", "start"),
        _levels(y, _log_ticks(*y.values), lambda tick: _short(10**tick)),
        _line(_LEFT, y(x.values[0]), _RIGHT, y(x.values[1]), "ideal"),
        _text(4, 246, "inside the 80% interval", "start"), _levels(z, inside, _round_percent),
        _line(_LEFT, z(0.8), _RIGHT, z(0.8), "ideal"), *marks,
        *(_text(x(tick), 390, _short(10**tick)) for tick in _log_ticks(*x.values)),
    )  # fmt: skip


def _draw_training(progress: Sequence[Mapping[str, float]]) -> str:
    epochs, losses = [each["epoch"] for each in progress], [each["logloss"] for each in progress]
    ticks = _ticks(min(losses), max(losses))
    x = _Scale((min(epochs) - 0.5, max(epochs) + 0.5), (_LEFT, _RIGHT))
    y = _Scale((ticks[0], ticks[-1]), (372, 24))
    points = [(x(epoch), y(loss)) for epoch, loss in zip(epochs, losses, strict=True)]
    best = losses.index(min(losses))
    return _svg(
        "training", "Log loss by epoch", "Log loss of the validation users after each epoch of training.", "epoch",
        _text(4, 12, "log loss of the validation users", "start"), _levels(y, ticks, _alike(ticks)), _path(points),
        *(_dot(*point, f"{loss:.4f}", "predicted", 3.5) for point, loss in zip(points, losses, strict=True)),
        _dot(*points[best], "the best", "predicted", 6.5),
        _text(points[best][0], points[best][1] - 14, f"{losses[best]:.4f}"),
        *(_text(x(epoch), 390, f"{epoch:g}") for epoch in epochs[:: math.ceil(len(epochs) / 12)]),
    )  # fmt: skip


def _draw_skill(group: Group) -> str:
    """Return a track from 0 to 100%; its numbers stand beside it."""
    x = _Scale((0, 1), (4, 116))
    marks = (
        _line(4, 8, 116, 8, "grid"), _line(x(group.interval[0]), 8, x(group.interval[1]), 8, "whisker"),
        _tag("circle", cx=x(group.right), cy=8, r=3.2, class_="observed"),
        _line(x(group.p_correct), 1, x(group.p_correct), 15, "predicted"),
    )  # fmt: skip
    return f'<svg class="track" viewBox="0 0 120 16" aria-hidden="true">{"".join(marks)}</svg>'


_OBSERVED = '<span class="mark observed" aria-hidden="true">●</span>'
_PREDICTED = '<span class="mark predicted" aria-hidden="true">❙</span>'

_STYLE = """
:root { color-scheme: light dark; --paper: #f4f6f8; --card: #fff; --ink: #18212d; --quiet: #556171; --line: #dde3ea;
  --said: #1f5fbf; --seen: #b3500a; --bar: #b9cdea; --wash: #e9f0fa; }
@media (prefers-color-scheme: dark) { :root { --paper: #0e1319; --card: #161d26; --ink: #e7ecf2; --quiet: #a0adbd;
  --line: #2a3440; --said: #80b1ff; --seen: #f3a35c; --bar: #2f4a70; --wash: #1c2a3e; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.55 system-ui, "Segoe UI", Roboto,
  "Helvetica Neue", "Liberation Sans", sans-serif; font-variant-numeric: tabular-nums; }
main { max-width: 1120px; margin: 0 auto; padding: 40px 24px; }
.eyebrow { margin: 0; color: var(--said); font-weight: 600; }
h1 { margin: 4px 0 12px; font-size: 2.3rem; line-height: 1.2; letter-spacing: -.015em; overflow-wrap: anywhere; }
h2 { margin: 0; font-size: 1.35rem; line-height: 1.3; }
h3 { margin: 0; font-size: .9rem; color: var(--quiet); }
.lead { max-width: 46em; margin: 0 0 20px; font-size: 1.1rem; }
.note { max-width: 46em; margin: 4px 0 20px; color: var(--quiet); }
.split { display: flex; gap: 3px; border-radius: 8px; overflow: hidden; font-size: .85rem; white-space: nowrap; }
.split span { min-width: max-content; flex-basis: 0; padding: 4px 12px; background: var(--wash); }
.split .validation { background: var(--bar); }
.split .test { background: var(--said); color: var(--card); }
section { margin: 24px 0; padding: 28px; background: var(--card); border: 1px solid var(--line); border-radius: 14px; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(270px, 1fr)); gap: 28px 32px; }
.tile { padding-left: 16px; border-left: 3px solid var(--said); }
.tile p { margin: 0; font-size: .93rem; color: var(--quiet); }
.tile .value { font-size: 2.1rem; line-height: 1.3; font-weight: 650; color: var(--ink); letter-spacing: -.01em; }
.pair { display: grid; grid-template-columns: minmax(0, 1fr) minmax(0, 1fr); gap: 32px; align-items: start; }
figure { margin: 0; max-width: 520px; }
svg { display: block; width: 100%; height: auto; overflow: visible; }
svg text { fill: var(--quiet); font-size: 12px; }
.grid { stroke: var(--line); }
.ideal { stroke: var(--quiet); stroke-dasharray: 5 4; stroke-width: 1.3; }
.whisker { stroke: var(--seen); stroke-width: 1.6; }
.bar { fill: var(--bar); }
circle.observed { fill: var(--seen); stroke: var(--card); stroke-width: 1.2; }
circle.predicted { fill: var(--said); }
line.predicted, polyline.predicted { stroke: var(--said); stroke-width: 2; fill: none; }
.mark.observed { color: var(--seen); } .mark.predicted { color: var(--said); }
.track { width: 160px; display: inline-block; vertical-align: middle; }
.scroll { overflow-x: auto; }
table { width: 100%; border-collapse: collapse; font-size: .9rem; }
caption { padding-bottom: 6px; text-align: left; font-size: .85rem; color: var(--quiet); }
th, td { padding: 6px 0 6px 14px; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap; }
th:first-child { position: sticky; left: 0; padding-left: 0; text-align: left; background: var(--card); }
tbody th { font-weight: 500; max-width: 20rem; white-space: normal; overflow-wrap: break-word; }
th:has(small) { min-width: 8rem; } .pair tbody th { white-space: nowrap; }
thead th { color: var(--quiet); font-size: .82rem; font-weight: 600; vertical-align: bottom; white-space: normal; }
small { display: block; color: var(--quiet); font-weight: 400; }
td strong { color: var(--said); }
.badge { padding: 1px 8px; border-radius: 9px; background: var(--said); color: var(--card); font-size: .75rem; }
code { font-size: .92em; } footer code { overflow-wrap: anywhere; }
footer { color: var(--quiet); font-size: .85rem; } footer p { margin: 4px 0; }
@media (max-width: 760px) { main { padding: 20px 12px; } section { padding: 20px 14px; margin: 14px 0; }
  h1 { font-size: 1.7rem; } .lead { font-size: 1rem; } .pair { grid-template-columns: minmax(0, 1fr); gap: 20px; }
  svg text { font-size: 13px; } table { font-size: .77rem; } thead th { font-size: .72rem; }
  th, td { padding-left: 8px; } tbody th { max-width: 11rem; } .track { width: 108px; }
  .tiles { gap: 20px; } .split span { padding: 4px 8px; } }
@media (min-width: 1000px) { .tiles:has(.tile:nth-child(4):last-child) { grid-template-columns: repeat(4, 1fr); } }
@media print { section { break-inside: avoid; } }
"""

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<main>
{body}
</main>
</body>
</html>
"""
