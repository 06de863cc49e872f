"""The demo on a terminal: a progress bar and a live table."""

from collections import Counter

from rich.console import Group
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from stream.demo.tally import RECENT, Tally

_CATEGORIES = ("Low", "Medium", "High", "Critical")
_STYLES = {"Low": "green", "Medium": "yellow", "High": "red", "Critical": "bold red"}


def render(tally: Tally, total: int | None, seconds: float) -> Group:
    """Return what the terminal shows."""
    rate = tally.answered / seconds if seconds > 0 else 0.0
    done = Text(f" {tally.answered:,} of {total:,} answers  {rate:,.0f}/s" if total else f" {tally.answered:,} answers")
    head = Table.grid(padding=(0, 1))
    head.add_row(ProgressBar(total=total or 1, completed=tally.answered, width=40), done)
    return Group(head, Panel(_figures(tally), title="learnerstream", title_align="left"), _models(tally))


def _figures(tally: Tally) -> Table:
    table = Table.grid(padding=(0, 3))
    recent = tally.quality(len(tally.outcomes) - RECENT)
    latency = tally.latency_s()
    table.add_row("predictions", "  ".join(f"{kind} {count:,}" for kind, count in tally.counts.items()))
    table.add_row("dead letters", f"{tally.dead:,}")
    table.add_row("latency", f"p50 {_ms(latency['p50'])}  p99 {_ms(latency['p99'])}  from event to consumed prediction")
    table.add_row(
        f"latest {RECENT:,}",
        Text.assemble(
            "AUC ", (_number(recent["auc_serving"]), "bold"), f" (fallback {_number(recent['auc_fallback'])})",
            "   log loss ",
            (_number(recent["logloss_serving"]), "bold"), f" (fallback {_number(recent['logloss_fallback'])})",
        ),
    )  # fmt: skip
    counts = Counter(tally.at_risk.values())
    at_risk = Text()
    for category in _CATEGORIES:
        at_risk.append(f"{category} {counts[category]:,}  ", _STYLES[category])
    table.add_row("users at risk", at_risk)
    return table


def _models(tally: Tally) -> Table:
    table = Table.grid(padding=(0, 3))
    serving = f"version {tally.models[-1]['version']}" if tally.models else "the fallback (LNIRT)"
    table.add_row("model", Text.assemble((serving, "bold"), "   learning …" if tally.updating else ""))
    for gate in tally.gates[-3:]:
        verdict = ("live", "green") if gate["promoted"] else ("kept out", "dim")
        candidate, champion = gate["candidate"], gate["champion"]
        losses = f"log loss {candidate['logloss']:.4f} against {champion['logloss']:.4f} on {candidate['n']:,} answers"
        table.add_row(f"candidate {gate['candidate_version']}", Text.assemble(verdict, f"   {losses}"))
    return table


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _ms(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds * 1000:,.0f} ms"
