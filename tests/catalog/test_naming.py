"""Own names become valid, unique and stable ones, and each leads back to its upstream's own name."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from loguru import logger

from gateway_core.api import Kind
from gateway_core.catalog.naming import Names
from gateway_core.config import NamesConfig
from gateway_core.upstream.lists.fetched_lists import NAME_KEYS, RESULT_KEYS
from gateway_core.upstream.lists.listing import MAX_ENTRY, fetch_list
from gateway_core.upstream.requests import Reply

from .world import World, always_prefixed, prefixed

ODD = [
    "x",
    "X",
    " x",
    "x ",
    "x\n",
    "get item",
    "get/item",
    "get:item",
    "get.item",
    "Get Item",
    "查询天气",
    "查询航班",
    "🙂",
    "👩‍👩‍👧",
    "_",
    ".",
    "-x-",
    "ﬁ",
    "é",
    "e\u0301",
    "a:x",
    "a__x",
    "b__x",
    "b__b__x",
    "tool",
    "n" * 63 + "a",
    "n" * 63 + "b",
    "n" * 64,
    "n" * 65,
    "m" * 128,
    "m" * 129,
    "字" * 10_000,
    "k" * 10_000,
]
NAME = st.one_of(
    st.sampled_from(ODD),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="|"), min_size=1, max_size=8),
    st.text(st.sampled_from("ab_ /.ü"), min_size=1, max_size=5),
)
RULES = st.builds(NamesConfig, max_length=st.sampled_from([32, 64, 128]), dots=st.booleans())
LISTS = st.fixed_dictionaries(dict.fromkeys(["a", "b", "a.b"], st.lists(NAME, unique=True, max_size=12)))


@pytest.fixture(autouse=True, scope="module")
def quiet() -> Iterator[None]:
    """Thousands of warnings about names would take most of the time."""
    logger.disable("gateway_core")
    yield
    logger.enable("gateway_core")


def valid(name: str, rules: NamesConfig) -> bool:
    """The rules of the specification for tools (2025-11-25 and later, server/tools, Tool Names), and the settings."""
    return (
        len(name) <= rules.max_length
        and re.fullmatch(r"[A-Za-z0-9._-]+" if rules.dots else r"[\w-]+", name, re.A) is not None
    )


@settings(max_examples=80, deadline=None)
@given(
    lists=LISTS,
    rules=RULES,
    kind=st.sampled_from(["tool", "prompt"]),
    resolve=st.sampled_from([prefixed, always_prefixed]),
    data=st.data(),
)
def test_any_names_of_any_upstreams_are_published_distinct_valid_and_stable(
    lists: Mapping[str, list[str]], rules: NamesConfig, kind: Kind, resolve: Any, data: st.DataObject
) -> None:
    outcomes = []
    for _ in range(2):
        world = World(list(lists), kind=kind, resolve=resolve, names=rules)
        for upstream in data.draw(st.permutations(list(lists))):
            world.offer(upstream, *data.draw(st.permutations(lists[upstream])))
        outcomes.append({name: (owners[0], original) for name, (owners, original) in world.names.items()})
    assert outcomes[0] == outcomes[1]
    assert all(valid(name, rules) for name in outcomes[0])
    assert sorted(outcomes[0].values()) == sorted((one, name) for one, names in lists.items() for name in names)
    for name, target in outcomes[0].items():
        found = world.catalog.tool(name) if kind == "tool" else world.catalog.prompt(name)
        assert found is not None
        assert (found.upstreams[0].name, found.original) == target


@settings(max_examples=100, deadline=None)
@given(names=st.lists(NAME, unique=True, max_size=12), more=NAME, rules=RULES)
def test_a_valid_name_is_published_as_it_is_whatever_is_beside_it(
    names: list[str], more: str, rules: NamesConfig
) -> None:
    world = World(["only"], names=rules)
    world.offer("only", *dict.fromkeys([*names, more]))
    published = {original: name for name, (_, original) in world.names.items()}
    assert all(published[name] == name for name in published if valid(name, rules))


@pytest.mark.parametrize("kind", ["resource", "template"])
async def test_uris_are_published_as_they_are(kind: Kind) -> None:
    uris = ["查://询", "x:/a b", "x:/" + "n" * 10_000, "X:/a", "x:/a", "x:/a#b", "x:/a ", "x:/a.b"]
    world = World(["a"], kind=kind, names=NamesConfig(max_length=32, dots=False))
    world.offer("a", *uris)
    assert sorted(world.names) == sorted(uris)


@pytest.mark.parametrize("kind", ["tool", "prompt"])
async def test_names_that_differ_in_case_only_stay_apart(kind: Kind) -> None:
    world = World(["a", "b"], kind=kind)
    world.offer("a", "getUser", "GetUser", "GETUSER")
    world.offer("b", "getuser")
    assert list(world.names) == ["getUser", "GetUser", "GETUSER", "getuser"]


@pytest.mark.parametrize("kind", ["tool", "prompt", "template"])
@pytest.mark.parametrize("name", ["", None, 5, "y" * (MAX_ENTRY + 1)])
async def test_an_entry_without_a_usable_name_costs_no_other_entry(kind: Kind, name: Any) -> None:
    entries = [{NAME_KEYS[kind]: each, "name": each, "inputSchema": {"type": "object"}} for each in (name, "x")]

    async def send(method: str, params: Mapping[str, object]) -> Reply:
        return Reply(result=json.dumps({RESULT_KEYS[kind]: entries}).encode())

    fetched = await fetch_list("a", send, "legacy", kind, timeout=5)
    assert [found.name for found in fetched.items] == ["x"]
    assert len(fetched.warnings) == 1
    assert "of upstream a is left out" in fetched.warnings[0]


@pytest.mark.parametrize("kind", ["tool", "prompt", "resource", "template"])
async def test_warnings_do_not_repeat_a_long_name(kind: Kind) -> None:
    long = "x:/" + "n" * 10_000
    world = World(["a", "b"], kind=kind)
    world.offer("a", long)
    world.offer("b", long)
    world.offer("b", long, f"a__{long}", f"{long}#upstream=a")
    snapshot = world.catalog.snapshot
    assert len(world.names) == 4
    texts = [*snapshot.warnings, *world.catalog.notes(), *(found.outcome for found in snapshot.decisions)]
    assert texts
    assert max(map(len, texts)) < 1_000


def test_a_name_in_a_namespace_belongs_to_the_upstream_with_the_longest_name() -> None:
    names = Names(["a", "a_", "b.c", "b_c"], "__", NamesConfig(dots=False))
    assert names.namespace("tool", "a__x") == {"a"}
    assert names.namespace("tool", "a___x") == {"a_"}
    assert names.namespace("tool", "b_c__x") == {"b.c", "b_c"}, "both have this prefix without dots"
    assert names.namespace("tool", "A__x") == frozenset()
    assert names.namespace("resource", "x:/#upstream=a") == {"a"}
    assert names.namespace("resource", "a__x") == frozenset()
