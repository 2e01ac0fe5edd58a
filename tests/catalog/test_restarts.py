"""Names over time: upstreams are reached, change their lists, go and come back; the gateway and its file change."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from loguru import logger

from gateway_core.api import Kind, UpstreamState
from gateway_core.catalog.naming import Names
from gateway_core.config import NamesConfig
from gateway_core.upstream.lists.fetched_lists import FetchedLists

from .world import World, item

NAMES = ("a", "b", "c", "d")
OWN = st.sampled_from(
    ["x", "y", "get item", "get/item", "get_item", "查询天气", "查询航班", "a__x", "b__x", "b__y|1", "x|1"]
)
TEXTS = st.lists(OWN, unique_by=lambda text: text.partition("|")[0], max_size=5)
EACH = st.fixed_dictionaries(
    dict.fromkeys(NAMES, st.sampled_from([{}, {"priority": 1}, {"group": "g"}, {"group": "h", "priority": 1}]))
)


async def restarted(world: World, path: Path, order: Sequence[str], **more: Any) -> World:
    """A second process with the file that `world` has written."""
    await world.catalog.close()
    return World(order, path=path, kind=world.kind, **more)


class NamesOverTime(RuleBasedStateMachine):
    """A published name stays with its owner as long as that upstream is configured, and no item is lost.

    A name with the prefix of a newly added upstream leaves its owner.
    At the first contact with an upstream, it takes names only from upstreams that were added with it or later, and
    that stand below it.
    """

    @initialize(
        order=st.permutations(NAMES),
        each=EACH,
        kind=st.sampled_from(["tool", "prompt", "resource", "template"]),
    )
    def begin(self, order: list[str], each: Mapping[str, Any], kind: Kind) -> None:
        logger.disable("gateway_core")
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / "names"
        self.order, self.each = order[:3], each
        self.more: dict[str, Any] = {}
        self.offered: dict[str, list[str]] = {}
        """The last lists of the upstreams that this process has reached."""
        self.owners: dict[str, frozenset[str]] = {}
        self.known: set[str] = set()
        self.since = dict.fromkeys(self.order, 0)
        self.reached = ""
        self.world = World(self.order, path=self.path, kind=kind, each=each)
        self.kind: Kind = kind

    def teardown(self) -> None:
        self.folder.cleanup()
        logger.enable("gateway_core")

    @rule(number=st.integers(0, 3), texts=TEXTS)
    def offer(self, number: int, texts: list[str]) -> None:
        """An upstream is reached, or its list changes."""
        upstream = self.order[number % len(self.order)]
        self.reached = upstream
        self.offered[upstream] = texts
        self.world.offer(upstream, *texts)

    @rule(number=st.integers(0, 3), state=st.sampled_from(list(UpstreamState)))
    def fail(self, number: int, state: UpstreamState) -> None:
        """An upstream goes, or comes back."""
        self.world.upstreams[self.order[number % len(self.order)]].status.enter(state)
        self.world.catalog.rebuild()

    @rule(
        order=st.one_of(st.none(), st.permutations(NAMES).flatmap(lambda p: st.integers(1, 4).map(lambda n: p[:n]))),
        each=st.one_of(st.none(), EACH),
        more=st.sampled_from([{}, {"replicas": "declared"}, {"drain_timeout": 7.0}]),
    )
    def restart(self, order: list[str] | None, each: Mapping[str, Any] | None, more: dict[str, Any]) -> None:
        """The gateway restarts, perhaps with other upstreams, another order or other settings."""
        asyncio.run(self.world.catalog.close())
        if order is not None:
            newest = max(self.since.values()) + 1
            self.since = {name: self.since.get(name, newest) for name in order}
            self.order = order
        self.each = self.each if each is None else each
        self.known &= set(self.order)
        self.owners = {name: kept for name, owners in self.owners.items() if (kept := owners & set(self.order))}
        namespaces = Names(self.order, "__", NamesConfig())
        for name in list(self.owners):
            space = namespaces.namespace(self.kind, name)
            if space and self.owners[name].isdisjoint(space):
                del self.owners[name]
        self.offered, self.reached = {}, ""
        self.world = World(self.order, path=self.path, kind=self.kind, each=self.each, **more)

    @invariant()
    def nothing_is_lost(self) -> None:
        served = {(one, original) for owners, original in self.world.names.values() for one in owners}
        wanted = {(one, text.partition("|")[0]) for one, texts in self.offered.items() for text in texts}
        assert wanted <= served

    @invariant()
    def names_stay_with_their_owners(self) -> None:
        rank = {name: (self.since[name], number) for number, name in enumerate(self.order)}
        for name, (upstreams, _) in {**self.world.reserved, **self.world.names}.items():
            now, before = frozenset(upstreams), self.owners.get(name)
            if before is not None and now.isdisjoint(before):
                first = self.reached if self.reached in now and self.reached not in self.known else None
                assert first is not None, f"{name} went from {before} to {now}"
                assert rank[first] < min(rank[one] for one in before), f"{name} went from {before} to {now}"
            self.owners[name] = now
        if self.reached:
            self.known.add(self.reached)


TestNamesOverTime = NamesOverTime.TestCase
TestNamesOverTime.settings = settings(max_examples=40, stateful_step_count=15, deadline=None)


async def test_a_new_upstream_takes_no_name_wherever_it_stands_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "n"
    first = World(["bank"], path=path)
    first.offer("bank", "transfer")
    again = await restarted(first, path, ["evil", "bank"])
    again.offer("evil", "transfer")
    assert again.names == {"evil__transfer": (["evil"], "transfer")}
    again.offer("bank", "transfer")
    assert again.names["transfer"] == (["bank"], "transfer")
    third = await restarted(again, path, ["evil", "bank"])
    third.offer("evil", "transfer")
    assert "transfer" not in third.names


async def test_two_new_upstreams_get_names_by_the_file_whichever_is_reached_first(tmp_path: Path) -> None:
    path = tmp_path / "n"
    first = World(["old"], path=path)
    first.offer("old", "other")
    again = await restarted(first, path, ["a", "b", "old"])
    again.offer("b", "x")
    again = await restarted(again, path, ["a", "b", "old"])
    again.offer("a", "x")
    assert again.names["x"] == (["a"], "x")


@pytest.mark.parametrize(
    "change",
    [
        {"order": ["b", "a"]},
        {"replicas": "declared"},
        {"drain_timeout": 7.0},
        {"separator": "--"},
        {"each": {"a": {"priority": 5}}},
        {"each": {"a": {"tools": ["x"]}}},
    ],
)
async def test_no_change_of_the_file_moves_a_name(tmp_path: Path, change: dict[str, Any]) -> None:
    path = tmp_path / "n"
    first = World(["a", "b"], path=path)
    first.offer("a", "x")
    first.offer("b", "x")
    again = await restarted(first, path, **{"order": ["a", "b"], **change})
    again.offer("b", "x")
    again.offer("a", "x")
    assert again.names["x"] == (["a"], "x")
    assert len(again.names) == 2


async def test_an_upstream_that_is_no_longer_configured_loses_its_names(tmp_path: Path) -> None:
    path = tmp_path / "n"
    first = World(["a", "b"], path=path)
    first.offer("a", "x")
    first.offer("b", "x")
    again = await restarted(first, path, ["b"])
    again.offer("b", "x")
    assert again.names == {"x": (["b"], "x")}
    third = await restarted(again, path, ["a", "b"])
    third.offer("a", "x")
    third.offer("b", "x")
    assert third.names == {"a__x": (["a"], "x"), "x": (["b"], "x")}


async def test_a_list_that_fails_after_a_restart_keeps_its_names(tmp_path: Path) -> None:
    path = tmp_path / "n"
    first = World(["a", "b"], path=path)
    first.offer("a", "x", "y")
    again = await restarted(first, path, ["a", "b"])
    resources = {"resource": (item("r:x", "resource"),)}
    again.upstreams["a"].published.fetched = FetchedLists(resources, failures={"tool": "a: no answer to tools/list"})
    again.catalog.rebuild()
    again.offer("b", "x")
    assert again.names == {"b__x": (["b"], "x")}
    target = again.catalog.tool("y")
    assert target is not None
    assert [one.name for one in target.upstreams] == ["a"]
    third = await restarted(again, path, ["a", "b"])
    assert "x" in third.reserved


async def test_a_tool_that_the_file_no_longer_allows_is_not_reserved(tmp_path: Path) -> None:
    path = tmp_path / "n"
    first = World(["a", "b"], path=path)
    first.offer("a", "x", "y")
    again = await restarted(first, path, ["a", "b"], each={"a": {"tools": ["x"]}})
    assert list(again.reserved) == ["x"]
    assert again.catalog.tool("y") is None


async def test_what_the_file_order_would_decide_otherwise_is_explained(
    tmp_path: Path, logged: Callable[[], str]
) -> None:
    path = tmp_path / "n"
    first = World(["a", "b"], path=path)
    first.offer("a", "x")
    first.offer("b", "x")
    assert [found.outcome for found in first.catalog.snapshot.decisions] == ["a has it as x; b has it as b__x"]
    again = await restarted(first, path, ["b", "a"])
    again.offer("b", "x")
    again.offer("a", "x")
    assert [found.outcome for found in again.catalog.snapshot.decisions] == [
        "b has it as b__x; a has it as x, because a had the name first"
    ]


async def test_an_upstream_that_is_switched_off_keeps_its_names(tmp_path: Path) -> None:
    path = tmp_path / "n"
    first = World(["b", "a", "c"], path=path)
    first.offer("a", "x", "only")
    off = await restarted(first, path, ["b", "c"], disabled=["a"])
    off.offer("b", "x", "a__x")
    off.offer("c", "only")
    assert off.names == {
        "b__x": (["b"], "x"),
        "b__a__x": (["b"], "a__x"),
        "c__only": (["c"], "only"),
    }
    assert off.catalog.tool("x") is None
    again = await restarted(off, path, ["b", "a", "c"])
    assert again.reserved["x"] == (["a"], "x")
    again.offer("b", "x")
    again.offer("a", "x", "only")
    assert again.names["x"] == (["a"], "x")
    assert again.names["only"] == (["a"], "only")
