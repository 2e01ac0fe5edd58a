"""Measurements -> markdown tables: medians over the rounds, with the smallest and the largest value in brackets.

A ratio or a difference is taken within one round, against the same scenario of another target, and then the median of
them: noise that hits a whole round cancels out.
"""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from matrix import PARTS, Scenario

TITLES = {
    "direct": "upstream alone",
    "nginx": "nginx",
    "aiohttp": "bare aiohttp proxy",
    "gateway-min": "gateway, routing and conflict only",
    "gateway-quiet": "gateway, default plugins, no payload log",
    "gateway": "gateway, default plugins",
    "fastmcp": "fastmcp proxy",
    "mcp-proxy-python": "mcp-proxy (Python)",
    "mcp-proxy-node": "mcp-proxy (Node)",
    "supergateway": "supergateway (Node)",
    "contextforge": "ContextForge",
    "litellm": "LiteLLM gateway",
}
REFERENCES = ("nginx", "aiohttp")
PAGE = Path(__file__).resolve().parents[1] / "docs" / "performance.md"

Row = dict[str, Any]


def key(scenario: Scenario) -> Row:
    """The members of a row that say what was measured."""
    return dataclasses.asdict(scenario)


def scenario_of(row: Row) -> Scenario:
    return Scenario(**{field.name: row[field.name] for field in dataclasses.fields(Scenario)})


def number(value: float) -> str:
    """Three significant digits, without an exponent."""
    size = abs(value)
    return f"{value:,.0f}" if size >= 99.95 else f"{value:.1f}" if size >= 9.995 else f"{value:.2f}"


def spread(values: Sequence[float]) -> str:
    """Median [smallest-largest]."""
    if len(values) == 1:
        return number(values[0])
    return f"{number(statistics.median(values))} [{number(min(values))}-{number(max(values))}]"


def render(environment: Row, rows: Sequence[Row], goals: Sequence[str] = ()) -> str:
    """The whole text between the markers: the table of goals, then one for each part and number of connections."""
    measured = [row for row in rows if "failed" not in row and "connections" in row]
    settings = ", ".join(f"{name} {value}" for name, value in environment.items())
    parts = [f"Measured: {settings}.", "", *goals]
    for part, title in PARTS.items():
        mine = [row for row in measured if row["part"] == part]
        for connections in distinct(row["connections"] for row in mine):
            some = [row for row in mine if row["connections"] == connections]
            parts += ["", f"**{title}, {connections} connection{'s' if connections > 1 else ''}**", "", *_table(some)]
    if measured:
        parts += ["", _checks(measured)]
    for row in rows:
        if "table" in row:
            parts += ["", f"**{row['title']}**", "", *row["table"]]
    failures = distinct(_failure(row) for row in rows if "failed" in row)
    if failures:
        parts += ["", "Not measured:", "", *(f"- {failure}" for failure in failures)]
    return "\n".join(parts)


def _table(rows: Sequence[Row]) -> list[str]:
    references = [name for name in REFERENCES if any(row["target"] == name for row in rows)]
    heads = ["target", "agents", "CPU µs", *(f"of {TITLES[name]}" for name in references), "of a processor"]
    heads += ["calls/s", "p50 ms", "p95 ms", "p99 ms", "RSS MB"]
    lines = [f"| {' | '.join(heads)} |", f"|{'---|' * 2}{'---:|' * (len(heads) - 2)}"]
    for scenario in distinct(map(scenario_of, rows)):
        same = [row for row in rows if scenario_of(row) == scenario]
        direct = [row for row in same if row["target"] == "direct"]
        for target in distinct(row["target"] for row in same):
            mine = [row for row in same if row["target"] == target]
            cells = [TITLES[target], scenario.label, spread([row["cpu_us"] for row in mine])]
            for name in references:
                ratio = ratios(mine, [row for row in same if row["target"] == name], "cpu_us")
                cells.append(f"{statistics.median(ratio.values()):.2f}" if ratio else "-")
            cells.append(f"{_median(mine, 'busy'):.0%}")
            cells.append(spread([row["rps"] for row in mine]))
            cells += [_latency(mine, direct, name) for name in ("p50_us", "p95_us", "p99_us")]
            cells.append(f"{_median(mine, 'rss_mb'):.0f}")
            lines.append(f"| {' | '.join(cells)} |")
    return lines


def _latency(mine: Sequence[Row], direct: Sequence[Row], name: str) -> str:
    """In all for the upstream alone, else what the target adds to that."""
    if not direct or mine[0]["target"] == "direct":
        return number(_median(mine, name) / 1000)
    return f"+{number(statistics.median(added(mine, direct, name).values()) / 1000)}".replace("+-", "-")


def _checks(rows: Sequence[Row]) -> str:
    """What the load and the upstream found while they were at it."""
    answers, wrong = sum(row["answers"] for row in rows), sum(row["errors"] for row in rows)
    said = [f"{answers:,} answers were checked, {wrong or 'none'} {'were' if wrong > 1 else 'was'} wrong."]
    for target in distinct(row["target"] for row in rows if row["errors"]):
        errors = sum(row["errors"] for row in rows if row["target"] == target)
        said.append(f"{TITLES[target]}: {errors} wrong.")
    calls = [row for row in rows if row["what"] == "call"]
    each = {
        target: _median([row for row in calls if row["target"] == target], "upstream_requests")
        for target in distinct(row["target"] for row in calls)
    }
    # none arrives from those that start an upstream of their own over stdio
    others = ", ".join(f"{TITLES[target]} {number(many)}" for target, many in each.items() if many > 1.1)
    said.append(
        f"One call caused one request upstream, except: {others}." if others else "One call caused one request."
    )
    return " ".join(said)


def by_round(
    mine: Sequence[Row], base: Sequence[Row], name: str, combine: Callable[[float, float], float]
) -> dict[int, float]:
    """`combine` of each figure of `mine` with that of `base` in the same round; rounds without both are left out."""
    of_round = {row["round"]: row[name] for row in base}
    return {row["round"]: combine(row[name], of_round[row["round"]]) for row in mine if of_round.get(row["round"])}


def ratios(mine: Sequence[Row], base: Sequence[Row], name: str) -> dict[int, float]:
    return by_round(mine, base, name, lambda one, other: one / other)


def added(mine: Sequence[Row], base: Sequence[Row], name: str) -> dict[int, float]:
    return by_round(mine, base, name, lambda one, other: one - other)


def _failure(row: Row) -> str:
    where = f" ({scenario_of(row).label}, {row['connections']})" if "era" in row else ""
    title = TITLES.get(row.get("target", ""), row.get("part", ""))
    return f"{title}{where}: {row['failed'].strip().splitlines()[-1]}"


def _median(rows: Sequence[Row], name: str) -> float:
    return float(statistics.median(row[name] for row in rows))


def distinct(values: Iterable[Any]) -> list[Any]:
    return list(dict.fromkeys(values))


def publish(page: Path, section: str, text: str) -> None:
    """Replaces what stands between a section's markers in a page. Raises `ValueError` when it has none."""
    begin, end = (f"<!-- {section}: {edge} -->" for edge in ("begin", "end"))
    before, found, rest = page.read_text(encoding="utf-8").partition(begin)
    _, closed, after = rest.partition(end)
    if not (found and closed):
        raise ValueError(f"{page}: the markers '{begin}' and '{end}' are missing")
    page.write_text(f"{before}{begin}\n\n{text}\n\n{end}{after}", encoding="utf-8")
