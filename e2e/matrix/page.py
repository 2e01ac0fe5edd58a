"""Writes the matrix as a page, and compares two such pages."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from tests.field import table

GROUPS: Final[Mapping[str, tuple[str, ...]]] = {
    "Connect": ("connect",),
    "Tools": ("tools/list", "tools/call"),
    "Progress": ("progress",),
    "Resources": ("resources/list", "resources/templates/list", "resources/read"),
    "Prompts": ("prompts/list", "prompts/get"),
    "Completion": ("completion/complete",),
    "Elicitation": ("elicitation",),
    "Sampling": ("sampling",),
    "Log messages": ("logging",),
    "Changed lists": ("tools/list_changed",),
    "Resource subscriptions": ("resources/updated",),
}
ABOUT: Final[Mapping[str, str]] = {
    "Connect": "`initialize` or `server/discover`, depending on the client.",
    "Tools": "`tools/list` has the tools of the server, and `tools/call` returns the right answer.",
    "Progress": "All `notifications/progress` of a call arrive, in order. With `mcp-remote` the last may be missing, "
    "because its SDK drops what it reads together with the answer.",
    "Resources": "`resources/list`, `resources/templates/list`, and `resources/read` with the right text.",
    "Prompts": "`prompts/list`, and `prompts/get` with the right text.",
    "Completion": "`completion/complete` returns the values of the server.",
    "Elicitation": "The server asks the user during a call, and receives the answer of the client.",
    "Sampling": "The server asks the model of the client during a call, and receives its answer.",
    "Log messages": "After `logging/setLevel`, or with the level in `_meta`, a log message of the server arrives.",
    "Changed lists": "`notifications/tools/list_changed` arrives after the server changed its list.",
    "Resource subscriptions": "After a subscription, `notifications/resources/updated` arrives.",
}
NOT_APPLICABLE: Final = "–"  # noqa: RUF001


@dataclass(frozen=True, slots=True)
class Row:
    """One client or server in the tables of versions."""

    title: str
    about: str
    version: str


# What one client got of one server: a step's name, and None for right or the reason for not.
Results = Mapping[str, str | None]


def render(
    gateway: str, clients: Sequence[Row], servers: Sequence[Row], cells: Mapping[tuple[str, str], Results]
) -> str:
    """The whole page; `cells` has (server, client)."""
    parts = [
        "# Compatibility",
        "",
        "This page shows which clients work with which servers through the gateway. `make compatibility` writes it: it "
        "starts each server behind its own gateway, lets each client use it, and compares the answers with the right "
        "ones. Do not edit the page. `make compatibility ARGS=--check` fails if a cell that says yes here no longer "
        "holds.",
        "",
        f"**yes**: the answer is right. **no** with a number: the reason is below the table. "
        f"**{NOT_APPLICABLE}**: the server does not have this feature, or the client cannot use it.",
        "",
        f"The gateway is {gateway}, with its defaults.",
        "",
        "## Versions",
        "",
        *_table(("client", "what", "version, revision"), [(row.title, row.about, row.version) for row in clients]),
        "",
        *_table(("server", "package", "version"), [(row.title, row.about, row.version) for row in servers]),
    ]
    for group, steps in GROUPS.items():
        lines = list(_group(steps, [row.title for row in clients], [row.title for row in servers], cells))
        if lines:
            parts += ["", f"## {group}", "", ABOUT[group], "", *lines]
    parts += ["", *table.render()]
    return "\n".join(parts) + "\n"


def _group(
    steps: Sequence[str], clients: Sequence[str], servers: Sequence[str], cells: Mapping[tuple[str, str], Results]
) -> Iterator[str]:
    reasons: list[str] = []
    rows: list[tuple[str, ...]] = []
    for server in servers:
        row = [_cell(steps, cells[server, client], reasons) for client in clients]
        if set(row) != {NOT_APPLICABLE}:
            rows.append((server, *row))
    if rows:
        yield from _table(("", *clients), rows)
    if reasons:
        yield ""
        yield from (f"{number}. {reason}" for number, reason in enumerate(reasons, start=1))


def _cell(steps: Sequence[str], results: Results, reasons: list[str]) -> str:
    """What one cell says; adds its reasons to those of the table."""
    done = [step for step in steps if step in results]
    if not done:
        return NOT_APPLICABLE
    numbers = []
    for step in done:
        error = results[step]
        if error is None:
            continue
        reason = f"`{step}`: {error}"
        if reason not in reasons:
            reasons.append(reason)
        numbers.append(str(reasons.index(reason) + 1))
    return f"no ({', '.join(numbers)})" if numbers else "yes"


def _table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> Iterator[str]:
    heads = list(heads)
    yield _line(heads)
    yield "|" + "---|" * len(heads)
    yield from (_line(row) for row in rows)


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def lost(before: str, now: str) -> list[str]:
    """The cells that said yes in a page and say so no longer, as `group: server, client: what it says`."""
    said = dict(_said(before))
    says = dict(_said(now))
    return [
        f"{group}: {server}, {client}: {says.get((group, server, client), 'not in the table')}"
        for (group, server, client), cell in said.items()
        if cell == "yes" and says.get((group, server, client)) != "yes"
    ]


def _said(page: str) -> Iterator[tuple[tuple[str, str, str], str]]:
    """Each cell of a page's tables: (group, server, client) and its text."""
    group, clients = "", []
    for line in page.splitlines():
        if line.startswith("## "):
            group, clients = line.removeprefix("## "), []
        elif line.startswith("| ") and group in GROUPS:
            server, *cells = (cell.strip() for cell in line.strip("|").split("|"))
            if not clients:
                clients = cells
            else:
                yield from (((group, server, client), cell) for client, cell in zip(clients, cells, strict=True))
