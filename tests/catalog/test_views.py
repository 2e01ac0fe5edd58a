"""The views of principals are made in slices, of their present lists."""

import asyncio
import json

import pytest

from gateway_core.api import Principal
from gateway_core.catalog.views import Views
from gateway_core.exchange.exchange import Agent, Exchange
from gateway_core.limits.budget import MemoryBudget
from gateway_core.limits.slices import SLICE
from gateway_core.mcp.cache_hints import Hint
from gateway_core.upstream.lists.fetched_lists import FetchedLists
from gateway_core.upstream.lists.private_lists import Part
from tests.catalog.world import MANY, WorkPerTurn, World, item, large_world


@pytest.fixture
def large() -> World:
    return large_world()


def private(world: World, upstream: str, *names: str) -> FetchedLists:
    return FetchedLists({"tool": tuple(item(name, "tool") for name in names)}, {"tool": Hint(60_000, public=False)})


async def test_the_view_of_a_principal_is_made_in_slices(large: World) -> None:
    two = large.upstreams["two"]
    two.published.fetched = private(large, "two", *MANY)
    large.catalog.rebuild()
    await large.catalog.settled()
    two.private_lists._parts["me"] = Part(private(large, "two", *MANY, "mine"), 0, 1, 0.0)
    agent = Agent(Principal("me"), "modern", "2026-07-28")
    with WorkPerTurn() as work:
        await asyncio.gather(*(large.catalog.prepare(Exchange(agent, "tools/call")) for _ in range(3)))
    assert max(work.turns) < 50 * SLICE < sum(work.turns) / 10
    view = large.catalog.seen_by("me")
    assert view is not None
    with WorkPerTurn() as again:
        assert large.catalog.tool("mine", "me") is not None
    assert again.turns[-1] < SLICE, "it is not made again"
    assert large.catalog.seen_by("me") is view


async def test_a_view_whose_lists_change_while_it_is_made_has_the_new_ones(large: World) -> None:
    two = large.upstreams["two"]
    two.published.fetched = private(large, "two", *MANY)
    large.catalog.rebuild()
    await large.catalog.settled()
    two.private_lists._parts["me"] = Part(private(large, "two", *MANY, "before"), 0, 1, 0.0)
    preparing = asyncio.ensure_future(
        large.catalog.prepare(Exchange(Agent(Principal("me"), "modern", ""), "tools/call"))
    )
    for _ in range(5):
        await asyncio.sleep(0)
    assert not preparing.done()
    two.private_lists._parts["me"] = Part(private(large, "two", *MANY, "after"), 0, 2, 0.0)
    large.catalog.drop_view("me", tell=False)
    await preparing
    assert large.catalog.tool("after", "me") is not None
    assert large.catalog.tool("before", "me") is None


async def test_views_are_kept_only_as_far_as_the_memory_has_room(large: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway_core.limits.budget.trim", lambda: None)
    budget = MemoryBudget(40_000_000, lambda: 0)
    views = large.catalog._views = Views(large.catalog._assembler, budget)
    two = large.upstreams["two"]
    two.published.fetched = private(large, "two", *MANY)
    large.catalog.rebuild()
    await large.catalog.settled()
    for number in range(8):
        two.private_lists._parts[f"a{number}"] = Part(private(large, "two", *MANY, f"t{number}"), 0, 1, 0.0)
        agent = Agent(Principal(f"a{number}"), "modern", "2026-07-28")
        await large.catalog.prepare(Exchange(agent, "tools/call"))
    kept = [number for number in range(8) if large.catalog.seen_by(f"a{number}") is not None]
    assert kept == list(range(8 - len(kept), 8)), "the latest ones"
    assert 1 < len(kept) < 8
    assert 0 < budget.held_by("views of private lists") <= 10_000_000
    assert large.catalog.tool("t0", "a0") is not None
    for _ in range(8):
        views.drop_oldest()
    assert budget.held_by("views of private lists") == 0


async def test_all_pages_of_a_view_are_served(large: World) -> None:
    two = large.upstreams["two"]
    two.published.fetched = private(large, "two", *MANY)
    large.catalog.rebuild()
    await large.catalog.settled()
    two.private_lists._parts["me"] = Part(private(large, "two", *MANY, "mine"), 0, 1, 0.0)
    names, cursor = [], None
    while True:
        page = json.loads(large.catalog.page("tools/list", "modern", cursor, "me"))
        names += [tool["name"] for tool in page["tools"]]
        cursor = page.get("nextCursor")
        if cursor is None:
            break
    assert len(names) == len(set(names)) == 2 * len(MANY) + 1
    assert "mine" in names
