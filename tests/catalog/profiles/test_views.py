"""The snapshots of profiles over time: who shares them, when they are made, what changes are told."""

import asyncio
import json
import sys
from types import FrameType
from typing import Any

import pytest

from gateway_core.api import Principal
from gateway_core.catalog.profiles import views
from gateway_core.catalog.profiles.narrowing import narrowed
from gateway_core.config import ProfileConfig
from gateway_core.errors import UnknownProfile
from gateway_core.exchange.exchange import Agent, Exchange
from gateway_core.limits.budget import MemoryBudget
from gateway_core.mcp.cache_hints import Hint
from gateway_core.upstream.lists.fetched_lists import FetchedLists
from tests.catalog.profiles.conftest import LISTS, Make, items, tool, view
from tests.catalog.world import MANY, WorkPerTurn, World, item

ALICE, BOB = "alice|keys", "bob|keys"


def test_all_principals_of_a_profile_share_its_lists(world: Make) -> None:
    catalog = world({"tools": ["tickets:*"]}, {"tools": ["wiki:*"]}).catalog
    for era in ("legacy", "modern"):
        page = catalog.page("tools/list", era, None, ALICE, "p0")
        assert catalog.page("tools/list", era, None, BOB, "p0") is page
        assert catalog.page("tools/list", era, None, BOB, "p1") is not page
    assert catalog.seen_by(ALICE, "p0") is catalog.seen_by(BOB, "p0") is not catalog.seen_by(BOB, "p1")


def test_a_view_is_made_when_it_is_needed_and_kept_until_the_catalog_changes(world: Make) -> None:
    w = world({"tools": ["tickets:*"]})
    assert w.catalog.seen_by(ALICE, "p0") is None, "it has to be prepared"
    first = view(w)
    assert w.catalog.seen_by(ALICE, "p0") is first is view(w)
    w.upstreams["tickets"].published.fetched = FetchedLists({"tool": items("tool", tool("search"))})
    w.catalog.rebuild()
    assert [*view(w).tools] == ["tickets__search"]
    assert w.catalog.seen_by(ALICE, "p0") is view(w) is not first


def test_agents_are_told_only_of_changes_that_they_can_see(world: Make) -> None:
    w = world({"tools": ["tickets:*"]}, {"tools": ["wiki:*"]}, {"tools": ["*"]})
    told: list[dict[str, frozenset[str]]] = []
    w.catalog.listen(lambda kinds, _: told.append({p: w.catalog.changed_in(p, kinds) for p in ("", "p0", "p1", "p2")}))
    view(w, "p0"), view(w, "p1")
    w.upstreams["tickets"].published.fetched = FetchedLists({"tool": items("tool", tool("search"))})
    w.catalog.rebuild()
    (one,) = told
    assert one[""] == {"tools", "prompts", "resources"}
    assert one["p0"] == {"tools", "resources"}, "the interface of its tool is gone, too"
    assert one["p1"] == frozenset()
    assert one["p2"] == one[""], "nobody has used this profile yet, so what its agents know is not known"


def test_an_unknown_profile_is_named(world: Make) -> None:
    catalog = world({"name": "desk"}).catalog
    with pytest.raises(UnknownProfile, match="no profile 'x'; the configuration has desk"):
        catalog.profiles.check("x")
    with pytest.raises(UnknownProfile, match="the configuration has no profiles"):
        world().catalog.profiles.remarks(catalog.snapshot, "x")
    catalog.profiles.check("desk")
    catalog.profiles.check("")


def test_agents_of_a_profile_that_is_gone_see_nothing(world: Make) -> None:
    catalog = world({"name": "desk"}).catalog
    assert json.loads(catalog.page("tools/list", "modern", None, ALICE, "gone"))["tools"] == []
    assert catalog.tool("tickets__search", ALICE, "gone") is None
    assert catalog.resource("wiki:home", ALICE, "gone") is None
    assert "instructions" not in catalog.identity("modern", "gone")


def exchange(who: str, profile: str) -> Exchange:
    return Exchange(Agent(Principal(who, profile=profile), "modern", "2026-07-28"), "tools/list")


async def test_a_large_view_is_made_in_slices_and_once(world: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    w = world({"tools": ["tickets:*"]}, reached=False)
    w.upstreams["tickets"].published.fetched = FetchedLists({"tool": tuple(item(name, "tool") for name in MANY)})
    w.catalog.rebuild()
    await w.catalog.settled()
    made: list[str] = []

    def counted(*given: Any) -> Any:
        made.append(given[1].name)
        return narrowed(*given)

    monkeypatch.setattr(views, "narrowed", counted)
    with WorkPerTurn() as work:
        await asyncio.gather(*(w.catalog.prepare(exchange(who, "p0")) for who in (ALICE, BOB, "carol")))
    assert made == ["p0"]
    assert len(work.turns) > len(MANY) / 256
    assert len(view(w).tools) == len(MANY)
    assert made == ["p0"]


def test_the_cost_of_a_look_up_does_not_depend_on_the_number_of_profiles(world: Make) -> None:
    def calls(number: int) -> int:
        w = world(*({"tools": ["tickets:*"]} for _ in range(number)))
        for profile in w.catalog.profiles.profiles:
            view(w, profile)
        found = 0

        def count(frame: FrameType, event: str, arg: Any) -> None:
            nonlocal found
            found += event == "call"

        sys.setprofile(count)
        try:
            w.catalog.seen_by(ALICE, "p0")
            w.catalog.tool("tickets__search", ALICE, "p0")
        finally:
            sys.setprofile(None)
        return found

    assert calls(1) == calls(100)


PRIVATE = {"tool": Hint(0, public=False)}


def private_world(world: Make, *profiles: dict[str, Any]) -> World:
    """The tools of `tickets` are private: alice has two, bob the same as the gateway."""
    from gateway_core.upstream.lists.private_lists import Part

    w = world(*profiles, reached=False)
    shared = FetchedLists(LISTS["tickets"], hints=PRIVATE)
    w.upstreams["tickets"].published.fetched = shared
    w.upstreams["wiki"].published.fetched = FetchedLists(LISTS["wiki"])
    w.upstreams["clock"].published.fetched = FetchedLists(LISTS["clock"])
    own = FetchedLists({"tool": items("tool", tool("search"), tool("alices"))}, hints=PRIVATE)
    parts = w.upstreams["tickets"].private_lists._parts
    parts[ALICE], parts[BOB] = Part(own, 0, 1, 0.0), Part(shared.only(shared.private), 0, 2, 0.0)
    w.catalog.rebuild()
    return w


def test_private_lists_are_narrowed_for_their_principal_only(world: Make) -> None:
    w = private_world(
        world, {"tools": ["tickets:*", "!*delete*"], "overrides": [{"tool": "tickets:search", "name": "find"}]}
    )
    catalog = w.catalog

    def names(who: str) -> list[str]:
        page = json.loads(catalog.page("tools/list", "modern", None, who, "p0"))
        return [one["name"] for one in page["tools"]]

    assert names(ALICE) == ["find", "tickets__alices"]
    assert names(BOB) == ["find", "tickets__create", "tickets__chart"]
    assert catalog.tool("tickets__alices", ALICE, "p0") is not None
    assert catalog.tool("tickets__alices", BOB, "p0") is None
    assert catalog.tool("tickets__alices", ALICE) is not None
    assert catalog.seen_by(ALICE, "p0") is not catalog.seen_by(BOB, "p0")


async def test_views_with_private_lists_are_prepared_in_the_principals_name(world: Make) -> None:
    w = private_world(world, {"tools": ["tickets:*"]})
    await w.catalog.prepare(exchange(ALICE, "p0"))
    seen = w.catalog.seen_by(ALICE, "p0")
    assert seen is not None
    assert w.catalog.seen_by(ALICE, "p0") is seen
    assert w.catalog.tool("tickets__alices", ALICE, "p0") is not None


async def test_views_give_way_when_memory_is_short(monkeypatch: pytest.MonkeyPatch, world: Make) -> None:
    w = world()
    budget = MemoryBudget(64 * 1024 * 1024)
    made = views.ProfileViews([ProfileConfig(name=f"n{n}") for n in range(50)], w.catalog._lists, budget)
    monkeypatch.setattr(views.ProfileView, "memory", property(lambda _: 4 * 1024 * 1024))
    for name in made.profiles:
        made.of(w.catalog.snapshot, name)
    assert 0 < len(made._shared) < 50
    assert made.known(w.catalog.snapshot, "n49") is not None
    assert made.known(w.catalog.snapshot, "n0") is None


def test_views_of_single_principals_are_bounded(monkeypatch: pytest.MonkeyPatch, world: Make) -> None:
    monkeypatch.setattr(views, "MAX_PRINCIPALS", 3)
    w = world({"tools": ["tickets:*"]})
    made, base = w.catalog.profiles, w.catalog.snapshot
    for number in range(10):
        made.of(base, "p0", f"principal{number}")
    assert [owner for _, owner in made._own] == ["principal7", "principal8", "principal9"]
