"""Small charts as inline SVG for the report: values with intervals, and learning curves; styled by the page."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

ROW_PX = 26
LABEL_PX = 190
PLOT_PX = 430
CURVE_WIDTH_PX, CURVE_HEIGHT_PX = 190, 108


@dataclass(frozen=True)
class Mark:
    """A value with its interval on one row of a dot plot; `series` picks the colour (class s0, s1, …)."""

    mean: float
    low: float
    high: float
    series: int
    title: str


@dataclass(frozen=True)
class Row:
    """A row of a dot plot: its name, its marks, and the paper's value where there is one."""

    name: str
    marks: Sequence[Mark]
    paper: float | None


def dot_plot(rows: Sequence[Row], label: str) -> str:
    """Means as dots, 95 % intervals as lines, the paper's values as hollow diamonds; `label` is read aloud."""
    values = [value for row in rows for mark in row.marks for value in (mark.mean, mark.low, mark.high)]
    values = [
        value for value in [*values, *(row.paper for row in rows if row.paper is not None)] if math.isfinite(value)
    ]
    if not values:
        return ""
    ticks = _ticks(min(values), max(values))
    low, high = min(ticks[0], *values), max(ticks[-1], *values)

    def x(value: float) -> float:
        return LABEL_PX + 10 + (min(max(value, low), high) - low) / (high - low) * (PLOT_PX - 36)

    height = ROW_PX * len(rows) + 30
    parts = [f'<svg class="dots" viewBox="0 0 {LABEL_PX + PLOT_PX} {height}" role="img" aria-label="{escape(label)}">']
    for tick in ticks:
        parts.append(f'<line class="grid" x1="{x(tick):.1f}" x2="{x(tick):.1f}" y1="4" y2="{height - 24}"/>')
        parts.append(f'<text class="tick" x="{x(tick):.1f}" y="{height - 8}">{number(tick)}</text>')
    for index, row in enumerate(rows):
        middle = 4 + ROW_PX * (index + 0.5)
        parts.append(f'<text class="name" x="{LABEL_PX - 8}" y="{middle + 4:.1f}">{escape(row.name)}</text>')
        for place, mark in enumerate(row.marks):
            y = middle + (place - (len(row.marks) - 1) / 2) * min(6.0, 20.0 / max(1, len(row.marks)))
            parts.append(f'<g class="s{mark.series}"><title>{escape(mark.title)}</title>')
            if math.isfinite(mark.low) and math.isfinite(mark.high):
                parts.append(f'<line x1="{x(mark.low):.1f}" x2="{x(mark.high):.1f}" y1="{y:.1f}" y2="{y:.1f}"/>')
            parts.append(f'<circle cx="{x(mark.mean):.1f}" cy="{y:.1f}" r="3"/></g>')
        if row.paper is not None:
            px = x(row.paper)
            parts.append(
                f'<path class="paper" d="M{px:.1f} {middle - 6:.1f}l5 6l-5 6l-5 -6z"><title>the paper: '
                f"{number(row.paper)}</title></path>"
            )
    parts.append("</svg>")
    return "".join(parts)


def curves(lines: Sequence[tuple[str, Sequence[tuple[int, float]]]], kept: float, label: str) -> str:
    """One small chart of several lines; each is (class, pairs of epoch and value), values that are NaN being gaps.

    `kept`: the epoch whose weights were left behind, marked where it is not the last.
    """
    finite = [(name, [pair for pair in pairs if math.isfinite(pair[1])]) for name, pairs in lines]
    values = [value for _, pairs in finite for _, value in pairs]
    if not values:
        return ""
    low, high = min(values), max(values)
    span = (high - low) or 1.0
    last = max(epoch for _, pairs in finite for epoch, _ in pairs)
    width, height, left = CURVE_WIDTH_PX, CURVE_HEIGHT_PX, 34

    def x(epoch: float) -> float:
        return left + epoch / max(1, last) * (width - left - 6)

    def point(epoch: int, value: float) -> str:
        return f"{x(epoch):.1f},{6 + (high - value) / span * (height - 24):.1f}"

    parts = [f'<svg class="curves" viewBox="0 0 {width} {height}" role="img" aria-label="{escape(label)}">']
    for value, y in ((high, 10), (low, height - 16)):
        parts.append(f'<text class="tick" x="{left - 4}" y="{y}" text-anchor="end">{number(value)}</text>')
    parts.append(f'<text class="tick" x="{width - 6}" y="{height - 3}" text-anchor="end">epoch {last}</text>')
    if kept < last:
        parts.append(f'<line class="kept" x1="{x(kept):.1f}" x2="{x(kept):.1f}" y1="6" y2="{height - 18}">')
        parts.append(f"<title>kept: epoch {kept:.0f}</title></line>")
    for name, pairs in finite:
        parts.append(f'<polyline class="{name}" points="{" ".join(point(*pair) for pair in pairs)}"/>')
    parts.append("</svg>")
    return "".join(parts)


def number(value: float) -> str:
    """Three significant places in the paper's manner: .826, -.04, 1.25, 12.3."""
    if not math.isfinite(value):
        return "–"
    text = f"{value:.3f}" if abs(value) < 1 else f"{value:.3g}"
    return text.replace("0.", ".", 1) if abs(value) < 1 else text


def _ticks(low: float, high: float) -> list[float]:
    """Four to eight round values that span [low, high]."""
    span = (high - low) or abs(high) or 1.0
    step = 10 ** math.floor(math.log10(span / 4))
    step *= next(factor for factor in (1, 2, 5, 10) if span / (step * factor) <= 6)
    first, last = math.floor(low / step), math.ceil(high / step)
    if first == last:  # all values are the same round one
        first, last = first - 1, last + 1
    return [round(index * step, 10) for index in range(first, last + 1)]
