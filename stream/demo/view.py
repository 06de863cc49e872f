"""The demo on a terminal: a progress bar, a live table, and users who come into High or leave it."""

from rich.console import Group
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from stream.demo.counted import ANSWERS, Counted
from stream.demo.tally import RECENT, Change, Tally
from stream.models.dkt import KNOWLEDGE
from stream.models.risk import RISK
from stream.models.weekly import FEATURES

_STYLES = {"Low": "green", "Medium": "yellow", "High": "red", "Critical": "bold red"}
_FACTORS, _LEAST_FACTOR = 2, 0.05  # of a change, those that weigh most; log odds
_SMALL = 36  # lines of a terminal below which less is shown
_CHANGES, _CHANGES_IF_SMALL = 6, 3
_GATES, _GATES_IF_SMALL = 3, 1


_COUNTED = frozenset({"days", "lectures", "log(1 + n)", "pieces", "incidents", "points", "points a week", "sanctions"})
_DAYS_OF_WEEK = 7
_NUMBERS_END = 1_000.0  # days; `stream.models.weekly` cuts there what follows from an enrolment

ENDS = {
    feature.name: feature.high
    for feature in FEATURES
    if feature.unit in _COUNTED and not (feature.unit == "days" and feature.high == _DAYS_OF_WEEK)
} | dict.fromkeys(("course_day", "enrolled_before"), _NUMBERS_END)
"""Where features that count end: what is more is told as so much. Shares, days of a week and the like end by nature."""


def render(tally: Tally, counted: Counted, total: int, seconds: float, height: int) -> Group:
    """
    Return what the terminal shows.

    Args:
        tally: What has been seen.
        counted: What the bar counts.
        total: How many of them there will be.
        seconds: Since the first event.
        height: Of the terminal, lines.
    """
    done = tally.of(counted)
    rate = done / seconds if seconds > 0 else 0.0
    head = Table.grid(padding=(0, 1))
    text = Text(f" {done:,} of {total:,} {counted.name}  {rate:,.0f}/s")
    head.add_row(ProgressBar(total=total or 1, completed=done, width=40), text)
    changes, gates = (_CHANGES_IF_SMALL, _GATES_IF_SMALL) if height < _SMALL else (_CHANGES, _GATES)
    return Group(
        head,
        Panel(_figures(tally, counted), title="learnerstream", title_align="left"),
        Panel(_changes(tally.changes[-changes:]), title="into High, and out of it", title_align="left"),
        _models(tally, gates),
    )


def _figures(tally: Tally, counted: Counted) -> Table:
    table = Table.grid(padding=(0, 3))
    latency = tally.latency_s()
    table.add_row("predictions", "  ".join(f"{kind} {count:,}" for kind, count in tally.counts.items()))
    table.add_row("dead letters", f"{tally.dead:,}")
    table.add_row("latency", f"p50 {_ms(latency['p50'])}  p99 {_ms(latency['p99'])}  until consumed")
    if counted is ANSWERS:
        recent = tally.quality(len(tally.outcomes) - RECENT)
        table.add_row(
            f"latest {RECENT:,}",
            Text.assemble(
                "AUC ", (_number(recent["auc_serving"]), "bold"), f" (fallback {_number(recent['auc_fallback'])})",
                "   log loss ",
                (_number(recent["logloss_serving"]), "bold"), f" (fallback {_number(recent['logloss_fallback'])})",
            ),
        )  # fmt: skip
    at_risk = Text()
    for category, count in tally.categories().items():
        at_risk.append(f"{category} {count:,}  ", _STYLES[category])
    table.add_row("users at risk", at_risk)
    return table


def _changes(changes: list[Change]) -> Table:
    """Return users who came into High or left it, the latest first, and what weighs most in what is said now."""
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True, max_width=20, overflow="ellipsis")
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column()
    for change in reversed(changes):
        before, now = change.before, change.now
        known = "new" if before is None else before.category
        table.add_row(
            change.user_id,
            Text.assemble((known, _STYLES.get(known, "dim")), " → ", (now.category, _STYLES[now.category])),
            f"{now.score:.2f}",
            _reasons(change),
        )
    if not changes:
        table.add_row("nobody yet")
    return table


def _reasons(change: Change) -> str:
    weighing = [factor for factor in change.factors[:_FACTORS] if abs(factor[1]) >= _LEAST_FACTOR]
    # After an outcome all begins anew.
    return ", ".join(in_words(*factor) for factor in weighing) or "little is known"


def in_words(feature: str, contribution: float, value: float | None) -> str:
    """Return a factor as a person reads it: `missing 2 (+1.3)`."""
    known = "" if value is None else f" {value:.2f}".rstrip("0").rstrip(".")
    end = ENDS.get(feature)
    if value is not None and end is not None and abs(value) >= end:
        known += " or more" if value > 0 else " or less"
    return f"{feature.replace('_', ' ')}{known} ({contribution:+.1f})"


def _models(tally: Tally, gates: int) -> Table:
    table = Table.grid(padding=(0, 3))
    knowledge = f"version {tally.models[-1]['version']}" if tally.models else "the fallback (LNIRT)"
    risk = f"version {tally.risk_version}" if tally.risk_version else "the fallback (a formula)"
    for label, name, serving in (("model", KNOWLEDGE, knowledge), ("of risk", RISK, risk)):
        table.add_row(label, Text.assemble((serving, "bold"), "   learning …" if name in tally.updating else ""))
    for gate in tally.gates[-gates:]:
        verdict = ("live", "green") if gate["promoted"] else ("kept out", "dim")
        candidate, champion = gate["candidate"], gate["champion"]
        label, judged = ("of risk", "weeks of users") if gate["name"] == RISK else ("candidate", "answers")
        losses = f"log loss {candidate['logloss']:.4f} against {champion['logloss']:.4f} on {candidate['n']:,} {judged}"
        table.add_row(f"{label} {gate['candidate_version']}", Text.assemble(verdict, f"   {losses}"))
    return table


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _ms(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds * 1000:,.0f} ms"
