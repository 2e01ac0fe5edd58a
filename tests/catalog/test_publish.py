"""Replicas joined, clashes decided, names made valid, in the file's order."""

import json
from collections.abc import Mapping

import pytest

from gateway_core.catalog.publish import Published, publish
from gateway_core.config import ProxyConfig, UpstreamConfig
from gateway_core.types import Claim, Kind, ToolConflict
from gateway_core.upstream.inventory import Inventory
from gateway_core.upstream.listing import fetch_list
from gateway_core.upstream.requests import Reply
from gateway_core.upstream.upstream import Upstream

TEXT = {"type": "object", "properties": {"text": {"type": "string"}}}
NUMBER = {"type": "object", "properties": {"number": {"type": "integer"}}}


async def make(name: str, tools: Mapping[str, object], *, group: str | None = None, order: int = 0) -> Upstream:
    """An upstream that has answered `tools/list`: name -> input schema."""
    upstream = Upstream(
        UpstreamConfig(name=name, transport="stdio", command="unused", group=group), ProxyConfig(), order
    )
    answer = json.dumps({"tools": [{"name": tool, "inputSchema": schema} for tool, schema in tools.items()]}).encode()

    async def send(method: str, params: Mapping[str, object]) -> Reply:
        return Reply(result=answer)

    fetched = await fetch_list(name, send, "legacy", "tool", timeout=5)
    upstream.offer.inventory = Inventory().with_list("tool", fetched, hinted=False)
    return upstream


def published(
    *upstreams: Upstream, resolve: object = None, declared_only: bool = False, kind: Kind = "tool"
) -> Published:
    return publish(
        kind,
        {upstream: upstream.inventory for upstream in upstreams if upstream.inventory is not None},
        resolve or (lambda conflict: None),  # type: ignore[arg-type]
        separator="__",
        declared_only=declared_only,
    )


def prefixed(conflict: ToolConflict) -> Mapping[str, Claim]:
    first, *others = conflict.claims
    return {conflict.name: first} | {conflict.qualified(claim): claim for claim in others}


async def test_the_same_name_and_schema_is_one_tool_with_two_candidates() -> None:
    a, b = await make("a", {"echo": TEXT}), await make("b", {"echo": TEXT})
    result = published(a, b, resolve=prefixed)
    assert {name: [u.name for u in entry.upstreams] for name, entry in result.entries.items()} == {"echo": ["a", "b"]}
    assert not result.decisions


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
    a, b = await make("a", {"echo": TEXT}, group="g"), await make("b", {"echo": TEXT})
    assert len(published(a, b, resolve=prefixed, declared_only=True).entries) == 2
    c = await make("c", {"echo": TEXT}, group="g")
    assert len(published(a, c, resolve=prefixed, declared_only=True).entries) == 1


async def test_without_a_plugin_the_first_in_the_file_keeps_the_name() -> None:
    a, b = await make("a", {"echo": TEXT}), await make("b", {"echo": NUMBER})
    result = published(a, b)
    assert [u.name for u in result.entries["echo"].upstreams] == ["a"]
    assert result.decisions[0].published[1] == (None, ("b",))


async def test_a_prefixed_name_never_takes_one_that_exists() -> None:
    a = await make("a", {"x": TEXT})
    b = await make("b", {"x": NUMBER})
    c = await make("c", {"b__x": TEXT})
    result = published(a, b, c, resolve=prefixed)
    assert [u.name for u in result.entries["b__x"].upstreams] == ["c"]
    assert "left out" in result.warnings[0]


async def test_the_order_is_the_files_whatever_order_lists_arrive_in() -> None:
    a, b = await make("a", {"z": TEXT, "y": TEXT}), await make("b", {"k": TEXT, "z": TEXT})
    assert list(published(a, b).entries) == ["z", "y", "k"]


@pytest.mark.parametrize(("name", "valid"), [("with space", "with_space"), ("a/b", "a_b"), ("naïve", "na_ve")])
async def test_names_outside_the_specification_are_mended_and_reported(name: str, valid: str) -> None:
    result = published(await make("a", {name: TEXT}))
    assert list(result.entries) == [valid]
    assert "published as" in result.warnings[0]


async def test_a_name_that_is_too_long_is_shortened_without_losing_its_identity() -> None:
    one, two = "n" * 200, "n" * 201
    names = list(published(await make("a", {one: TEXT, two: TEXT})).entries)
    assert [len(name) for name in names] == [128, 128]
    assert names[0] != names[1]
