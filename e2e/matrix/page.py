"""The page that the matrix becomes, and the comparison of two such pages."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

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
    "Connect": "`initialize` or `server/discover`, whichever the client begins with.",
    "Tools": "`tools/list` has the server's tools, `tools/call` gives the right answer.",
    "Progress": "A call's `notifications/progress` come, all of them, in order; of `mcp-remote` all but the last are "
    "asked, because its SDK drops what it reads together with the answer.",
    "Resources": "`resources/list`, `resources/templates/list`, and `resources/read` with the right text.",
    "Prompts": "`prompts/list`, and `prompts/get` with the right text.",
    "Completion": "`completion/complete` gives the values that the server has.",
    "Elicitation": "The server asks the user in the middle of a call, and gets the client's answer.",
    "Sampling": "The server asks the client's model in the middle of a call, and gets its answer.",
    "Log messages": "`logging/setLevel`, or the level in `_meta`, and then a message of the server.",
    "Changed lists": "`notifications/tools/list_changed` comes after the server changed its list.",
    "Resource subscriptions": "A subscription, and then `notifications/resources/updated`.",
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
        "Real clients, through the gateway, with real servers. This page is written by `make compatibility`, which "
        "starts every one of these servers behind a gateway of its own, lets every one of these clients use it, and "
        "compares what comes with what should. Nobody edits it; `make compatibility ARGS=--check` fails where a cell "
        "that says yes here no longer holds.",
        "",
        f"**yes**: done, and the answer is right. **no** with a number: the reason stands below the table. "
        f"**{NOT_APPLICABLE}**: the server does not have it, or the client has no way to use it.",
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
