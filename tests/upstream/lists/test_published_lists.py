"""The gateway's own copy of the lists of a server: which fetches count as a difference to the lists before."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from gateway_core.config import UpstreamConfig
from gateway_core.errors import RpcError
from gateway_core.upstream.base import ServerInfo
from gateway_core.upstream.lists import gathering
from gateway_core.upstream.lists.kept_lists import KeptLists
from gateway_core.upstream.lists.published_lists import PublishedLists
from gateway_core.upstream.requests import Reply
from gateway_core.upstream.status import Definitions, UpstreamEvents

BOTH = {"tools": {}, "prompts": {}}


class Server:
    """A server, the lists that the gateway fetched from it, and the differences that were reported."""

    closed = False

    def __init__(self, kept: KeptLists | None = None) -> None:
        self.info = ServerInfo("modern", "2026-07-28", BOTH, "notes", "1.0")
        self.lists: dict[str, Any] = {"tools": ["read"], "prompts": ["sum up"]}
        """Names, or an error that is raised for the list."""
        self.slow = asyncio.Event()
        self.reported: list[dict[str, tuple[list[str], list[str]]]] = []
        config = UpstreamConfig(name="notes", transport="stdio", command="x")
        events = UpstreamEvents(lists_differ=self.differ)
        self.published = PublishedLists(config, events, kept=kept or KeptLists())

    def differ(self, upstream: str, before: Definitions, after: Definitions, private: object = None, /) -> None:
        assert upstream == "notes"
        assert before.keys() == after.keys()
        self.reported.append({kind: (names(before[kind]), names(after[kind])) for kind in after})

    async def request(self, method: str, params: Mapping[str, Any]) -> Reply:
        key = method.partition("/")[0]
        found = self.lists[key]
        if found == "slow":
            await self.slow.wait()
            found = ["late"]
        if isinstance(found, RpcError):
            raise found
        listed = [{"name": name, "inputSchema": {"type": "object"}} for name in found]
        return Reply(json.dumps({key: listed, "ttlMs": 0, "cacheScope": "public"}).encode())

    async def fetch(self) -> None:
        await self.published.fetch(self)  # type: ignore[arg-type] - as much of a connection as it needs


def names(items: Any) -> list[str]:
    return [item.name for item in items]


async def test_the_first_lists_and_equal_ones_are_no_difference() -> None:
    server = Server()
    for _ in range(3):
        await server.fetch()
    assert server.reported == []


async def test_only_the_list_that_changed_is_reported() -> None:
    server = Server()
    await server.fetch()
    server.lists["tools"] = ["read", "write"]
    await server.fetch()
    assert server.reported == [{"tool": (["read"], ["read", "write"])}]


async def test_a_list_that_fails_removes_nothing_and_is_compared_when_it_comes_back() -> None:
    server = Server()
    await server.fetch()
    server.lists["tools"] = RpcError(-32603, "no")
    await server.fetch()
    assert server.reported == []
    server.lists["tools"] = ["write"]
    await server.fetch()
    assert server.reported == [{"tool": (["read"], ["write"])}]


async def test_lists_that_a_server_stops_or_begins_to_announce_are_removed_and_added() -> None:
    server = Server()
    await server.fetch()
    server.info = ServerInfo("modern", "2026-07-28", {"tools": {}}, "notes", "1.0")
    await server.fetch()
    assert server.reported == [{"prompt": (["sum up"], [])}]
    server.info = ServerInfo("modern", "2026-07-28", BOTH, "notes", "1.0")
    await server.fetch()
    assert server.reported[1:] == [{"prompt": ([], ["sum up"])}]


async def test_a_slow_list_is_compared_when_it_arrives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gathering, "SIDE_PATIENCE", 0.05)
    server = Server()
    await server.fetch()
    server.lists["prompts"] = "slow"
    await server.fetch()
    assert server.reported == []
    server.slow.set()
    async with asyncio.timeout(20):
        while not server.reported:
            await asyncio.sleep(0.01)
    assert server.reported == [{"prompt": (["sum up"], ["late"])}]
    await server.published.close()


async def test_another_version_of_the_server_is_compared_with_the_lists_of_the_last_run(tmp_path: Path) -> None:
    first = Server(KeptLists(tmp_path / "lists"))
    await first.fetch()
    await first.published._kept.close()
    second = Server(KeptLists(tmp_path / "lists"))
    second.info = ServerInfo("modern", "2026-07-28", BOTH, "notes", "2.0")
    second.lists["tools"] = ["write"]
    await second.fetch()
    changed = {kind: found for one in second.reported for kind, found in one.items() if found[0] != found[1]}
    assert changed == {"tool": (["read"], ["write"])}


async def test_lists_of_a_configuration_that_is_not_in_force_are_compared_once_it_is() -> None:
    server = Server()
    await server.fetch()
    server.published.keep(False)
    server.lists["tools"] = ["write"]
    await server.fetch()
    assert server.reported == []
    server.published.keep(True)
    assert server.reported == [{"tool": (["read"], ["write"])}]


async def test_a_server_that_serves_only_principals_removes_nothing() -> None:
    server = Server()
    await server.fetch()
    server.published.per_principal()
    server.lists["tools"] = RpcError(-32603, "no")
    await server.fetch()
    server.lists["tools"] = ["read"]
    await server.fetch()
    changed = [found for one in server.reported for found in one.values() if found[0] != found[1]]
    assert changed == []


async def test_a_server_that_serves_only_principals_in_another_configuration_removes_nothing() -> None:
    server = Server()
    await server.fetch()
    server.published.keep(False)
    server.published.per_principal()
    server.published.keep(True)
    assert server.reported == []
    server.lists["tools"] = ["read", "write"]
    await server.fetch()
    changed = {kind: found for one in server.reported for kind, found in one.items() if found[0] != found[1]}
    assert changed == {"tool": (["read"], ["read", "write"])}


async def test_a_slow_list_of_a_server_that_serves_only_principals_by_now_removes_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(gathering, "SIDE_PATIENCE", 0.05)
    server = Server()
    await server.fetch()
    server.lists["prompts"] = "slow"
    await server.fetch()
    server.published.per_principal()
    server.slow.set()
    async with asyncio.timeout(20):
        while server.published._late:
            await asyncio.sleep(0.01)
    assert server.reported == []


async def test_after_a_run_in_which_a_server_served_only_principals_its_first_lists_are_no_difference(
    tmp_path: Path,
) -> None:
    first = Server(KeptLists(tmp_path / "lists"))
    await first.fetch()
    first.published.per_principal()
    await first.published._kept.close()
    second = Server(KeptLists(tmp_path / "lists"))
    assert second.published.of_earlier_process
    await second.fetch()
    assert second.reported == []
