"""
An evaluation of the risk model as a page: one HTML file, no scripts, nothing loaded from elsewhere.

Pure. What it is made of is `stream.learning.drawing`'s; what is evaluated is `stream.learning.risk.evaluation`'s.
"""
# ruff: noqa: RUF001 (ranges are shown with en dashes)

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, Final, get_args

import numpy as np
from numpy.typing import NDArray

from schemas.predictions import RiskCategory, risk_category
from stream.learning.drawing import (
    LEFT,
    RIGHT,
    Column,
    Scale,
    alike,
    as_percent,
    as_round_percent,
    code,
    dot,
    footer,
    four_digits,
    header,
    levels,
    line,
    models_table,
    page,
    pair,
    path,
    reliability_diagram,
    section,
    share_ticks,
    svg,
    table,
    tag,
    text,
)
from stream.learning.groups import Group, auc_interval, reliability
from stream.learning.risk.fairness import roc, rows_of
from stream.learning.risk.snapshots import AT_RISK
from stream.models.weekly import FEATURES
from stream.state.academic import OUTCOMES, WEEKS


@dataclass(frozen=True, slots=True)
class Shown:
    """
    What was said of users at days, one row each, and what came.

    Attributes:
        day: `(N,)`.
        score: Of what would serve, `(N,)`.
        outcome: Place in `OUTCOMES`, `(N,)`.
        groups: Group of each row, by the field of the enrolment that makes it.
        attention: That each head pays to each week, the oldest first, `(N, HEADS, WEEKS)`.
        importance: Of each feature, mean |gradient x input|.
    """

    day: NDArray[np.int64]
    score: NDArray[np.float64]
    outcome: NDArray[np.int64]
    groups: Mapping[str, Sequence[str]]
    attention: NDArray[np.float32]
    importance: Mapping[str, float]

    @property
    def at_risk(self) -> NDArray[np.bool_]:
        """Whether what is at risk came, `(N,)`."""
        return self.outcome >= AT_RISK


def render(report: Mapping[str, Any], shown: Shown) -> str:
    """
    Return the page.

    Args:
        report: As `evaluation.evaluate` makes it.
        shown: Of the users whom no model had met.
    """
    sections = [
        _header(report),
        _key_figures(report),
        _days(report, shown),
        _models(report),
        _reliability(reliability(shown.at_risk, shown.score)),
        _confusion(report),
        _fairness(report, shown),
        _attention(shown),
        _students(shown),
        _importance(shown.importance),
        footer(report, _INDEPENDENT),
    ]
    return page(f"{report['file']} · risk", sections)


_INDEPENDENT = (
    "The 95% intervals take predictions as independent. A score says whom to ask how they are; it is no verdict, and "
    "no reason to treat anyone worse."
)

_PLAIN: Final = {
    "network": "three recurrent streams with attention, calibrated",
    "boosting": "gradient boosting on the same features, calibrated",
    "blend": "the log odds of both, weighted on the students who validate",
    "fallback": "a score without training, which serves until there is a model",
    "logistic": "logistic regression on the newest week, one for each day",
    "boosting_by_day": "gradient boosting on the newest week, made anew for each day",
}


def _header(report: Mapping[str, Any]) -> str:
    users = report["users"]
    serving = _PLAIN.get(report["serving"], report["serving"])
    fields = ", ".join(map(escape, report["fields"])) or "nothing but the course"
    return header(
        report["file"], users,
        f"Who will fail or withdraw? {report['n']:,} predictions of {users['test']:,} students whom no model had met, "
        f"each from what was known at the end of a day. {users['training']:,} other students trained the models; "
        f"{users['validation']:,} more said when to stop, and chose what serves: <strong>{escape(serving)}</strong>. "
        f"Of an enrolment the models see: {fields}.",
    )  # fmt: skip


def _key_figures(report: Mapping[str, Any]) -> str:
    found = report["models"][report["serving"]]
    tiles = "".join(
        f'<div class="tile"><h3>{name}</h3><p class="value">{show(found[key])}</p><p>{meaning}</p></div>'
        for key, (name, show, meaning) in _TILES.items()
    )
    return section("Key figures", f'<div class="tiles">{tiles}</div>', f"Of {code(report['serving'])}, over all days.")


# fmt: off
_TILES: Final = {
    "auc": ("AUC", four_digits,
        "How often, of a student who passes and one who does not, the second had been given the higher score."),
    "ece": ("Calibration error", as_percent,
        "How far scores are from the shares that came, on average over ten bins."),
    "precision": ("Precision", as_percent, "Of those said to be High or Critical, how many failed or withdrew."),
    "recall": ("Recall", as_percent, "Of those who failed or withdrew, how many were said to be High or Critical."),
}
"""Of a key of the report: its name, how it is shown, and what it means."""

_COLUMNS: Final[dict[str, Column]] = {
    "auc": ("AUC", four_digits, lambda value: -value),
    "logloss": ("log loss", four_digits, abs),
    "ece": ("calibration error", four_digits, abs),
    "mae": ("MAE", four_digits, abs),
    "rmse": ("RMSE", four_digits, abs),
    "r2": ("R²", four_digits, lambda value: -value),
    "accuracy": ("accuracy", as_percent, lambda value: -value),
    "precision": ("precision", as_percent, lambda value: -value),
    "recall": ("recall", as_percent, lambda value: -value),
    "f1": ("F1", four_digits, lambda value: -value),
}
# fmt: on


def _days(report: Mapping[str, Any], shown: Shown) -> str:
    days = report["by_day"]
    rows = [(f"day {day}", f"{of['n']:,}", as_percent(float(shown.at_risk[shown.day == int(day)].mean())),
             *(four_digits(of[key]) for key in ("auc", "logloss", "ece"))) for day, of in days.items()]  # fmt: skip
    head = ("end of", "students", "at risk", "AUC", "log loss", "calibration error")
    drawing = _draw_days(report, {day: float(shown.at_risk[shown.day == int(day)].mean()) for day in days})
    others = [(code(name), *(four_digits(of["by_day"][day]["auc"]) for day in days))
              for name, of in report["models"].items()]  # fmt: skip
    of_models = table("AUC of all models", ("model", *(f"day {day}" for day in days)), others)
    return section(
        "How soon is it known?",
        pair(drawing, f"<div>{table('What serves, by day', head, rows)}{_apart(of_models)}</div>"),
        "Of those still registered at the end of a day; who withdraws before is not asked about any more. "
        "The dark line is what serves, with its 95% interval.",
    )


def _draw_days(report: Mapping[str, Any], base_rate: Mapping[str, float]) -> str:
    days = list(report["by_day"])
    lines = {name: [of["by_day"][day]["auc"] for day in days] for name, of in report["models"].items()}
    serving = [report["by_day"][day]["auc"] for day in days]
    ends = [
        auc_interval(report["by_day"][day]["n"], base_rate[day], area)
        for day, area in zip(days, serving, strict=True)
        if area is not None
    ]
    known = [area for of in (serving, *lines.values()) for area in of if area is not None]
    ticks = share_ticks([*known, *(end for each in ends for end in each)] or [0.5, 1.0])
    x, y = Scale((-0.5, len(days) - 0.5), (LEFT, RIGHT)), Scale((ticks[0], ticks[-1]), (372, 24))
    marks = []
    for name, areas in lines.items():
        points = [(x(place), y(area)) for place, area in enumerate(areas) if area is not None]
        if name != report["serving"]:
            marks += [path(points, "grid curve"), *(dot(*point, name, "bar", 3) for point in points)]
    points = [(x(place), y(area)) for place, area in enumerate(serving) if area is not None]
    marks.append(path(points))
    for (at, height), (low, high) in zip(points, ends, strict=True):
        marks += [line(at, y(low), at, y(high), "predicted"), dot(at, height, "serves", "predicted", 3.5)]
    return svg(
        "days", "AUC by day", "AUC of the model that serves at the end of each day, with 95% intervals; the other "
        "models as thin lines.", "end of day", text(4, 12, "AUC", "start"), levels(y, ticks, alike(ticks)), *marks,
        *(text(x(place), 390, day) for place, day in enumerate(days)),
    )  # fmt: skip


def _models(report: Mapping[str, Any]) -> str:
    return section(
        "All models",
        models_table(report["models"], report["serving"], _COLUMNS, _PLAIN),
        "Over all days. The best of a column is bold. Accuracy, precision, recall and F1 take High and Critical as a "
        "prediction that the student will fail or withdraw.",
    )


def _reliability(groups: list[Group]) -> str:
    rows = [(each.name, f"{each.n:,}", as_percent(each.p_correct), as_percent(each.right)) for each in groups]
    head = ("score", "predictions", "mean score", "failed or withdrew")
    return section(
        "Does it mean what it says?",
        pair(
            reliability_diagram(groups, "failed or withdrawn", "predictions"),
            table("Predictions by score", head, rows),
        ),
        "Of those with a score of 70%, about 70% should fail or withdraw: dots on the dashed line.",
    )


def _confusion(report: Mapping[str, Any]) -> str:
    rows = []
    for category, of in zip(get_args(RiskCategory), report["models"][report["serving"]]["confusion"], strict=True):
        total = sum(of)
        cells = (f"{count:,}<small>{as_percent(count / total if total else None)}</small>" for count in of)
        rows.append((category, *cells, f"{total:,}"))
    return section(
        "What became of whom",
        table("Categories against outcomes", ("category", *OUTCOMES, "all"), rows),
        "Predictions of what serves, over all days; percentages are of the row.",
    )


# -------------------------------------------------------------------------------------------------------- fairness

_MOST_CURVES = 4
_POINTS_OF_CURVE = 120


def _fairness(report: Mapping[str, Any], shown: Shown) -> str:
    fields = {field: found for field, found in report["fairness"].items() if len(found) > 1}
    tables = "".join(_apart(_figures(field, found)) for field, found in fields.items())
    drawings = "".join(f"<figure>{_draw_roc(field, found, shown)}</figure>" for field, found in fields.items())
    return section(
        "Is it as good for some as for others?",
        tables + _apart(f'<div class="pair">{drawings}</div>') if fields else "<p>There are no groups to compare.</p>",
        "Of these fields the model sees none but those named above. False alarms are High or Critical scores of those "
        "who passed; misses, lower scores of those who did not. ABROCA is the area between a group's ROC curve and "
        "that of the largest group, 0 where both are ranked equally well; a small group's is above 0 by chance alone. "
        "Groups fail at different rates, and then calibration and equal error rates cannot be had at once.",
    )


def _figures(field: str, found: Mapping[str, Mapping[str, Any]]) -> str:
    rows = [
        (
            escape(group), f"{of['n']:,}", *map(as_percent, (of["base_rate"], of["mean_score"], of["fpr"], of["fnr"])),
            four_digits(of["auc"]), as_percent(of["ece"]), four_digits(of["abroca"]),
        )
        for group, of in found.items()
    ]  # fmt: skip
    head = (
        _words(field), "predictions", "at risk", "mean score", "false alarms", "misses", "AUC", "calibration error",
        "ABROCA",
    )  # fmt: skip
    return table(f"By {_words(field)}", head, rows)


def _apart(content: str) -> str:
    return f'<div class="apart">{content}</div>'


def _words(field: str) -> str:
    return escape(_WORDS.get(field, field.replace("_", " ")))


_WORDS: Final = {"imd_band": "deprivation", "age_band": "age"}


def _draw_roc(field: str, found: Mapping[str, Mapping[str, Any]], shown: Shown) -> str:
    """Return the ROC curves of the largest group, and of those that differ most from it."""
    ranked = [group for group, of in found.items() if of["abroca"] is not None]
    chosen = ranked[:1] + sorted(ranked[1:], key=lambda group: -found[group]["abroca"])[: _MOST_CURVES - 1]
    rows = rows_of(shown.groups[field])
    x, y = Scale((0, 1), (LEFT, RIGHT)), Scale((0, 1), (372, 24))
    marks = []
    for place, group in enumerate(chosen):
        curve = roc(shown.at_risk[rows[group]], shown.score[rows[group]])
        if curve is not None:
            few = np.unique(np.linspace(0, len(curve[0]) - 1, _POINTS_OF_CURVE).astype(np.int64))
            points = [(x(at), y(height)) for at, height in zip(*(of[few].tolist() for of in curve), strict=True)]
            marks.append(path(points, f"curve curve-{place}"))
        marks.append(line(190, 290 + 18 * place, 212, 290 + 18 * place, f"curve curve-{place}"))
        marks.append(text(220, 294 + 18 * place, group, "start"))
    ticks = [number / 5 for number in range(6)]
    return svg(
        f"roc-{field}", f"ROC curves by {_words(field)}", "True positive rate over false positive rate, for the "
        "largest group and those that differ most from it.", "false alarms",
        text(4, 12, f"by {_words(field)}: found, of those at risk", "start"), levels(y, ticks, as_round_percent),
        line(x(0), y(0), x(1), y(1), "ideal"), *marks, *(text(x(tick), 390, as_round_percent(tick)) for tick in ticks),
    )  # fmt: skip


# ------------------------------------------------------------------------------------------------------- attention


def _attention(shown: Shown) -> str:
    last = shown.day == shown.day.max()
    by_outcome = {
        name: shown.attention[last & (shown.outcome == place)].mean(axis=(0, 1))
        for place, name in enumerate(OUTCOMES)
        if (last & (shown.outcome == place)).any()
    }
    heads = shown.attention[last].mean(axis=0)
    by_head = {f"head {number}": of for number, of in enumerate(heads, 1)}
    drawings = (
        _heat("by-outcome", "Attention to ten weeks, by outcome", by_outcome),
        _heat("by-head", "Attention to ten weeks, by head", by_head),
    )
    rows = [(name, *(as_percent(float(share)) for share in of)) for name, of in (by_outcome | by_head).items()]
    ago = tuple(_week(week) for week in range(WEEKS))
    return section(
        "Which weeks it looks at",
        f'<div class="pair">{"".join(f"<figure>{drawing}</figure>" for drawing in drawings)}</div>'
        + _apart(table("Mean attention", ("", *ago), rows)),
        f"At the end of day {shown.day.max()}: how much of its attention the network pays to each of the ten weeks, by "
        "what became of the students, and by head. A row adds up to 100%. Attention says where it looks, not why.",
    )


def _week(place: int) -> str:
    return "now" if place == WEEKS - 1 else f"−{WEEKS - 1 - place}"


def _heat(key: str, title: str, rows: Mapping[str, NDArray[np.floating]]) -> str:
    """Return a heat map with a row for each of some distributions over the weeks, the oldest week at the left."""
    top, height, left, right = 20, min(40, 330 // max(len(rows), 1)), 84, RIGHT
    # What is spread evenly is pale.
    most = max(3 / WEEKS, *(float(of.max()) for of in rows.values()))
    width = (right - left) / WEEKS
    marks = []
    for row, (name, of) in enumerate(rows.items()):
        y = top + row * height
        marks.append(text(left - 8, y + height / 2 + 4, name, "end"))
        for week, share in enumerate(of.tolist()):
            title_of = tag("title", f"{escape(name)}, week {_week(week)}: {as_percent(share)}")
            marks.append(
                tag(
                    "rect", title_of, x=left + week * width + 1, y=y + 1, width=width - 2, height=height - 2,
                    class_="heat", fill_opacity=f"{0.06 + 0.94 * share / most:.3f}",
                )
            )  # fmt: skip
    below = top + len(rows) * height
    marks += [text(left + (week + 0.5) * width, below + 16, _week(week)) for week in range(WEEKS)]
    box = below + 44
    return svg(key, title, "Darker is more attention.", "weeks ago", *marks, height=box)


def _students(shown: Shown) -> str:
    tiles = []
    for number, (row, words) in enumerate(_examples(shown)):
        score = float(shown.score[row])
        heads = {f"head {head}": of for head, of in enumerate(shown.attention[row], 1)}
        drawing = _heat(f"student-{number}", f"Attention: {words}", heads)
        tiles.append(
            f'<div class="tile"><h3>{words}</h3><p>Score {as_percent(score)}, {risk_category(score)}, at the end of '
            f"day {shown.day[row]}; then: {OUTCOMES[shown.outcome[row]]}.</p>{drawing}</div>"
        )
    return section(
        "Single students",
        f'<div class="pair">{"".join(tiles)}</div>',
        "On the last day, the surest of each kind, right or wrong, and where the network looked.",
    )


def _examples(shown: Shown) -> list[tuple[int, str]]:
    """Return rows of the last day, the surest of each kind, and what is to be said of them."""
    last = shown.day == shown.day.max()
    kinds = (
        ("Highest score of those who failed or withdrew", shown.at_risk, 1),
        ("Highest score of those who passed", ~shown.at_risk, 1),
        ("Lowest score of those who failed or withdrew", shown.at_risk, -1),
        ("Lowest score of those who passed", ~shown.at_risk, -1),
    )
    found = []
    for words, rows, sign in kinds:
        of_kind = np.flatnonzero(last & rows)
        if len(of_kind):
            found.append((int(of_kind[(sign * shown.score[of_kind]).argmax()]), words))
    return found


_MOST_FEATURES = 20


def _importance(importance: Mapping[str, float]) -> str:
    meaning = {feature.name: feature for feature in FEATURES}
    strongest = sorted(importance.items(), key=lambda of: -of[1])
    known = [(name, size) for name, size in strongest if size > 0]
    most = known[0][1] if known else 1.0
    rows = [
        (code(name) + f"<small>{escape(meaning[name].meaning)}</small>", meaning[name].stream, _bar(size / most),
         f"{size:.3f}")
        for name, size in known[:_MOST_FEATURES]
    ]  # fmt: skip
    silent = len(importance) - len(known)
    rest = f"<p>{silent} features are not in these data, and move nothing.</p>" if silent else ""
    return section(
        "What moves the network",
        table("Features, the strongest first", ("feature", "stream", "", "mean |gradient × input|"), rows) + rest,
        "How much the network's log odds hang on each feature, over ten weeks and all predictions: its gradient times "
        "how far the feature is from what is usual. Of what serves, the trees have their own say.",
    )


def _bar(share: float) -> str:
    bar = tag("rect", x=0, y=3, width=120 * share, height=10, class_="bar")
    return f'<svg class="track" viewBox="0 0 120 16" aria-hidden="true">{bar}</svg>'
