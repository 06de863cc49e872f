"""
An evaluation as a page, for people who would rather look: one HTML file, no scripts, nothing loaded from elsewhere.

Pure. What it shows is computed in `stream.learning.groups`; what is evaluated is `stream.learning.user_split`'s.
Lengths in drawings are in units of an SVG that is `WIDTH` wide.
"""
# ruff: noqa: RUF001 (ranges are shown with en dashes)

import math
from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stream.learning.drawing import (
    LEFT,
    RIGHT,
    Column,
    Scale,
    alike,
    as_percent,
    as_round_percent,
    as_seconds,
    code,
    dot,
    footer,
    four_digits,
    header,
    legend,
    levels,
    line,
    log_ticks,
    models_table,
    page,
    pair,
    path,
    reliability_diagram,
    round_ticks,
    section,
    share_ticks,
    svg,
    table,
    tag,
    text,
    two_digits,
    whiskered,
)
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
    sections += [_skills(by_skill(history.skill_rows[rows], skill_names, correct, p)), footer(report, _INDEPENDENT)]
    return page(f"{report['file']} · evaluation", sections)


def _header(report: Mapping[str, Any]) -> str:
    users = report["users"]
    serving = _PLAIN.get(report["serving"], report["serving"])
    return header(
        report["file"], users,
        f"{report['n']:,} answers of {users['test']:,} users whom no model had met, each predicted "
        f"from what that user had answered before. The answers of {users['training']:,} other users trained the "
        f"models; those of {users['validation']:,} more said when to stop, and chose what serves: "
        f"<strong>{escape(serving)}</strong>.",
    )  # fmt: skip


_INDEPENDENT = "The 95% intervals take answers as independent; as those of one user are not, true ones are wider."

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
        "share": as_percent(share),
        "logloss": f"{-sum(part * math.log(part) for part in (share, 1 - share) if part):.4f}",
        "brier": f"{share * (1 - share):.4f}",
    }
    tiles = "".join(
        f'<div class="tile"><h3>{name}</h3><p class="value">{show(found[key])}</p>'
        f"<p>{sentence.format(**constant)}</p></div>"
        for key, (name, show, sentence) in _TILES.items()
        if found[key] is not None
    )
    return section("Key figures", f'<div class="tiles">{tiles}</div>', f"Of {code(report['serving'])}, which serves.")


def _models(report: Mapping[str, Any]) -> str:
    return section(
        "All models",
        models_table(report["models"], report["serving"], _COLUMNS, _PLAIN),
        "On the same answers. The best of a column is bold; of shares inside, the one nearest to 80%. A dash stands "
        "where a model says nothing.",
    )


def _reliability(groups: list[Group]) -> str:
    rows = [(each.name, f"{each.n:,}", *map(as_percent, (each.p_correct, each.right)), _range(each)) for each in groups]
    head = ("said", "answers", "predicted", "right", "95% interval")
    return section(
        "Does it mean what it says?",
        pair(reliability_diagram(groups, "right", "answers"), table("Answers by what was predicted", head, rows)),
        "Of the answers that were given 70%, about 70% should be right: dots on the dashed line. Bars show how many "
        "answers there were.",
    )


def _learners(groups: list[Group]) -> str:
    rows = [(escape(each.name), f"{each.n:,}", *map(as_percent, (each.right, each.p_correct)),
             four_digits(each.logloss), four_digits(each.auc)) for each in groups]  # fmt: skip
    head = ("answer", "answers", "right", "predicted", "log loss", "AUC")
    return section(
        "How soon does it know a user?",
        pair(_draw_learners(groups), table("Answers by how many the user had given before", head, rows)),
        "Before a user's first answer only the item and its skills are known, later the user too. The groups differ in "
        "their people as well, for not all answer as much; and log loss is low where most answers are alike.",
    )


def _times(groups: list[Timed]) -> str:
    rows = [("–".join(map(two_digits, each.span_s)) + " s", f"{each.n:,}", as_seconds(each.expected_s),
             as_seconds(each.observed_s), as_percent(each.inside)) for each in groups]  # fmt: skip
    head = ("expected", "answers", "median predicted", "median taken", "inside 80%")
    return section(
        "How long will it take?",
        pair(_draw_times(groups), table("Answers by expected response time", head, rows)),
        "Above: medians on the dashed line are right; a whisker holds the middle 80% of the times taken. Below: how "
        "many lay inside the 80% interval that was predicted for each.",
    )


def _training(progress: Sequence[Mapping[str, float]]) -> str:
    rows = [(str(int(each["epoch"])), *(four_digits(each[key]) for key in ("loss", "logloss", "auc")),
             f"{each['learning_rate']:.2g}") for each in progress]  # fmt: skip
    head = ("epoch", "training loss", "log loss", "AUC", "learning rate")
    return section(
        "How the network was learned",
        pair(_draw_training(progress), table("Epochs of training", head, rows)),
        "Log loss and AUC are those of the validation users after each epoch; the best epoch's weights are kept. The "
        "training loss holds response times too and is not to be compared with them.",
    )


def _skills(groups: list[Group]) -> str:
    rows = [(escape(each.name), f"{each.n:,}", *map(as_percent, (each.right, each.p_correct)), _draw_skill(each),
             four_digits(each.logloss), four_digits(each.auc)) for each in groups[:_MOST_SKILLS]]  # fmt: skip
    head = ("skill", "answers", "right", "predicted", "0–100%", "log loss", "AUC")
    rest = groups[_MOST_SKILLS:]
    more = f"<p>{len(rest):,} more skills with {sum(each.n for each in rest):,} answers are left out.</p>"
    return section(
        "Skill by skill", table("Skills, the one with most answers first", head, rows) + (more if rest else ""),
        f"{_OBSERVED} observed, with its 95% interval; {_PREDICTED} predicted. An answer with several skills counts "
        "for each.",
    )  # fmt: skip


_MOST_SKILLS = 50


# ---------------------------------------------------------------------------------------------------------- words


def _range(group: Group) -> str:
    return f"{100 * group.interval[0]:.1f}–{100 * group.interval[1]:.1f}%" if group.n else "–"


# fmt: off
_TILES: dict[str, tuple[str, Callable[[float | None], str], str]] = {
    "auc": ("AUC", four_digits, (
        "How often, of a right and a wrong answer, the right one had been given the higher probability. 0.5 is "
        "guessing, 1 is perfect.")),
    "logloss": ("Log loss", four_digits, (
        "What confidence in the wrong outcome costs; 0 is perfect. To say {share}, the share of right answers, every "
        "time costs {logloss}.")),
    "brier": ("Brier score", four_digits, (
        "Mean squared distance between the probability and what came; 0 is perfect. To say {share} every time has "
        "{brier}.")),
    "ece": ("Calibration error", as_percent, (
        "How far probabilities are from the shares of right answers, on average over ten bins.")),
    "time_mae_s_clipped_p99": ("Time error", as_seconds, (
        "Mean distance between the median predicted and the time taken, both cut at the 99th percentile of training.")),
    "time_coverage_80": ("In the 80% interval", as_percent, (
        "Response times between the 10% and the 90% quantile that were predicted. 80% would be right.")),
}
"""Of a key of the report: its name, how it is shown, and what it means."""

_COLUMNS: dict[str, Column] = {
    "auc": ("AUC", four_digits, lambda value: -value),
    "logloss": ("log loss", four_digits, abs),
    "brier": ("Brier", four_digits, abs),
    "ece": ("calibration error", four_digits, abs),
    "time_mae_s": ("time error", as_seconds, abs),
    "time_mae_s_clipped_p99": ("time error, clipped", as_seconds, abs),
    "time_coverage_80": ("inside 80%", as_percent, lambda value: abs(value - 0.8)),
}
"""Of the same: its heading, how it is shown, and what is least where it is best."""
# fmt: on


# ------------------------------------------------------------------------------------------------------- drawings


def _draw_learners(groups: list[Group]) -> str:
    x = Scale((-0.5, len(groups) - 0.5), (LEFT, RIGHT))
    shares = share_ticks(value for each in groups for value in (*each.interval, each.p_correct))
    y = Scale((shares[0], shares[-1]), (210, 24))
    marks = [path((x(number), y(each.p_correct)) for number, each in enumerate(groups))]
    for number, each in enumerate(groups):
        words = f"{each.name}: right {as_percent(each.right)}, predicted {as_percent(each.p_correct)} of {each.n:,}"
        marks.append(whiskered(x(number), y, each.right, each.interval, words))
    ranked = [(x(number), each.auc, auc_interval(each.n, each.right, each.auc))
              for number, each in enumerate(groups) if each.auc is not None]  # fmt: skip
    if ranked:
        aucs = share_ticks((end for *_, ends in ranked for end in ends), 3)
        z = Scale((aucs[0], aucs[-1]), (372, 278))
        marks += [text(4, 266, "AUC", "start"), levels(z, aucs, alike(aucs))]
        marks.append(path((at, z(area)) for at, area, _ in ranked))
        for at, area, (low, high) in ranked:
            marks += [line(at, z(low), at, z(high), "predicted"), dot(at, z(area), f"{area:.4f}", "predicted", 3.5)]
    return svg(
        "learners", "Predictions by answers given before", "Above, the share of right answers with 95% intervals and "
        "the mean prediction, from a user's first answer on; below, AUC of the same, with 95% intervals.",
        "answer of the user, from", text(4, 12, "share of right answers", "start"), levels(y, shares, as_round_percent),
        *marks, *(text(x(number), 390, each.name.partition("–")[0]) for number, each in enumerate(groups)),
        legend(54, 232, "observed", "observed"), legend(170, 232, "predicted", "predicted"),
    )  # fmt: skip


def _draw_times(groups: list[Timed]) -> str:
    def log(seconds: float) -> float:
        return math.log10(max(seconds, MIN_SECONDS))

    expected = [log(each.expected_s) for each in groups]
    taken = [log(seconds) for each in groups for seconds in (*each.middle_s, each.expected_s)]
    x = Scale((min(expected) - 0.09, max(expected) + 0.09), (LEFT, RIGHT))
    y = Scale((min(taken) - 0.09, max(taken) + 0.09), (210, 24))
    inside = share_ticks((0.7, 0.9, *(value for each in groups for value in each.interval)))
    z = Scale((inside[0], inside[-1]), (372, 258))
    marks = []
    for each, at in zip(groups, map(x, expected), strict=True):
        words = f"predicted {as_seconds(each.expected_s)}, taken {as_seconds(each.observed_s)}, {each.n:,} answers"
        marks.append(whiskered(at, y, log(each.observed_s), (log(each.middle_s[0]), log(each.middle_s[1])), words))
        marks.append(whiskered(at, z, each.inside, each.interval, f"{as_percent(each.inside)} inside"))
    return svg(
        "times", "Response times by expected time", "Above, the median time taken and the middle 80% over the "
        "predicted median, both logarithmic; below, the share of times inside the predicted 80% interval.",
        "median predicted, seconds", text(4, 12, "seconds taken", "start"),
        levels(y, log_ticks(*y.values), lambda tick: two_digits(10**tick)),
        line(LEFT, y(x.values[0]), RIGHT, y(x.values[1]), "ideal"),
        text(4, 246, "inside the 80% interval", "start"), levels(z, inside, as_round_percent),
        line(LEFT, z(0.8), RIGHT, z(0.8), "ideal"), *marks,
        *(text(x(tick), 390, two_digits(10**tick)) for tick in log_ticks(*x.values)),
    )  # fmt: skip


def _draw_training(progress: Sequence[Mapping[str, float]]) -> str:
    epochs, losses = [each["epoch"] for each in progress], [each["logloss"] for each in progress]
    ticks = round_ticks(min(losses), max(losses))
    x = Scale((min(epochs) - 0.5, max(epochs) + 0.5), (LEFT, RIGHT))
    y = Scale((ticks[0], ticks[-1]), (372, 24))
    points = [(x(epoch), y(loss)) for epoch, loss in zip(epochs, losses, strict=True)]
    best = losses.index(min(losses))
    return svg(
        "training", "Log loss by epoch", "Log loss of the validation users after each epoch of training.", "epoch",
        text(4, 12, "log loss of the validation users", "start"), levels(y, ticks, alike(ticks)), path(points),
        *(dot(*point, f"{loss:.4f}", "predicted", 3.5) for point, loss in zip(points, losses, strict=True)),
        dot(*points[best], "the best", "predicted", 6.5),
        text(points[best][0], points[best][1] - 14, f"{losses[best]:.4f}"),
        *(text(x(epoch), 390, f"{epoch:g}") for epoch in epochs[:: math.ceil(len(epochs) / 12)]),
    )  # fmt: skip


def _draw_skill(group: Group) -> str:
    """Return a track from 0 to 100%; its numbers stand beside it."""
    x = Scale((0, 1), (4, 116))
    marks = (
        line(4, 8, 116, 8, "grid"), line(x(group.interval[0]), 8, x(group.interval[1]), 8, "whisker"),
        tag("circle", cx=x(group.right), cy=8, r=3.2, class_="observed"),
        line(x(group.p_correct), 1, x(group.p_correct), 15, "predicted"),
    )  # fmt: skip
    return f'<svg class="track" viewBox="0 0 120 16" aria-hidden="true">{"".join(marks)}</svg>'


_OBSERVED = '<span class="mark observed" aria-hidden="true">●</span>'
_PREDICTED = '<span class="mark predicted" aria-hidden="true">❙</span>'
