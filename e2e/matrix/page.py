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
    "Tools": "`tools/list` returns the tools of the server, and `tools/call` returns the right result.",
    "Progress": "All `notifications/progress` of a call arrive in order. With `mcp-remote`, the last one may be "
    "missing, because its SDK drops notifications that arrive together with the result.",
    "Resources": "`resources/list` and `resources/templates/list` return what the server offers, and `resources/read` "
    "returns the right text.",
    "Prompts": "`prompts/list` returns the prompts of the server, and `prompts/get` returns the right text.",
    "Completion": "`completion/complete` returns the values of the server.",
    "Elicitation": "During a call, the server asks the user a question, and receives the client's answer.",
    "Sampling": "During a call, the server asks the client's model a question, and receives its answer.",
    "Log messages": "After `logging/setLevel`, or with the level in `_meta`, a log message from the server arrives.",
    "Changed lists": "`notifications/tools/list_changed` arrives after the server has changed its list of tools.",
    "Resource subscriptions": "After a client has subscribed to a resource and the server has changed it, "
    "`notifications/resources/updated` arrives.",
}
NOT_APPLICABLE: Final = "–"  # noqa: RUF001


@dataclass(frozen=True, slots=True)
class Row:
    """One client or server in the tables of versions."""

    title: str
    about: str
    version: str


# What one client received from one server: the name of a step, and None if the answer was right, or else the reason.
Results = Mapping[str, str | None]


def render(
    gateway: str, clients: Sequence[Row], servers: Sequence[Row], cells: Mapping[tuple[str, str], Results]
) -> str:
    """The whole page. The keys of `cells` are (server, client)."""
    parts = [
        "# Compatibility",
        "",
        "This page shows which clients work with which servers through the gateway. `make compatibility` generates it: "
        "it starts each server behind its own gateway, connects each client, and compares the answers with the "
        "expected ones. Do not edit this page. `make compatibility ARGS=--check` fails if a cell that says **yes** "
        "here no longer does.",
        "",
        f"**yes**: the answer is right. **no (1)**: it is not; reason 1 below the table says why. "
        f"**{NOT_APPLICABLE}**: the server does not have this feature, or the client cannot use it.",
        "",
        f"Tested with {gateway} in its default configuration.",
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
    """The text of one cell; adds its reasons to those of the table."""
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
    """The cells that said yes in a page and no longer do, as `group: server, client: new text`."""
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
