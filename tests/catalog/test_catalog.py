"""When the catalog has changed, and when it has not."""

import json
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

import pytest
from loguru import logger

from gateway_core.api import Principal, UpstreamState
from gateway_core.catalog import Catalog
from gateway_core.config import LimitsConfig, ProxyConfig, UpstreamConfig
from gateway_core.exchange.exchange import Agent
from gateway_core.sealing import Seal
from gateway_core.upstream.base import Connection, ServerInfo
from gateway_core.upstream.requests import Reply
from gateway_core.upstream.status import UpstreamEvents
from gateway_core.upstream.upstream import Upstream

INFO = ServerInfo("modern", "2026-07-28", {"tools": {}, "resources": {}})
LISTS: Mapping[str, Any] = {
    "tools/list": {"tools": [{"name": f"t{number}", "inputSchema": {}} for number in range(5)]},
    "resources/list": {"resources": [{"name": "r", "uri": "x:r"}]},
    "resources/templates/list": {"resourceTemplates": [{"name": "t", "uriTemplate": "x:{name}"}]},
}


class Server:
    """A connection to a server with those lists."""

    info = INFO
    closed = False

    def __init__(self, lists: Mapping[str, Any], scope: str) -> None:
        self.lists = dict(lists)
        self.scope = scope

    async def request(self, method: str, params: Mapping[str, Any]) -> Reply:
        return Reply(json.dumps({**self.lists[method], "ttlMs": 60_000, "cacheScope": self.scope}).encode())


class World:
    """A catalog of two upstreams; the lists of `b` are private."""

    def __init__(self) -> None:
        self.servers = {"a": Server(LISTS, "public"), "b": Server(LISTS, "private")}
        names = tuple(UpstreamConfig(name=name, transport="stdio", command="x") for name in self.servers)
        self.config = ProxyConfig(upstreams=names, limits=LimitsConfig(page_size=2))
        events = UpstreamEvents(private_lists_changed=self.private_lists_changed)
        self.upstreams = [Upstream(config, self.config, order, events=events) for order, config in enumerate(names)]
        self.catalog = Catalog(self.config, self.upstreams, lambda conflict: None, Seal())

    def private_lists_changed(self, principal: str, tell: bool) -> None:
        self.catalog.drop_view(principal, tell=tell)

    async def refresh(self) -> None:
        for upstream in self.upstreams:
            connection: Connection = self.servers[upstream.name]  # type: ignore[assignment]
            await upstream.published.fetch(connection)
        self.catalog.rebuild()
        await self.catalog.settled()


@pytest.fixture
async def world() -> World:
    made = World()
    await made.refresh()
    made.upstreams[1].private_lists._ask = lambda exchange, request: made.servers["b"].request(
        request.method, request.params
    )
    await made.upstreams[1].private_lists.renew(Agent(Principal("p"), "modern", "2026-07-28"))
    return made


async def test_what_changes_no_list_keeps_the_snapshot_and_every_view(world: World) -> None:
    world.servers["b"].lists["tools/list"] = {"tools": [{"name": "own", "inputSchema": {}}]}
    await world.upstreams[1].private_lists.renew(Agent(Principal("q"), "modern", "2026-07-28"))
    world.servers["b"].lists["tools/list"] = LISTS["tools/list"]
    snapshot = world.catalog.snapshot
    views = [world.catalog.snapshots_of(principal)[0] for principal in ("p", "q")]
    assert views[0] is snapshot is not views[1]
    for state in (UpstreamState.DOWN, UpstreamState.HEALTHY):
        world.upstreams[0].status.enter(state)
        await world.refresh()
        assert world.catalog.snapshot is snapshot
        assert all(world.catalog.snapshots_of(name)[0] is view for name, view in zip(("p", "q"), views, strict=True))


def a_description(world: World) -> None:
    world.servers["a"].lists["resources/list"] = {"resources": [{"name": "r", "uri": "x:r", "description": "new"}]}


def another_order(world: World) -> None:
    world.servers["a"].lists["tools/list"] = {"tools": LISTS["tools/list"]["tools"][::-1]}


def a_replica_less(world: World) -> None:
    """Of which the lists say nothing."""
    world.servers["b"].lists["tools/list"] = {"tools": LISTS["tools/list"]["tools"][:2]}


def another_scope(world: World) -> None:
    world.servers["a"].scope = "private"


def a_change_of_private_lists(world: World) -> None:
    world.upstreams[1].published.changes += 1


@pytest.mark.parametrize(
    "change", [a_description, another_order, a_replica_less, another_scope, a_change_of_private_lists]
)
async def test_whatever_may_change_an_answer_makes_a_new_snapshot(
    world: World, change: Callable[[World], None]
) -> None:
    snapshot = world.catalog.snapshot
    change(world)
    await world.refresh()
    assert world.catalog.snapshot is not snapshot


async def test_the_same_lists_are_not_assembled_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def whole(*_: Any) -> Any:
        raise AssertionError("assembled again")

    monkeypatch.setattr(world.catalog._assembler, "whole", whole)
    world.catalog.rebuild()
    a_description(world)
    with pytest.raises(AssertionError, match="assembled again"):
        await world.refresh()


async def test_what_stands_for_a_principals_view_is_as_old_as_the_view(world: World) -> None:
    catalog, private = world.catalog, world.upstreams[1].private_lists
    agent = Agent(Principal("p"), "modern", "2026-07-28")
    assert catalog.tool("t0", "p") is not None
    seen = catalog.seen_by("p")
    assert seen is not None
    assert catalog.tool("t1", "p") is not None
    assert catalog.seen_by("p") is seen
    assert catalog.seen_by("stranger") is None, "nobody has looked for it"
    assert catalog.tool("t0", "stranger") is not None
    assert catalog.seen_by("stranger") is not None, "the one with private lists is down, and cannot be asked for them"
    connection: Any = SimpleNamespace(closed=False)
    world.upstreams[1].connections.main = connection
    assert catalog.seen_by("stranger") is None, "its own lists are to be asked for now"
    assert catalog.seen_by("p") is seen
    await private.renew(agent)
    assert catalog.tool("t0", "p") is not None
    renewed = catalog.seen_by("p")
    assert renewed is not None
    assert renewed is not seen, "its lists were fetched again"
    a_description(world)
    await world.refresh()
    assert catalog.seen_by("p") is None, "nobody has looked at the new one"
    assert catalog.tool("t0", "p") is not None
    assert catalog.seen_by("p") not in {None, renewed}


async def test_without_private_lists_everybody_sees_the_same(world: World) -> None:
    world.servers["b"].scope = "public"
    await world.refresh()
    assert world.catalog.seen_by("p") is world.catalog.seen_by("stranger") is world.catalog.generation


async def test_many_new_warnings_are_a_few_lines_of_the_log(world: World) -> None:
    lines: list[str] = []
    sink = logger.add(lambda message: lines.append(str(message)), format="{message}", level="WARNING")
    many = [{"name": f"t {number}", "inputSchema": {"type": "object"}} for number in range(500)]
    world.servers["a"].lists["tools/list"] = {"tools": many}
    await world.refresh()
    logger.remove(sink)
    assert len(lines) == 21
    assert "485 more new warnings" in lines[-1]
    assert len(world.catalog.snapshot.warnings) == 505, "five names of b changed, too"


async def test_the_same_lists_fetched_again_leave_the_definitions_undecoded(world: World) -> None:
    await world.refresh()
    another_order(world)
    await world.refresh()
    tools = [entry.tool for entry in world.catalog.snapshot.tools.values()]
    assert tools
    assert all(tool is not None and isinstance(tool._definition, bytes) for tool in tools)


async def test_a_rebuild_that_failed_is_made_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def whole(*_: Any) -> Any:
        raise AssertionError("failed")

    a_description(world)
    with monkeypatch.context() as patch:
        patch.setattr(world.catalog._assembler, "whole", whole)
        with pytest.raises(AssertionError, match="failed"):
            await world.refresh()
    world.catalog.rebuild()
    assert b'"new"' in world.catalog.snapshot.resources["x:r"].raw
