"""Measurements -> a markdown table: medians over the rounds, with the smallest and the largest value in brackets.

A ratio is taken within one round, against the same scenario of another target, and then the median of the ratios:
noise that hits a whole round cancels out.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

TITLES = {
    "direct": "upstream alone",
    "nginx": "nginx",
    "aiohttp": "bare aiohttp proxy",
    "gateway-min": "gateway, routing and conflict only",
    "gateway-quiet": "gateway, default plugins, no payload log",
    "gateway": "gateway, default plugins",
}
REFERENCES = ("nginx", "aiohttp")
PAGE = Path(__file__).resolve().parents[1] / "docs" / "performance.md"

Row = dict[str, Any]


def number(value: float) -> str:
    """Three significant digits, without an exponent."""
    return f"{value:,.0f}" if value >= 99.95 else f"{value:.1f}" if value >= 9.995 else f"{value:.2f}"


def spread(values: Sequence[float]) -> str:
    """Median [smallest-largest]."""
    return f"{number(statistics.median(values))} [{number(min(values))}-{number(max(values))}]"


def render(environment: Row, rows: Sequence[Row]) -> str:
    """The whole text between the markers: one table for each number of connections."""
    good = [row for row in rows if "failed" not in row]
    settings = ", ".join(f"{key} {value}" for key, value in environment.items())
    parts = [f"Measured: {settings}."]
    for connections in _distinct(row["connections"] for row in good):
        parts += ["", f"**{connections} connection{'s' if connections > 1 else ''}**", "", *_table(good, connections)]
    failures = _distinct(_failure(row) for row in rows if "failed" in row)
    if failures:
        parts += ["", "Not measured:", "", *(f"- {failure}" for failure in failures)]
    return "\n".join(parts)


def _table(rows: Sequence[Row], connections: int) -> list[str]:
    heads = ["target", "era", "CPU µs/call", *(f"of {TITLES[name]}" for name in REFERENCES)]
    heads += ["calls/s", "p50 ms", "p95 ms", "p99 ms", "RSS MB", "upstream requests/call", "wrong answers"]
    lines = [f"| {' | '.join(heads)} |", f"|{'---|' * 2}{'---:|' * (len(heads) - 2)}"]
    for target, title in TITLES.items():
        for era in ("legacy", "modern"):
            mine = _select(rows, target, era, connections)
            if not mine:
                continue
            cells = [title, era, spread([row["cpu_us"] for row in mine])]
            cells += [_ratio(mine, _select(rows, name, era, connections)) for name in REFERENCES]
            cells.append(spread([row["rps"] for row in mine]))
            cells += [number(_median(mine, key) / 1000) for key in ("p50_us", "p95_us", "p99_us")]
            cells += [f"{_median(mine, 'rss_mb'):.0f}", number(_median(mine, "upstream_requests"))]
            cells.append(str(sum(row["errors"] for row in mine)))
            lines.append(f"| {' | '.join(cells)} |")
    return lines


def _ratio(mine: Sequence[Row], base: Sequence[Row]) -> str:
    of_round = {row["round"]: row["cpu_us"] for row in base}
    ratios = [row["cpu_us"] / of_round[row["round"]] for row in mine if of_round.get(row["round"])]
    return f"{statistics.median(ratios):.2f}" if ratios else "-"


def _failure(row: Row) -> str:
    where = f" ({row['era']}, {row['connections']})" if "era" in row else ""
    return f"{TITLES[row['target']]}{where}: {row['failed'].strip().splitlines()[-1]}"


def _select(rows: Sequence[Row], target: str, era: str, connections: int) -> list[Row]:
    return [row for row in rows if (row["target"], row["era"], row["connections"]) == (target, era, connections)]


def _median(rows: Sequence[Row], key: str) -> float:
    return float(statistics.median(row[key] for row in rows))


def _distinct(values: Iterable[Any]) -> list[Any]:
    return list(dict.fromkeys(values))


def publish(page: Path, section: str, text: str) -> None:
    """Replaces what stands between a section's markers in a page. Raises `ValueError` when it has none."""
    begin, end = (f"<!-- {section}: {edge} -->" for edge in ("begin", "end"))
    before, found, rest = page.read_text(encoding="utf-8").partition(begin)
    _, closed, after = rest.partition(end)
    if not (found and closed):
        raise ValueError(f"{page}: the markers '{begin}' and '{end}' are missing")
    page.write_text(f"{before}{begin}\n\n{text}\n\n{end}{after}", encoding="utf-8")
