"""List pages as bytes, and the cursors between them."""

import json

import pytest

from gateway_core.catalog.lists import Lists
from gateway_core.catalog.snapshot import Entry
from gateway_core.errors import RpcError
from gateway_core.types import Kind, Tool
from gateway_core.upstream.inventory import Inventory

NOTHING: dict[Kind, dict[str, Entry]] = {"tool": {}, "prompt": {}, "resource": {}, "template": {}}


def entry(name: str, **members: object) -> Entry:
    definition = {"name": name, "inputSchema": {"type": "object"}, **members}
    return Entry("tool", name, name, json.dumps(definition).encode(), (), Tool(name, name, definition, ()))


def tools(*entries: Entry) -> dict[Kind, dict[str, Entry]]:
    return {**NOTHING, "tool": {found.name: found for found in entries}}


def test_an_empty_list_has_one_page() -> None:
    pages = Lists(10).pages(NOTHING, [])
    assert pages["prompts/list", "legacy"] == (b'{"prompts":[]}',)
    assert json.loads(pages["tools/list", "modern"][0])["ttlMs"] == 0


def test_a_walk_over_all_pages_sees_everything_once() -> None:
    lists = Lists(2)
    pages = lists.pages(tools(*(entry(f"t{n}") for n in range(5))), [])["tools/list", "legacy"]
    seen, number = [], 0
    for _ in pages:
        page = json.loads(pages[number])
        seen += [tool["name"] for tool in page["tools"]]
        if "nextCursor" in page:
            number = lists.read_cursor("tools/list", page["nextCursor"])
    assert seen == ["t0", "t1", "t2", "t3", "t4"]


@pytest.mark.parametrize("change", [lambda c: c[:-2] + "AA", lambda c: "", lambda c: "é", lambda c: "x" * 4000])
def test_an_altered_cursor_is_refused(change: object) -> None:
    lists = Lists(1)
    page = json.loads(lists.pages(tools(entry("a"), entry("b")), [])["tools/list", "legacy"][0])
    with pytest.raises(RpcError):
        lists.read_cursor("tools/list", change(page["nextCursor"]))  # type: ignore[operator]


def test_a_cursor_of_another_list_or_process_is_refused() -> None:
    lists = Lists(1)
    cursor = json.loads(lists.pages(tools(entry("a"), entry("b")), [])["tools/list", "legacy"][0])["nextCursor"]
    for reader, method in ((lists, "prompts/list"), (Lists(1), "tools/list")):
        with pytest.raises(RpcError):
            reader.read_cursor(method, cursor)


def test_modern_pages_vouch_as_long_as_the_shortest_and_as_privately_as_the_most_private() -> None:
    public, private = Inventory(ttl_ms=5000, cache_scope="public"), Inventory(ttl_ms=900, cache_scope="private")
    page = json.loads(Lists(1).pages(NOTHING, [public, private])["tools/list", "modern"][0])
    assert (page["ttlMs"], page["cacheScope"], page["resultType"]) == (900, "private", "complete")
    page = json.loads(Lists(1).pages(NOTHING, [public])["tools/list", "modern"][0])
    assert (page["ttlMs"], page["cacheScope"]) == (5000, "public")


def test_legacy_agents_see_only_output_schemas_of_objects() -> None:
    found = tools(entry("text", outputSchema={"type": "string"}), entry("object", outputSchema={"type": "object"}))
    pages = Lists(10).pages(found, [])
    legacy = {tool["name"]: tool for tool in json.loads(pages["tools/list", "legacy"][0])["tools"]}
    assert ("outputSchema" in legacy["text"], "outputSchema" in legacy["object"]) == (False, True)
    assert all("outputSchema" in tool for tool in json.loads(pages["tools/list", "modern"][0])["tools"])
