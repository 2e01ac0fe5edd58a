"""Names stay with their owners: whoever is reached first, is down, or comes to offer a name later."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway_core.api import Kind, UpstreamState
from gateway_core.config import NamesConfig

from .world import Lists, World


def test_a_name_stays_with_its_holder_whatever_others_add() -> None:
    world = World(["evil", "bank"])
    world.offer("evil", "weather")
    world.offer("bank", "transfer")
    world.offer("evil", "weather", "transfer", "bank__transfer")
    assert world.names["transfer"] == (["bank"], "transfer")
    assert world.names["evil__transfer"] == (["evil"], "transfer")
    assert world.names["evil__bank__transfer"] == (["evil"], "bank__transfer")


def test_a_name_stays_with_its_holder_while_the_holder_does_not_offer_it() -> None:
    world = World(["evil", "bank"])
    world.offer("evil")
    world.offer("bank", "transfer")
    world.offer("bank")
    world.offer("evil", "transfer")
    assert list(world.names) == ["evil__transfer"]
    assert "belongs to upstream bank" in world.catalog.snapshot.warnings[0]
    world.offer("bank", "transfer")
    assert world.names["transfer"] == (["bank"], "transfer")


def test_health_moves_no_name() -> None:
    world = World(["a", "b"])
    world.offer("a", "x")
    world.offer("b", "x")
    before = world.names
    for state in UpstreamState:
        world.upstreams["a"].status.enter(state)
        world.offer("b", "x")
        assert world.names == before


@pytest.mark.parametrize("kind", ["tool", "prompt", "resource", "template"])
def test_a_name_that_changes_hands_at_the_first_start_is_logged(kind: Kind, logged: Callable[[], str]) -> None:
    world = World(["a", "b"], kind=kind)
    world.offer("b", "x:y")
    world.offer("a", "x:y")
    assert f"names changed hands from b to a: {kind}" in logged()


async def test_after_a_restart_a_name_is_its_owners_before_the_owner_is_reached(tmp_path: Path) -> None:
    first = World(["a", "b"], path=tmp_path / "n")
    first.offer("a", "x", "only")
    first.offer("b", "x")
    await first.catalog.close()
    again = World(["a", "b"], path=tmp_path / "n")
    again.offer("b", "x", "only")
    assert again.names == {"b__x": (["b"], "x"), "b__only": (["b"], "only")}
    target = again.catalog.tool("x")
    assert target is not None
    assert [one.name for one in target.upstreams] == ["a"]
    again.offer("a", "x", "only")
    assert again.names["x"] == (["a"], "x")


async def test_what_was_added_late_is_late_after_a_restart_too(tmp_path: Path) -> None:
    first = World(["evil", "bank"], path=tmp_path / "n")
    first.offer("evil", "weather")
    first.offer("bank", "transfer")
    first.offer("evil", "transfer")
    await first.catalog.close()
    again = World(["evil", "bank"], path=tmp_path / "n")
    again.offer("evil", "transfer")
    assert again.names == {"evil__transfer": (["evil"], "transfer")}


async def test_a_replica_that_is_up_serves_what_the_remembered_one_has(tmp_path: Path) -> None:
    each = {"a": {"group": "g"}, "b": {"group": "g"}}
    first = World(["a", "b"], path=tmp_path / "n", each=each)
    first.offer("a", "x|same")
    first.offer("b", "x|same")
    await first.catalog.close()
    again = World(["a", "b"], path=tmp_path / "n", each=each)
    again.offer("b", "x|same")
    assert again.names == {"x": (["a", "b"], "x")}


def test_the_log_and_the_notes_say_who_is_a_replica_and_who_only_looks_like_one(logged: Callable[[], str]) -> None:
    world = World(["a", "b", "c"], each={"a": {"priority": 1}, "b": {"priority": 2}, "c": {"command": "y"}})
    for upstream in "abc":
        world.offer(upstream, "x|same", "y|same")
    replicas = "a and b are replicas, because each has a priority: they share 2 tools"
    alike = "a and c offer the same under the same names (x, y) and are two servers"
    for said in (logged(), "\n".join(world.catalog.notes())):
        assert replicas in said
        assert alike in said


def test_absent_names_are_kept_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway_core.catalog.owners.MAX_ABSENT", 5)
    world = World(["a", "b"])
    world.offer("b", "mine")
    world.offer("b")
    for number in range(50):
        world.offer("a", f"n{number}")
    held = {name for _, name in world.memory.owners.holders}
    assert held == {"mine", *(f"n{number}" for number in range(44, 50))}


# Invariants

NAME = st.one_of(
    st.sampled_from(
        ["x", "get item", "get/item", "get_item", "查询天气", "查询航班", "a__x", "b__x", "c__b__x", "b_", "_x"]
    ),
    st.text(st.sampled_from("ab_-./ ü"), min_size=1, max_size=6),
    st.text("n", min_size=60, max_size=140),
)
TEXT = st.builds("{}|{}".format, NAME, st.sampled_from(["", "1"]))
LISTS = st.dictionaries(
    st.sampled_from(["a", "b", "a_", "c.c"]), st.lists(TEXT, unique_by=lambda text: text.partition("|")[0], max_size=6)
)
EACH = st.fixed_dictionaries(
    dict.fromkeys(
        ["a", "b", "a_", "c.c"],
        st.sampled_from([{}, {"priority": 1}, {"priority": 2}, {"group": "g"}, {"group": "h", "priority": 1}]),
    )
)
KINDS = st.sampled_from(["tool", "prompt", "resource", "template"])
RULES = st.builds(NamesConfig, max_length=st.sampled_from([32, 64, 128]), dots=st.booleans())


def intended(first: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    groups = {first.get("group"), other.get("group")}
    if None not in groups:
        return len(groups) == 1
    return "priority" in first and "priority" in other


def test_a_name_of_a_namespace_goes_to_its_upstream_whoever_comes_first() -> None:
    for order in (("a", "a_"), ("a_", "a")):
        world = World(["a", "a_"])
        for upstream in order:
            world.offer(upstream, "a___")
        assert world.names == {"a___": (["a_"], "a___"), "a__a___": (["a"], "a___")}


@settings(max_examples=100, deadline=None)
@given(lists=LISTS, each=EACH, kind=KINDS, rules=RULES, data=st.data())
def test_nothing_is_lost_and_the_order_of_discovery_does_not_matter(
    lists: Lists, each: Any, kind: Kind, rules: NamesConfig, data: st.DataObject
) -> None:
    outcomes = []
    for _ in range(2):
        world = World(list(lists), kind=kind, each=each, names=rules)
        for upstream in data.draw(st.permutations(list(lists))):
            world.offer(upstream, *lists[upstream])
        outcomes.append(world.names)
    assert outcomes[0] == outcomes[1]
    served = {(upstream, original) for owners, original in outcomes[0].values() for upstream in owners}
    assert served == {(one, text.partition("|")[0]) for one, texts in lists.items() for text in texts}
    for name, (owners, _) in outcomes[0].items():
        assert all(intended(each[one], each[other]) for one in owners for other in owners if one != other)
        if kind in {"tool", "prompt"}:
            assert 1 <= len(name) <= rules.max_length
            assert rules.dots or "." not in name


@settings(max_examples=100, deadline=None)
@given(lists=LISTS, changes=st.lists(st.tuples(st.integers(0, 3), st.lists(TEXT, max_size=5)), max_size=5), kind=KINDS)
def test_no_change_of_a_list_takes_a_name_from_another(lists: Lists, changes: Any, kind: Kind) -> None:
    world = World(list(lists), kind=kind)
    for upstream, texts in lists.items():
        world.offer(upstream, *texts)
    held = {name: owners for name, (owners, _) in world.names.items()}
    for number, texts in changes if lists else ():
        unique = {text.partition("|")[0]: text for text in texts}
        world.offer(list(lists)[number % len(lists)], *unique.values())
        for name, (owners, _) in world.names.items():
            assert held.setdefault(name, owners) == owners, name
