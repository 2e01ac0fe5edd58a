"""List pages as bytes, and the cursors between them."""

import json
from collections.abc import Iterator

import pytest

from gateway_core.api import Era, Kind, Tool
from gateway_core.catalog.entry import Entry
from gateway_core.catalog.lists import Listing, Lists
from gateway_core.errors import INVALID_PARAMS, RpcError
from gateway_core.limits.slices import finish
from gateway_core.mcp.cache_hints import Hint
from gateway_core.sealing import Seal
from gateway_core.upstream.lists.definitions import legacy_members

NOTHING: dict[Kind, dict[str, Entry]] = {"tool": {}, "prompt": {}, "resource": {}, "template": {}}


def entry(name: str, **members: object) -> Entry:
    definition = {"name": name, "inputSchema": {"type": "object"}, **members}
    legacy = {
        member: None if seen is None else json.dumps(seen).encode()
        for member, seen in legacy_members(definition).items()
    }
    raw = json.dumps(definition).encode()
    return Entry("tool", name, name, raw, (), Tool(name, name, definition, ()), legacy=legacy)


def tools(*entries: Entry) -> dict[Kind, dict[str, Entry]]:
    return {**NOTHING, "tool": {found.name: found for found in entries}}


def listing(lists: Lists, *entries: Entry, owner: str = "", era: Era = "legacy") -> Listing:
    return finish(lists.listings(tools(*entries), {}, owner))["tools/list", era]


def named(*names: str) -> list[Entry]:
    return [entry(name) for name in names]


def walk(lists: Lists, found: Listing, cursor: str | None = None) -> Iterator[tuple[list[str], str | None]]:
    """The names on each page, and the cursor to the next."""
    while True:
        page = json.loads(lists.page(found, cursor))
        cursor = page.get("nextCursor")
        yield [tool["name"] for tool in page["tools"]], cursor
        if cursor is None:
            return


def test_an_empty_list_has_one_page() -> None:
    listings = finish(Lists(10, Seal()).listings(NOTHING, {}))
    assert listings["prompts/list", "legacy"].pages == (b'{"prompts":[]}',)
    assert json.loads(listings["tools/list", "modern"].pages[0])["ttlMs"] == 0


def test_a_walk_over_all_pages_sees_everything_once() -> None:
    lists = Lists(2, Seal())
    found = listing(lists, *named("t0", "t1", "t2", "t3", "t4"))
    assert [names for names, _ in walk(lists, found)] == [["t0", "t1"], ["t2", "t3"], ["t4"]]


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c[:-2] + "AA",
        lambda c: "",
        lambda c: "é",
        lambda c: "x" * 4000,
        lambda c: c + c,
        lambda c: "x" * 10**6,
    ],
)
def test_a_cursor_that_was_never_given_out_is_refused(change: object) -> None:
    lists = Lists(1, Seal())
    found = listing(lists, *named("a", "b"))
    cursor = json.loads(lists.page(found, None))["nextCursor"]
    with pytest.raises(RpcError) as problem:
        lists.page(found, change(cursor))  # type: ignore[operator]
    assert problem.value.code == INVALID_PARAMS


def test_a_cursor_of_another_list_process_or_principal_is_refused() -> None:
    seal = Seal()
    lists = Lists(1, seal)
    mine = listing(lists, *named("a", "b"), owner="me@here")
    cursor = json.loads(lists.page(mine, None))["nextCursor"]
    assert json.loads(lists.page(mine, cursor))["tools"][0]["name"] == "b"
    others = {
        "list": (lists, finish(lists.listings(tools(*named("a", "b")), {}, "me@here"))["prompts/list", "legacy"]),
        "process": (Lists(1, Seal()), mine),
        "principal": (lists, listing(lists, *named("a", "b"), owner="you@here")),
        "everybody's": (lists, listing(lists, *named("a", "b"))),
    }
    for reader, found in others.values():
        with pytest.raises(RpcError):
            reader.page(found, cursor)


def test_a_cursor_is_good_in_another_process_that_shares_the_keys() -> None:
    one, other = Lists(1, Seal(["secret" * 6])), Lists(1, Seal(["secret" * 6]))
    cursor = json.loads(one.page(listing(one, *named("a", "b")), None))["nextCursor"]
    assert json.loads(other.page(listing(other, *named("a", "b")), cursor))["tools"][0]["name"] == "b"


@pytest.mark.parametrize(
    ("after", "rest"),
    [
        (["t0", "t1", "t2", "t3"], [["t2", "t3"]]),
        (["new", "t0", "t1", "t2", "t3"], [["t2", "t3"]]),
        (["t1", "t2", "t3", "t4"], [["t2", "t3"], ["t4"]]),
        (["t0", "t1"], [[]]),
        (["t1"], [[]]),
    ],
)
def test_a_walk_over_a_list_that_changes_repeats_and_leaves_out_nothing(
    after: list[str], rest: list[list[str]]
) -> None:
    lists = Lists(2, Seal())
    _, cursor = next(walk(lists, listing(lists, *named("t0", "t1", "t2", "t3"))))
    changed = listing(lists, *named(*after))
    assert [names for names, _ in walk(lists, changed, cursor)] == rest


def test_a_cursor_whose_place_has_gone_is_refused() -> None:
    lists = Lists(1, Seal())
    _, cursor = next(walk(lists, listing(lists, *named("a", "b", "c"))))
    with pytest.raises(RpcError, match="start again") as problem:
        lists.page(listing(lists, *named("b", "c")), cursor)
    assert problem.value.code == INVALID_PARAMS


def test_modern_pages_say_what_is_vouched_for() -> None:
    listings = finish(Lists(1, Seal()).listings(NOTHING, {"tool": Hint(5000, public=True), "prompt": Hint(900)}))
    page = json.loads(listings["tools/list", "modern"].pages[0])
    assert (page["ttlMs"], page["cacheScope"], page["resultType"]) == (5000, "public", "complete")
    page = json.loads(listings["prompts/list", "modern"].pages[0])
    assert (page["ttlMs"], page["cacheScope"]) == (900, "private")
    assert "ttlMs" not in json.loads(listings["tools/list", "legacy"].pages[0])


def test_legacy_agents_see_only_output_schemas_of_objects() -> None:
    found = tools(entry("text", outputSchema={"type": "string"}), entry("object", outputSchema={"type": "object"}))
    listings = finish(Lists(10, Seal()).listings(found, {}))
    legacy = {tool["name"]: tool for tool in json.loads(listings["tools/list", "legacy"].pages[0])["tools"]}
    assert ("outputSchema" in legacy["text"], "outputSchema" in legacy["object"]) == (False, True)
    assert all("outputSchema" in tool for tool in json.loads(listings["tools/list", "modern"].pages[0])["tools"])
