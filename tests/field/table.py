"""The tables of odd servers and clients in `docs/compatibility.md`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from tests.field.clients import headers, http, messages, sessions
from tests.field.clients.raw import CLIENTS
from tests.field.kinds import KINDS, Kind, OddServer

DIRECT: Final = Path(__file__).with_name("direct.json")
"""Server -> clients that cannot use it directly; `e2e/field/run.py --write` makes it."""
SDKS: Final = ("Python 1", "Python 2", "TypeScript 1", "TypeScript 2")
TITLE: Final = "## Unusual servers and clients"
_OF_CLIENTS: Final = {"Messages": messages, "Sessions": sessions, "Headers": headers, "HTTP": http}


def render() -> list[str]:
    """The lines of the section."""
    direct: dict[str, list[str]] = json.loads(DIRECT.read_text())
    return [
        TITLE,
        "",
        "Servers and clients in the field break the specification in many ways. The gateway is strict in what it sends "
        "and tolerant of what the official clients tolerate. `tests/field/` has each of these servers and clients.",
        "",
        "### Servers",
        "",
        "Four clients use each server: those of the Python SDK 1 and 2 and of the TypeScript SDK 1 and 2. *Directly* "
        "is what happens without the gateway: a client fails if it cannot use everything that the server offers. "
        "*Through the gateway* is the same for all four.",
        "",
        *_table(
            ("what is unusual", "variants", "directly", "through the gateway"),
            (row for kind in KINDS if kind.folder != "usual" for row in _of_kind(kind, direct)),
        ),
        "",
        "### Clients",
        "",
        *_table(
            ("area", "what is unusual", "the gateway"),
            (
                (title, client.odd, f"refuses: {client.refused}" if client.refused else "works")
                for title, module in _OF_CLIENTS.items()
                for client in CLIENTS
                if client.talk.__module__ == module.__name__
            ),
        ),
    ]


def _of_kind(kind: Kind, direct: dict[str, list[str]]) -> Iterator[tuple[str, ...]]:
    """The rows of a kind: one for all variants that end alike."""
    rows: dict[tuple[str, str], list[str]] = {}
    for variant in kind.variants:
        failing = direct.get(OddServer(kind, variant).name, [])
        reason = kind.refused.get(variant)
        ends = _clients(failing), f"refused: {reason}" if reason else kind.answer
        rows.setdefault(ends, []).append(variant)
    for (failing_clients, answer), variants in rows.items():
        yield kind.odd, ", ".join(f"`{variant}`" for variant in variants), failing_clients, answer


def _clients(failing: list[str]) -> str:
    if not failing:
        return "works"
    return "fails with all" if len(failing) == len(SDKS) else f"fails with {', '.join(failing)}"


def _table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> Iterator[str]:
    heads = list(heads)
    yield f"| {' | '.join(heads)} |"
    yield "|" + "---|" * len(heads)
    for row in rows:
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |"
