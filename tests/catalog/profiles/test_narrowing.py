"""What agents of a profile see, and what they reach."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from gateway_core.api import Kind, Principal
from gateway_core.catalog.replicas import ReplicaSet
from gateway_core.config import LimitsConfig
from gateway_core.errors import RpcError
from gateway_core.exchange.exchange import Agent
from gateway_core.mcp.cache_hints import Hint
from gateway_core.upstream.base import ServerInfo
from gateway_core.upstream.lists.fetched_lists import FetchedLists
from tests.catalog.profiles.conftest import LISTS, Make, items, tool, view
from tests.catalog.world import World

ALICE = "alice|keys"


def test_a_profile_hides_everything_that_it_does_not_include(world: Make) -> None:
    w = world({"tools": ["tickets:*", "!*delete*"]})
    shown = view(w)
    assert [*shown.tools] == ["tickets__search", "tickets__create", "tickets__chart"]
    assert not shown.prompts
    assert not shown.templates
    assert [*shown.resources] == ["ui://chart"], "the interface of a visible tool comes with it"
    assert [*w.catalog.snapshot.tools][:3] == ["tickets__search", "tickets__create", "tickets__delete"]


@pytest.mark.parametrize("name", ["tickets__delete", "tickets:delete", "wiki__read", "wiki:read", "wiki:hidden", "x:y"])
def test_a_hidden_tool_is_unknown_by_every_name(world: Make, name: str) -> None:
    catalog = world({"tools": ["tickets:*", "!*delete*"]}).catalog
    assert catalog.tool(name, ALICE, "p0") is None
    assert catalog.tool(name, ALICE) is not None or name == "x:y"


@pytest.mark.parametrize("name", ["tickets__search", "tickets:search"])
def test_a_visible_tool_is_reached_by_both_names(world: Make, name: str) -> None:
    target = world({"tools": ["tickets:*"]}).catalog.tool(name, ALICE, "p0")
    assert target is not None
    assert (target.original, [one.name for one in target.upstreams]) == ("search", ["tickets"])


def test_conflicts_and_replicas_of_hidden_items_are_not_shown(world: Make) -> None:
    w = world({"tools": ["tickets:create"]}, {"tools": ["wiki:search", "tickets:create"]})
    names = ("tickets__create", "tickets__delete")
    shared = ReplicaSet(("tickets", "other"), "they are in a group", {"tool": names, "prompt": ("tickets__triage",)})
    base = replace(w.catalog.snapshot, replicas=(shared, replace(shared, names={"tool": ("tickets__delete",)})))
    assert "search" in {one.name for one in base.decisions}
    first, second = (w.catalog.profiles.of(base, name) for name in ("p0", "p1"))
    assert [one.name for one in first.decisions] == []
    assert [one.name for one in second.decisions] == ["search"]
    assert [one.names for one in first.replicas] == [{"tool": ("tickets__create",)}]


def test_prompts_and_resources_have_globs_of_their_own(world: Make) -> None:
    w = world({"prompts": ["wiki:*"], "resources": ["wiki:*", "!*secret"]})
    shown, catalog = view(w), w.catalog
    assert [*shown.prompts] == ["wiki__summary"]
    assert [*shown.resources] == ["wiki:home", "ui://chart"]
    assert [*shown.templates] == ["wiki:pages/{name}"]
    assert catalog.prompt("wiki:summary", ALICE, "p0") is not None
    for unknown in ("tickets__triage", "tickets:triage", "wiki:other"):
        assert catalog.prompt(unknown, ALICE, "p0") is None


@pytest.mark.parametrize(
    ("uri", "reached"),
    [
        ("wiki:home", True),
        ("wiki:secret", False),
        ("wiki:pages/a", True),
        ("wiki:pages/secret", False),
        ("t:one", False),
        ("t:two", False),
        ("t:two#upstream=tickets", False),
        ("wiki:unlisted#upstream=wiki", True),
        ("wiki:a-secret#upstream=wiki", False),
        ("ui://chart", True),
    ],
)
def test_resources_are_reached_only_as_far_as_the_globs_go(world: Make, uri: str, reached: bool) -> None:
    catalog = world({"resources": ["wiki:*", "!*secret*"]}).catalog
    assert (catalog.resource(uri, ALICE, "p0") is not None) is reached
    assert (catalog.template(uri, ALICE, "p0") is not None) is reached


def test_a_hidden_template_makes_no_uri(world: Make) -> None:
    catalog = world({"resources": ["wiki:home"]}).catalog
    assert catalog.template("wiki:pages/{name}", ALICE, "p0") is None
    assert catalog.resource("wiki:pages/a", ALICE, "p0") is None
    assert catalog.resource("wiki:pages/a", ALICE) is not None


OVERRIDE = {
    "tool": "tickets:search",
    "name": "search_tickets",
    "title": "Search tickets",
    "description": "Search the tickets.",
    "annotations": {"readOnlyHint": True},
    "fixed": {"project": "SUPPORT"},
    "defaults": {"limit": 20},
}


def test_an_override_changes_what_agents_see_of_a_tool(world: Make) -> None:
    w = world({"tools": ["tickets:*"], "overrides": [OVERRIDE]})
    entry = view(w).tools["search_tickets"]
    assert json.loads(entry.raw) == {
        "name": "search_tickets",
        "title": "Search tickets",
        "description": "Search the tickets.",
        "inputSchema": {"type": "object", "properties": {"query": {"type": "string"}}, "required": ["query"]},
        "annotations": {"title": "Search tickets", "openWorldHint": True, "readOnlyHint": True},
    }
    assert [*view(w).tools] == ["search_tickets", "tickets__create", "tickets__delete", "tickets__chart"]
    for unknown in ("tickets__search", "search"):
        assert w.catalog.tool(unknown, ALICE, "p0") is None


@pytest.mark.parametrize("name", ["search_tickets", "tickets:search"])
def test_no_name_gets_around_what_is_set(world: Make, name: str) -> None:
    target = world({"overrides": [OVERRIDE]}).catalog.tool(name, ALICE, "p0")
    assert target is not None
    assert target.preset is not None
    assert json.loads(target.preset.added_to(b"")[0]) == {"project": "SUPPORT", "limit": 20}
    assert target.original == "search"


def test_plugins_get_the_real_names(world: Make) -> None:
    catalog = world({"overrides": [OVERRIDE]}).catalog
    target = catalog.tool("search_tickets", ALICE, "p0")
    assert target is not None
    assert target.tool is not None
    assert (target.tool.name, target.tool.original_name) == ("tickets__search", "search")
    listed = catalog.listed("tools/list", ALICE, "p0")["search_tickets"]
    assert (listed.name, listed.original_name, listed.upstreams) == ("tickets__search", "search", ("tickets",))


def test_the_definition_for_legacy_agents_hides_the_same_arguments(world: Make) -> None:
    w = world({"overrides": [OVERRIDE]}, reached=False)
    found = items("tool", tool("search"))[0]
    schema = json.dumps({"type": "object", "properties": {"project": {}, "limit": {}, "query": {}}}).encode()
    w.upstreams["tickets"].published.fetched = FetchedLists({"tool": (replace(found, legacy={"inputSchema": schema}),)})
    w.catalog.rebuild()
    (shown,) = json.loads(w.catalog.page("tools/list", "legacy", None, ALICE, "p0"))["tools"]
    assert shown["inputSchema"] == {"type": "object", "properties": {"query": {}}}


def rename(source: str, name: str) -> dict[str, Any]:
    return {"tool": source, "name": name}


def test_a_name_that_another_tool_has_is_not_given_away(world: Make, logged: Callable[[], str]) -> None:
    w = world({"tools": ["tickets:*"], "overrides": [rename("tickets:create", "tickets__delete")]})
    shown = view(w)
    assert {name: entry.original for name, entry in shown.tools.items()} == {
        "tickets__search": "search",
        "tickets__create": "create",
        "tickets__delete": "delete",
        "tickets__chart": "chart",
    }
    note = (
        "profile p0: tool 'tickets__create' is published as 'tickets__create': "
        "the name 'tickets__delete' is taken by tool 'tickets__delete'"
    )
    assert shown.warnings == (note,)
    assert note in logged()


def test_tools_can_swap_their_names(world: Make) -> None:
    overrides = [rename("tickets:create", "tickets__delete"), rename("tickets:delete", "tickets__create")]
    shown = view(world({"tools": ["tickets:*"], "overrides": overrides}))
    assert shown.tools["tickets__delete"].original == "create"
    assert shown.tools["tickets__create"].original == "delete"
    assert not shown.warnings


def test_no_tool_is_lost_when_its_own_name_is_gone_as_well(world: Make) -> None:
    overrides = [
        rename("tickets:create", "tickets__chart"),  # not renamed, so it keeps the name
        rename("tickets:search", "tickets__create"),
    ]
    shown = view(world({"tools": ["tickets:*"], "overrides": overrides}))
    assert {entry.original: name for name, entry in shown.tools.items()} == {
        "search": "tickets__create",
        "create": "tickets__chart_2",
        "delete": "tickets__delete",
        "chart": "tickets__chart",
    }


def test_names_that_are_not_reached_yet_are_reserved_as_the_profile_has_them(world: Make) -> None:
    w = world({"tools": ["tickets:*"], "overrides": [OVERRIDE]})
    remembered = FetchedLists({"tool": tuple(replace(one, raw=b"") for one in LISTS["tickets"]["tool"])})
    w.upstreams["tickets"].published.fetched = None
    w.memory.lists["tickets"] = remembered
    w.catalog.rebuild()
    assert not view(w).tools
    target = w.catalog.tool("search_tickets", ALICE, "p0")
    assert target is not None
    assert target.preset is not None
    assert w.catalog.tool("wiki__read", ALICE, "p0") is None


def test_lists_of_a_profile_are_not_shared_by_caches(world: Make) -> None:
    def scope(*profiles: dict[str, Any]) -> str:
        found = public(world(*profiles)).catalog.page("tools/list", "modern", None, ALICE, "p0" if profiles else "")
        return str(json.loads(found)["cacheScope"])

    def public(made: World) -> World:
        for name, lists in LISTS.items():
            hints = dict.fromkeys(lists, Hint(1000, public=True))
            made.upstreams[name].published.fetched = FetchedLists(lists, hints)
        made.catalog.rebuild()
        return made

    assert scope() == "public"
    assert scope({"tools": ["tickets:*"]}) == "private"
    w = public(world({"tools": ["tickets:*"]}))
    for profile in ("", "p0"):
        assert json.loads(w.catalog.page("tools/list", "modern", None, ALICE, profile))["cacheScope"] == "private"
    assert w.catalog.discover_hint().public is False


def test_a_cursor_belongs_to_its_profile(world: Make) -> None:
    w = world({"tools": ["tickets:*"]}, {"tools": ["*"]}, limits=LimitsConfig(page_size=2))

    def page(cursor: str | None, profile: str) -> Any:
        return json.loads(w.catalog.page("tools/list", "modern", cursor, ALICE, profile))

    cursor = page(None, "p0")["nextCursor"]
    assert [one["name"] for one in page(cursor, "p0")["tools"]] == ["tickets__delete", "tickets__chart"]
    for other in ("", "p1"):
        with pytest.raises(RpcError, match="this cursor was not given out for this list"):
            page(cursor, other)


def test_a_task_belongs_to_its_profile(world: Make) -> None:
    w = world({"tools": ["tickets:*"]}, {"tools": ["*"]})
    tasks = w.catalog.tasks
    mine = Principal(ALICE, profile="p0")
    task = tasks.id_for(mine, "tickets", "t1", "tickets__search")
    assert tasks.find(Agent(mine, "modern", "2026-07-28"), task) is not None
    for other in ("", "p1"):
        assert tasks.find(Agent(Principal(ALICE, profile=other), "modern", "2026-07-28"), task) is None


KINDS: tuple[Kind, ...] = ("tool", "prompt", "resource", "template")


def test_a_profile_of_everything_lists_everything(world: Make) -> None:
    w = world({"prompts": ["*"], "resources": ["*"]})
    for kind in KINDS:
        assert view(w).entries(kind) == w.catalog.snapshot.entries(kind)


def test_agents_are_told_only_of_upstreams_that_they_see(world: Make) -> None:
    w = world({"tools": ["clock:*"]}, {"tools": ["clock:*"], "title": "Desk", "instructions": "Ask the clock."})
    for name, words in (("tickets", "tickets first"), ("clock", "it is late")):
        w.upstreams[name].info = ServerInfo("modern", "2026-07-28", {}, instructions=words)
    assert w.catalog.identity("modern", "p0")["instructions"] == "it is late"
    told = w.catalog.identity("legacy", "p1")
    assert told["instructions"] == "Ask the clock."
    assert told["serverInfo"]["title"] == "Desk"
    assert "tickets first" in w.catalog.identity("modern")["instructions"]
