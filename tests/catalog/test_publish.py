"""Replicas joined, clashes decided, names made valid, in the file's order."""

import json
import re
from collections.abc import Mapping
from typing import Any

import pytest

from gateway_core.api import Claim, Kind, ToolConflict
from gateway_core.catalog.naming import Names
from gateway_core.catalog.owners import Owners
from gateway_core.catalog.publish import Published, Rules, publish
from gateway_core.catalog.replicas import ReplicaRule
from gateway_core.config import NamesConfig, ProxyConfig, UpstreamConfig
from gateway_core.limits.slices import finish
from gateway_core.upstream.lists.fetched_lists import LIST_METHODS, NAME_KEYS, RESULT_KEYS, FetchedLists
from gateway_core.upstream.lists.listing import fetch_list
from gateway_core.upstream.requests import Reply
from gateway_core.upstream.upstream import Upstream

TEXT = {"type": "object", "properties": {"text": {"type": "string"}}}
NUMBER = {"type": "object", "properties": {"number": {"type": "integer"}}}


async def make(
    name: str,
    tools: Mapping[str, object],
    *,
    group: str | None = None,
    priority: int | None = None,
    order: int = 0,
    kind: Kind = "tool",
) -> Upstream:
    """An upstream that has answered a list: name -> input schema."""
    given = {} if priority is None else {"priority": priority}
    config = UpstreamConfig(name=name, transport="stdio", command="unused", group=group, **given)
    upstream = Upstream(config, ProxyConfig(), order)
    entries = [{"name": "n", NAME_KEYS[kind]: tool, "inputSchema": schema} for tool, schema in tools.items()]
    answers = {LIST_METHODS[kind]: json.dumps({RESULT_KEYS[kind]: entries}).encode()}

    async def send(method: str, params: Mapping[str, object]) -> Reply:
        return Reply(result=answers.get(method, b"{}"))

    fetched = await fetch_list(name, send, "legacy", kind, timeout=5)
    upstream.published.fetched = FetchedLists().with_list(kind, fetched, hinted=False)
    return upstream


def published(
    *upstreams: Upstream,
    resolve: object = None,
    replicas: str = "intent",
    kind: Kind = "tool",
    names: NamesConfig | None = None,
    owners: Owners | None = None,
    separator: str = "__",
) -> Published:
    known = [upstream.name for upstream in upstreams]
    rules = Rules(
        Names(known, separator, names or NamesConfig()),
        ReplicaRule(ProxyConfig(replicas=replicas)),  # type: ignore[arg-type]
        owners or Owners(dict.fromkeys(known, 0)),
        separator,
    )
    fetched = {upstream: upstream.fetched for upstream in upstreams if upstream.fetched is not None}
    return finish(publish(kind, fetched, resolve or (lambda conflict: None), rules))  # type: ignore[arg-type]


def everything_prefixed(conflict: ToolConflict) -> Mapping[str, Claim]:
    return {conflict.qualified(claim): claim for claim in conflict.claims}


def prefixed(conflict: ToolConflict) -> Mapping[str, Claim]:
    first, *others = conflict.claims
    return {conflict.name: first} | {conflict.qualified(claim): claim for claim in others}


async def test_plugins_get_definitions_that_they_cannot_change() -> None:
    claims: list[Claim] = []

    def resolve(conflict: ToolConflict) -> Mapping[str, Claim]:
        claims.extend(conflict.claims)
        return prefixed(conflict)

    result = published(await make("a", {"echo": TEXT}), await make("b", {"echo": NUMBER}), resolve=resolve)
    tools = [entry.tool for entry in result.entries.values() if entry.tool is not None]
    assert [tool.definition["name"] for tool in tools] == ["echo", "b__echo"]
    for definition in [thing.definition for thing in (*claims, *tools)]:
        for changed in (definition, definition["inputSchema"]["properties"]):
            with pytest.raises(TypeError, match="read-only"):
                changed["name"] = "other"


@pytest.mark.parametrize("intent", [{"priority": 1}, {"group": "g"}])
async def test_the_same_name_and_schema_is_one_tool_with_two_candidates_where_the_file_says_so(
    intent: dict[str, Any],
) -> None:
    a, b = await make("a", {"echo": TEXT}, **intent), await make("b", {"echo": TEXT}, **intent)
    result = published(a, b, resolve=prefixed)
    assert {name: [u.name for u in entry.upstreams] for name, entry in result.entries.items()} == {"echo": ["a", "b"]}
    assert not result.decisions


@pytest.mark.parametrize(
    ("first", "other"),
    [
        ({}, {}),
        ({"priority": 1}, {}),
        ({"group": "g"}, {}),
        ({"group": "g"}, {"group": "h"}),
        ({"group": "g", "priority": 1}, {"group": "h", "priority": 2}),
        ({"group": "g"}, {"priority": 2}),
    ],
)
async def test_upstreams_that_only_look_alike_are_two_servers(first: dict[str, Any], other: dict[str, Any]) -> None:
    a, b = await make("a", {"echo": TEXT}, **first), await make("b", {"echo": TEXT}, **other)
    result = published(a, b, resolve=prefixed)
    assert list(result.entries) == ["echo", "b__echo"]
    assert result.lookalikes == {("a", "b"): ["echo"]}
    assert list(published(a, b, resolve=prefixed, replicas="schema").entries) == ["echo"]


async def test_a_replica_is_one_of_all_members() -> None:
    a = await make("a", {"echo": TEXT}, group="g")
    b = await make("b", {"echo": TEXT}, group="g", priority=1)
    c = await make("c", {"echo": TEXT}, priority=2)
    result = published(a, b, c, resolve=prefixed)
    assert [[u.name for u in entry.upstreams] for entry in result.entries.values()] == [["a", "b"], ["c"]]


async def test_the_same_name_with_another_schema_is_a_clash_that_the_plugin_decides() -> None:
    a, b = await make("a", {"echo": TEXT}), await make("b", {"echo": NUMBER})
    result = published(a, b, resolve=prefixed)
    assert list(result.entries) == ["echo", "b__echo"]
    entry = result.entries["b__echo"]
    assert (entry.original, json.loads(entry.raw)["name"]) == ("echo", "b__echo")
    assert result.decisions[0].published == (("echo", ("a",)), ("b__echo", ("b",)))


async def test_true_and_one_are_different_schemas() -> None:
    a, b = await make("a", {"t": {"default": 1}}), await make("b", {"t": {"default": True}})
    assert len(published(a, b, resolve=prefixed).entries) == 2


async def test_declared_replicas_need_the_same_group() -> None:
    a, b = await make("a", {"echo": TEXT}, group="g", priority=1), await make("b", {"echo": TEXT}, priority=1)
    assert len(published(a, b, resolve=prefixed, replicas="declared").entries) == 2
    c = await make("c", {"echo": TEXT}, group="g")
    assert len(published(a, c, resolve=prefixed, replicas="declared").entries) == 1


async def test_without_a_plugin_the_first_in_the_file_keeps_the_name() -> None:
    a, b = await make("a", {"echo": TEXT}), await make("b", {"echo": NUMBER})
    result = published(a, b)
    assert [u.name for u in result.entries["echo"].upstreams] == ["a"]
    assert result.decisions[0].published[1] == (None, ("b",))


async def test_a_name_in_the_form_of_another_upstreams_is_published_under_the_own_prefix() -> None:
    bank = await make("bank", {"transfer": TEXT})
    c = await make("c", {"bank__transfer": TEXT, "bank__other": TEXT, "c__own": TEXT, "d__x": TEXT})
    for plugin in (prefixed, None):
        result = published(bank, c, resolve=plugin)
        assert list(result.entries) == ["transfer", "c__bank__transfer", "c__bank__other", "c__own", "d__x"]
        assert "belong to upstream bank" in result.warnings[0]


async def test_an_upstream_that_comes_last_does_not_take_a_prefixed_name() -> None:
    a, b = await make("a", {"x": TEXT}), await make("b", {"x": NUMBER})
    c = await make("c", {"b__x": TEXT})
    result = published(a, b, c, resolve=prefixed)
    assert {name: entry.upstreams[0].name for name, entry in result.entries.items()} == {
        "x": "a",
        "b__x": "b",
        "c__b__x": "c",
    }


async def test_an_upstreams_own_name_and_its_prefixed_one_are_both_published() -> None:
    a, b = await make("a", {"x": TEXT}), await make("b", {"x": NUMBER, "b__x": TEXT})
    result = published(a, b, resolve=prefixed)
    assert result.entries["b__x"].original == "b__x"
    other = next(name for name, entry in result.entries.items() if entry.upstreams == (b,) and entry.original == "x")
    assert other.startswith("b__x_")


async def test_the_longest_name_owns_what_two_could_mean() -> None:
    a, b = await make("a", {"x": TEXT, "_x": TEXT}), await make("a_", {"x": NUMBER})
    result = published(a, b, resolve=everything_prefixed)
    assert result.entries["a___x"].upstreams == (b,)
    assert len(result.entries) == 3


@pytest.mark.parametrize("kind", ["resource", "template"])
async def test_a_uri_with_anothers_mark_is_published_with_the_own_one(kind: Kind) -> None:
    bank, c = await make("bank", {"x:/a": TEXT}, kind=kind), await make("c", {"x:/b#upstream=bank": TEXT}, kind=kind)
    assert list(published(bank, c, kind=kind).entries) == ["x:/a", "x:/b#upstream=bank&upstream=c"]


async def test_the_order_is_the_files_whatever_order_lists_arrive_in() -> None:
    a, b = await make("a", {"z": TEXT, "y": TEXT}), await make("b", {"k": TEXT, "z": TEXT})
    assert list(published(a, b).entries) == ["z", "y", "k"]


@pytest.mark.parametrize(("name", "valid"), [("with space", "with_space"), ("a/b", "a_b"), ("naïve", "na_ve")])
async def test_names_outside_the_specification_are_changed_and_reported(name: str, valid: str) -> None:
    result = published(await make("a", {name: TEXT}))
    assert list(result.entries) == [valid]
    assert "published as" in result.warnings[0]


@pytest.mark.parametrize(
    "given",
    [
        ["查询天气", "查询航班"],
        ["get item", "get/item", "get:item"],
        ["get item", "get_item"],
        ["🙂", "_"],
        ["a" * 200, "a" * 201],
    ],
)
@pytest.mark.parametrize("length", [64, 128])
async def test_names_that_would_be_equal_or_empty_are_told_apart(given: list[str], length: int) -> None:
    names = NamesConfig(max_length=length)
    result = published(await make("a", dict.fromkeys(given, TEXT)), names=names)
    assert sorted(entry.original for entry in result.entries.values()) == sorted(given)
    for name, entry in result.entries.items():
        assert name == entry.original or re.search(r"[A-Za-z0-9]_?[0-9a-f]{8}$", name), "none has what two could mean"
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+", name) and len(name) <= length for name in result.entries)
    again = published(await make("a", dict.fromkeys(reversed(given), TEXT)), names=names)
    assert {entry.original: name for name, entry in again.entries.items()} == {
        entry.original: name for name, entry in result.entries.items()
    }
    assert all(name in result.entries for name in given if re.fullmatch(r"\w{1,64}", name, re.ASCII))


async def test_a_name_of_which_nothing_is_left_says_at_least_what_it_is() -> None:
    (name,) = published(await make("a", {"查询天气": TEXT})).entries
    assert re.fullmatch("tool_[0-9a-f]{8}", name)


async def test_names_that_become_equal_across_upstreams_are_a_clash() -> None:
    a, b = await make("a", {"get item": TEXT}), await make("b", {"get/item": TEXT})
    result = published(a, b, resolve=prefixed)
    assert {name: entry.original for name, entry in result.entries.items()} == {
        "get_item": "get item",
        "b__get_item": "get/item",
    }


async def test_a_name_that_is_too_long_is_shortened_without_losing_its_identity() -> None:
    one, two = "n" * 200, "n" * 201
    names = list(published(await make("a", {one: TEXT, two: TEXT})).entries)
    assert [len(name) for name in names] == [128, 128]
    assert names[0] != names[1]


async def test_a_prefix_counts_in_the_length() -> None:
    a, b = await make("a", {"n" * 60: TEXT}), await make("b" * 30, {"n" * 60: NUMBER})
    names = list(published(a, b, resolve=prefixed, names=NamesConfig(max_length=64)).entries)
    assert [len(name) for name in names] == [60, 64]


async def test_the_dot_can_be_switched_off() -> None:
    a = await make("a", {"x.y": TEXT, "x_z": TEXT})
    assert list(published(a).entries) == ["x.y", "x_z"]
    assert list(published(a, names=NamesConfig(dots=False)).entries) == ["x_y", "x_z"]
