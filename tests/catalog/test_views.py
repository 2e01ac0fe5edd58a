"""The views of principals are made in slices, of their present lists."""

import asyncio

import pytest

from gateway_core.api import Principal
from gateway_core.exchange.exchange import Agent, Exchange
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
    large.catalog.drop_view("me")
    await preparing
    assert large.catalog.tool("after", "me") is not None
    assert large.catalog.tool("before", "me") is None
