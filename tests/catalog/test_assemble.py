"""A large catalog is rebuilt in slices; meanwhile the last one serves."""

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway_core.limits.slices import SLICE
from tests.catalog.world import MANY, TOOLS, WorkPerTurn, World, large_world


@pytest.fixture
def large() -> World:
    return large_world()


async def test_no_turn_of_the_loop_does_more_than_a_slice_of_the_rebuild(large: World) -> None:
    with WorkPerTurn() as work:
        large.catalog.rebuild()
        await large.catalog.settled()
    assert len(large.names) == 2 * TOOLS
    assert max(work.turns) < 50 * SLICE < sum(work.turns) / 10
    assert len(work.turns) > 50


async def test_the_last_catalog_serves_until_the_next_one_is_complete(large: World) -> None:
    large.catalog.rebuild()
    await large.catalog.settled()
    first, generation = large.catalog.snapshot, large.catalog.generation
    large.offer("one", "other")
    turns = 0
    while large.catalog.snapshot is first:
        assert large.catalog.generation is generation
        target = large.catalog.tool("tool7")
        assert target is not None
        assert target.upstreams == (large.upstreams["one"],)
        assert large.catalog.tool("other") is None
        turns += 1
        await asyncio.sleep(0)
    assert turns > 10
    assert large.catalog.generation is not generation
    target = large.catalog.tool("other")
    assert target is not None


async def test_the_names_and_the_snapshot_change_in_one_turn(large: World) -> None:
    large.catalog.rebuild()
    await large.catalog.settled()
    large.offer("one", *MANY, "other")
    changed: list[frozenset[str]] = []
    large.catalog.listen(lambda kinds, _: changed.append(kinds))
    while not changed:
        held = ("tool", "other") in large.memory.owners.holders
        assert held is ("other" in large.names)
        await asyncio.sleep(0)
    assert large.memory.owners.holders["tool", "other"] == ("one",)
    assert changed == [frozenset({"tools"})]


Change = tuple[str, int, int]
changes = st.lists(
    st.tuples(st.sampled_from(["one", "two"]), st.integers(0, 100), st.sampled_from([0, 1, 9, 30])),
    min_size=2,
    max_size=4,
)


@settings(max_examples=12, deadline=None)
@given(changes)
async def test_no_change_during_a_rebuild_is_lost(made: list[Change]) -> None:
    """Whenever it comes, the catalog ends as if each change had waited for the rebuild before it."""
    worlds = [World(["one", "two"]) for _ in range(2)]
    for world in worlds:
        world.offer("one", *MANY[:300])
        await world.catalog.settled()
    fast, slow = worlds
    for upstream, first, turns in made:
        names = MANY[first * 10 : first * 10 + 270]
        fast.offer(upstream, *names)
        for _ in range(turns):
            await asyncio.sleep(0)
    await fast.catalog.settled()
    for upstream, first, _ in made:
        slow.offer(upstream, *MANY[first * 10 : first * 10 + 270])
        await slow.catalog.settled()
    lists = {name: one.fetched for name, one in fast.upstreams.items()}
    assert lists == {name: one.fetched for name, one in slow.upstreams.items()}
    expected = {own for one in fast.upstreams.values() if one.fetched for own in one.fetched.positions("tool")}
    assert {original for _, original in fast.names.values()} == expected
    held = {(owner, original) for owners, original in fast.names.values() for owner in owners}
    assert held == {(owner, original) for owners, original in slow.names.values() for owner in owners}
    assert set(fast.memory.owners.holders) >= {("tool", name) for name in fast.names}
