"""
What pages are made of: words, tables and drawings, as HTML and SVG that need no script and nothing from elsewhere.

Pure. Lengths in drawings are in units of an SVG that is `WIDTH` wide.
"""
# ruff: noqa: RUF001 (ranges and what is missing are shown with en dashes)

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from stream.learning.groups import Group

# ---------------------------------------------------------------------------------------------------------- words


def four_digits(value: float | None) -> str:
    """Return a figure with four digits, a dash where there is none."""
    return "–" if value is None or math.isnan(value) else f"{value:.4f}"


def as_seconds(value: float | None) -> str:
    """Return seconds, a dash where there are none."""
    return "–" if value is None else f"{value:.2f} s"


def as_percent(share: float | None) -> str:
    """Return a share in percent, a dash where there is none."""
    return "–" if share is None or math.isnan(share) else f"{100 * share:.1f}%"


def two_digits(value: float) -> str:
    """Return a value above 0 with two digits, or as a whole number."""
    return f"{value:.2g}" if value < 10 else f"{value:,.0f}"  # noqa: PLR2004 (two digits)


def code(name: str) -> str:
    """Return a name as code that may break at its underscores."""
    return f"<code>{escape(name).replace('_', '_<wbr>')}</code>"


def section(heading: str, content: str, note: str) -> str:
    """Return a section of a page; the content is HTML."""
    return f'<section><h2>{heading}</h2><p class="note">{note}</p>{content}</section>'


def pair(drawing: str, table: str) -> str:
    """Return a drawing and a table side by side."""
    return f'<div class="pair"><figure>{drawing}</figure>{table}</div>'


def table(caption: str, head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table of cells that are HTML already; the first of a row is its heading."""
    heads = "".join(f'<th scope="col">{name}</th>' for name in head)
    lines = (f'<tr><th scope="row">{first}</th>' + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"
             for first, *cells in rows)  # fmt: skip
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-label="{caption}"><table><caption>{caption}</caption>'
        f"<thead><tr>{heads}</tr></thead><tbody>{''.join(lines)}</tbody></table></div>"
    )


Column = tuple[str, Callable[[float | None], str], Callable[[float], float]]
"""A figure's heading, how it is shown, and what is least where it is best."""


def models_table(
    models: Mapping[str, Mapping[str, Any]], serving: str, columns: Mapping[str, Column], plain: Mapping[str, str]
) -> str:
    """
    Return the figures of models, the best of each column bold.

    Args:
        models: Figures by the model's name; None where it says nothing.
        serving: Which one would serve.
        columns: Figures that are shown.
        plain: What models are, in words.
    """
    models = {name: found for name, found in models.items() if any(found[key] is not None for key in columns)}
    columns = {key: each for key, each in columns.items() if any(found[key] is not None for found in models.values())}
    best = {
        key: show(min((found[key] for found in models.values() if found[key] is not None), key=badness))
        for key, (_, show, badness) in columns.items()
    }
    rows = []
    for name, found in models.items():
        serves = ' <span class="badge">serves</span>' if name == serving else ""
        words = f"<small>{escape(plain[name])}</small>" if name in plain else ""
        cells = {key: show(found[key]) for key, (_, show, _) in columns.items()}
        marked = (f"<strong>{cell}</strong>" if cell == best[key] else cell for key, cell in cells.items())
        rows.append((code(name) + serves + words, *marked))
    return table("Figures of all models", ("model", *(head for head, *_ in columns.values())), rows)


# ------------------------------------------------------------------------------------------------------- drawings

WIDTH, HEIGHT, LEFT, RIGHT = 400, 412, 44, 382


@dataclass(frozen=True, slots=True)
class Scale:
    """From values to lengths, linear."""

    values: tuple[float, float]
    lengths: tuple[float, float]

    def __call__(self, value: float) -> float:
        """Return the length of a value."""
        (low, high), (start, end) = self.values, self.lengths
        return start + (end - start) * (value - low) / (high - low)


def round_ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Return round values, about so many, the first at or below `low`, the last at or above `high`."""
    rough = max(high - low, 1e-3) / about
    power = 10 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * 0.999)
    first = math.floor(low / step + 1e-9)
    last = max(math.ceil(high / step - 1e-9), first + 1)
    return [round(step * number, 10) for number in range(first, last + 1)]


def alike(ticks: Sequence[float]) -> Callable[[float], str]:
    """Return how ticks are shown: all with as many digits as one of them needs."""
    digits = max(len(f"{tick:g}".partition(".")[2]) for tick in ticks)
    return lambda tick: f"{tick:.{digits}f}"


def share_ticks(values: Iterable[float], about: int = 5) -> list[float]:
    """Return ticks within [0, 1], two at least, that hold all of some shares."""
    known = list(values)
    return [tick for tick in round_ticks(min(0.98, *known), max(known), about) if 0 <= tick <= 1]


def log_ticks(low: float, high: float) -> list[float]:
    """Return logarithms of round values between two logarithms, as close as seven of them allow."""
    found: list[float] = []
    for factors in ((1,), (1, 2, 5), (1, 1.5, 2, 3, 4, 5, 7)):
        powers = range(math.floor(low), math.ceil(high) + 1)
        closer = [power + math.log10(factor) for power in powers for factor in factors]
        closer = [tick for tick in closer if low <= tick <= high]
        found = closer if len(closer) <= 7 or not found else found  # noqa: PLR2004 (that is the room)
    return found


def tag(name: str, content: str = "", **attributes: str | float) -> str:
    """Return an element; numbers are lengths, `class_` is `class`, `text_anchor` is `text-anchor`."""
    given = (
        f' {key.rstrip("_").replace("_", "-")}="{escape(value) if isinstance(value, str) else format(value, ".1f")}"'
        for key, value in attributes.items()
    )
    return f"<{name}{''.join(given)}>{content}</{name}>"


def svg(key: str, title: str, description: str, below: str, *body: str, height: float = HEIGHT) -> str:
    """Return a drawing with what its horizontal axis shows written below."""
    return (
        f'<svg viewBox="0 0 {WIDTH} {height:g}" role="img" aria-labelledby="{key}-title {key}-desc">'
        f'<title id="{key}-title">{title}</title><desc id="{key}-desc">{description}</desc>'
        f"{''.join(body)}{text((LEFT + RIGHT) / 2, height - 4, below)}</svg>"
    )


def text(x: float, y: float, words: str, anchor: str = "middle") -> str:
    """Return words at a place."""
    return tag("text", escape(words), x=x, y=y, text_anchor=anchor)


def line(x: float, y: float, x_end: float, y_end: float, kind: str) -> str:
    """Return a straight line."""
    return tag("line", x1=x, y1=y, x2=x_end, y2=y_end, class_=kind)


def path(points: Iterable[tuple[float, float]], kind: str = "predicted") -> str:
    """Return a line through points."""
    return tag("polyline", points=" ".join(f"{x:.1f},{y:.1f}" for x, y in points), class_=kind)


def dot(x: float, y: float, words: str, kind: str = "observed", radius: float = 4.5) -> str:
    """Return a dot whose words are shown where the pointer rests."""
    return tag("circle", tag("title", escape(words)), cx=x, cy=y, r=radius, class_=kind)


def whiskered(x: float, y: Scale, share: float, interval: tuple[float, float], words: str) -> str:
    """Return an observed share, or time, with the interval about it."""
    return line(x, y(interval[0]), x, y(interval[1]), "whisker") + dot(x, y(share), words)


def legend(x: float, y: float, kind: str, words: str) -> str:
    """Return a mark, and what it means."""
    mark = dot(x + 8, y, words) if kind == "observed" else line(x, y, x + 16, y, kind)
    return mark + text(x + 24, y + 4, words, "start")


def levels(y: Scale, ticks: Iterable[float], show: Callable[[float], str]) -> str:
    """Return a horizontal line at each tick, and its value at the left."""
    return "".join(
        line(LEFT, y(tick), RIGHT, y(tick), "grid") + text(LEFT - 7, y(tick) + 4, show(tick), "end") for tick in ticks
    )


def as_round_percent(share: float) -> str:
    """Return a round share in percent."""
    return f"{100 * share:g}%"


def reliability_diagram(groups: Sequence[Group], came: str, things: str) -> str:
    """
    Return how often something came over how probable it was said to be, and how often that was said.

    Args:
        groups: By what was said, of equal width from 0 to 1.
        came: What came, for instance `right`.
        things: Of which it is told, for instance `answers`.
    """
    x, y = Scale((0, 1), (LEFT, RIGHT)), Scale((0, 1), (290, 24))
    height = Scale((0, max(group.n for group in groups)), (0, 54))
    ticks = [number / 5 for number in range(6)]
    marks = []
    for number, each in enumerate(groups):
        bar = {"x": x(number / len(groups)) + 1.5, "width": (RIGHT - LEFT) / len(groups) - 3}
        bar |= {"y": 372 - height(each.n), "height": height(each.n)}
        marks.append(tag("rect", tag("title", f"{each.name}: {each.n:,} {things}"), class_="bar", **bar))
        if each.n:
            words = f"predicted {as_percent(each.p_correct)}, {came} {as_percent(each.right)} of {each.n:,}"
            marks.append(whiskered(x(each.p_correct), y, each.right, each.interval, words))
    return svg(
        "reliability", "Reliability diagram", f"Share {came} over the probability that was predicted, in ten bins, "
        f"with 95% intervals; below, the number of {things} in each bin.", "probability that was predicted",
        text(4, 12, f"share {came}", "start"), levels(y, ticks, as_round_percent),
        line(x(0), y(0), x(1), y(1), "ideal"), *marks, text(4, 312, things, "start"),
        line(LEFT, 372, RIGHT, 372, "grid"), *(text(x(tick), 389, as_round_percent(tick)) for tick in ticks),
        legend(54, 40, "observed", "observed"), legend(54, 58, "ideal", "as it should be"),
    )  # fmt: skip


# ----------------------------------------------------------------------------------------------------------- page


def header(file: str, users: Mapping[str, int], lead: str) -> str:
    """Return the head of a page about an evaluation; `lead` is HTML, `users` the number in each part."""
    parts = "".join(
        f'<span class="{part}" style="flex-grow:{count}">{count:,} {_PARTS[part]}</span>'
        for part, count in users.items()
    )
    return (
        f'<header><p class="eyebrow">learnerstream · evaluation</p><h1>{escape(file)}</h1>'
        f'<p class="lead">{lead}</p><div class="split" aria-hidden="true">{parts}</div></header>'
    )


_PARTS = {"training": "train", "validation": "validate", "test": "test"}


def footer(report: Mapping[str, Any], note: str) -> str:
    """Return the foot of a page about an evaluation."""
    versions = ", ".join(f"{name} {version}" for name, version in report["versions"].items())
    return (
        f"<footer><p>Task {escape(report['task'])}, protocol {escape(report['protocol'])}, seed {report['seed']}, "
        f"{report['seconds']:,} seconds; {escape(versions)}.</p><p>{note}</p>"
        f"<p>SHA-256 of the file: <code>{escape(report['digest'])}</code></p></footer>"
    )


def page(title: str, sections: Iterable[str]) -> str:
    """Return a whole page."""
    return _PAGE.format(title=escape(title), style=_STYLE, body="\n".join(sections))


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
.curve { fill: none; stroke-width: 1.8; } .curve-0 { stroke: var(--said); } .curve-1 { stroke: var(--seen); }
.curve-2 { stroke: var(--said); stroke-dasharray: 6 3; } .curve-3 { stroke: var(--seen); stroke-dasharray: 2 3; }
.heat { fill: var(--said); } .tile svg { margin-top: 8px; max-width: 420px; } .apart { margin-top: 28px; }
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
