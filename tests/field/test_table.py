"""The tables of odd servers and clients in the documentation."""

from __future__ import annotations

import json
from pathlib import Path

from tests.field import kinds, table
from tests.field.clients.raw import CLIENTS

PAGE = Path(__file__).parents[2] / "docs" / "compatibility.md"


def test_the_page_has_the_tables_as_they_are_now() -> None:
    section = PAGE.read_text().split(f"\n{table.TITLE}\n")[1]
    assert section.splitlines() == table.render()[1:], "run `make compatibility`"


def test_every_folder_is_a_kind_and_says_what_is_odd() -> None:
    folders = {path.parent.name for path in kinds.HERE.glob("*/server.py")}
    assert {kind.folder for kind in kinds.KINDS} | {"dying"} == folders
    assert all((kinds.HERE / folder / "server.py").read_text().startswith('"""') for folder in folders)


def test_names_are_unique_and_refusals_name_variants() -> None:
    names = [odd.name for odd in kinds.servers()]
    assert len(set(names)) == len(names)
    assert all(kind.refused.keys() <= set(kind.variants) for kind in kinds.KINDS)
    assert len({client.name for client in CLIENTS}) == len(CLIENTS)


def test_the_record_of_what_works_directly_names_servers_and_clients_that_exist() -> None:
    recorded = json.loads(table.DIRECT.read_text())
    assert recorded.keys() <= {odd.name for odd in kinds.servers()}
    assert {sdk for sdks in recorded.values() for sdk in sdks} <= set(table.SDKS)
