"""The two figures that matter most as bars, in SVG: CPU per call, and the latency that a target adds.

Scales are logarithmic, since targets differ by factors of a thousand. Colours read on light and on dark pages.
"""

from __future__ import annotations

import html
import math
import statistics
from collections.abc import Sequence
from pathlib import Path

from goals import of
from matrix import Scenario
from report import TITLES, Row, added, distinct, number

_LABEL, _WIDTH, _ROW, _TOP = 290, 780, 28, 52
_PLOT = _WIDTH - _LABEL - 70
_OURS, _OTHERS, _TEXT, _GRID = "#2f81f7", "#8b949e", "#6e7781", "#8b949e55"

Bar = tuple[str, float]
"""(target, value)"""


def publish(page: Path, section: str, rows: Sequence[Row]) -> str:
    """Writes a section's charts beside its page; returns the markdown that shows them, empty without figures."""
    charts = {
        "cpu": ("CPU of a call, µs (16 connections, 100 B, legacy agents)", cpu(rows)),
        "latency": ("added latency, p50 in µs (1 connection, 100 B, legacy agents)", latency(rows)),
    }
    shown = []
    for name, (title, bars) in charts.items():
        if bars:
            folder = page.parent / "img"
            folder.mkdir(exist_ok=True)
            file = folder / f"{section}-{name}.svg"
            file.write_text(draw(title, bars), encoding="utf-8")
            shown.append(f"![{title}](img/{file.name})")
    return "\n\n".join(shown)


def cpu(rows: Sequence[Row]) -> list[Bar]:
    scenario = Scenario("legacy", 16)
    found = {name: [row["cpu_us"] for row in of(rows, name, scenario)] for name in _targets(rows)}
    return [(name, statistics.median(values)) for name, values in found.items() if values]


def latency(rows: Sequence[Row]) -> list[Bar]:
    scenario = Scenario("legacy", 1)
    direct = of(rows, "direct", scenario)
    found = {name: added(of(rows, name, scenario), direct, "p50_us").values() for name in _targets(rows)}
    # noise can make a proxy faster than none, which a logarithm cannot show
    return [(name, statistics.median(values)) for name, values in found.items() if values and min(values) > 0]


def _targets(rows: Sequence[Row]) -> list[str]:
    return [name for name in distinct(row.get("target") for row in rows) if name not in {None, "direct"}]


def draw(title: str, bars: Sequence[Bar]) -> str:
    """Horizontal bars on a logarithmic scale of whole decades."""
    low = math.floor(math.log10(min(value for _, value in bars)))
    high = max(low + 1, math.ceil(math.log10(max(value for _, value in bars))))
    height = _TOP + _ROW * len(bars) + 8

    def across(value: float) -> float:
        return _LABEL + _PLOT * (math.log10(value) - low) / (high - low)

    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}" '
        f'role="img" font-family="sans-serif" font-size="13" fill="{_TEXT}">',
        f"<title>{html.escape(title)}</title>",
        f'<text x="8" y="18" font-size="14" font-weight="bold">{html.escape(title)}</text>',
    ]
    for power in range(low, high + 1):
        x = across(10**power)
        lines.append(f'<line x1="{x:.1f}" y1="{_TOP - 8}" x2="{x:.1f}" y2="{height - 8}" stroke="{_GRID}"/>')
        lines.append(f'<text x="{x:.1f}" y="{_TOP - 13}" font-size="11" text-anchor="middle">{10.0**power:,g}</text>')
    for place, (target, value) in enumerate(bars):
        y = _TOP + _ROW * place
        colour = _OURS if target.startswith("gateway") else _OTHERS
        # the scale has no zero: a value on its lower end still gets a line
        width = max(2.0, across(value) - _LABEL)
        lines.append(f'<text x="{_LABEL - 8}" y="{y + 15}" text-anchor="end">{html.escape(TITLES[target])}</text>')
        lines.append(f'<rect x="{_LABEL}" y="{y}" width="{width:.1f}" height="{_ROW - 8}" rx="2" fill="{colour}"/>')
        lines.append(f'<text x="{_LABEL + width + 6:.1f}" y="{y + 15}">{number(value)}</text>')
    return "\n".join([*lines, "</svg>"]) + "\n"
