"""URI templates: what they match, and that a look-up is bounded for any templates and URIs."""

import asyncio
import json

import pytest

from gateway_core.api import CallResult, Outcome, Principal
from gateway_core.catalog.uris import templates
from gateway_core.catalog.uris.templates import EFFORT, MAX_MATCHED, TEST_COST, template_pattern
from gateway_core.exchange.back import NO_BACK
from gateway_core.exchange.exchange import Agent, Exchange
from gateway_core.upstream.lists.fetched_lists import FetchedLists, Item

from ..world import World, item


@pytest.mark.parametrize(
    ("template", "uri", "matches"),
    [
        ("file:///{name}", "file:///a.txt", True),
        ("file:///{name}", "file:///a/b.txt", False),
        ("file:///{+path}", "file:///a/b.txt", True),
        ("db://{table}/{id}", "db://users/7", True),
        ("db://{table}/{id}", "db://users", False),
        ("find://x{?q,lang}", "find://x?q=1&lang=en", True),
        ("find://x{?q}", "find://x", True),
        ("a.b://{x}", "aXb://y", False),
    ],
)
def test_a_template_recognises_its_uris(template: str, uri: str, matches: bool) -> None:
    pattern = template_pattern(template)
    assert pattern is not None
    assert bool(pattern.fullmatch(uri)) is matches


@pytest.mark.parametrize("template", ["x://{", "x://{}", "x://{a"])
def test_a_malformed_template_matches_nothing(template: str) -> None:
    assert template_pattern(template) is None


def test_many_wildcards_cost_no_backtracking() -> None:
    pattern = template_pattern("x://" + "{+a}" * 30 + "!")
    assert pattern is not None
    assert not pattern.fullmatch("x://" + "a" * 50_000)


@pytest.fixture
def tests(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The templates that were tested, one entry for each test."""
    done: list[str] = []

    def counted(template: str) -> object:
        done.append(template)
        return template_pattern(template)

    monkeypatch.setattr(templates, "template_pattern", counted)
    return done


def hostile_world(*offered: str) -> World:
    world = World(["hostile", "honest"])
    world.serve("honest", ["mine://1"], ["mine://{id}"])
    world.serve("hostile", [], offered)
    return world


def call_of(upstream: str, uris: list[str]) -> tuple[Exchange, CallResult]:
    """A call and its result, which has these links."""
    content = [{"type": "resource_link", "uri": uri, "name": "x"} for uri in uris]
    result = CallResult(json.dumps({"content": content}).encode(), None, Outcome.OK, upstream, "modern")
    agent = Agent(Principal("a", "127.0.0.1"), "modern", "2026-07-28")
    return Exchange(agent, "tools/call", NO_BACK), result


async def links_of(world: World, upstream: str, uris: list[str]) -> list[str]:
    await world.catalog.settled()
    """The URIs of the links in a result of that upstream, as agents get them."""
    linked = await world.catalog.linked(*call_of(upstream, uris))
    return [block["uri"] for block in json.loads(linked.raw)["content"]]


def test_templates_are_found_by_their_beginning(tests: list[str]) -> None:
    world = hostile_world(*(f"x{number}://{{+path}}" for number in range(200)))
    target = world.catalog.snapshot.resource("x7://a/b")
    assert target is not None
    assert [one.name for one in target.upstreams] == ["hostile"]
    assert tests == ["x7://{+path}"]


def test_an_upstream_with_too_many_templates_keeps_the_first_ones_and_is_warned_about() -> None:
    offered = [f"t{number}://{{id}}" for number in range(MAX_MATCHED + 1)]
    world = hostile_world(*offered)
    snapshot = world.catalog.snapshot
    assert len(snapshot.templates) == MAX_MATCHED + 2, "all are listed"
    assert snapshot.resource("t0://a") is not None
    assert snapshot.resource(f"t{MAX_MATCHED}://a") is None
    assert snapshot.resource(f"t{MAX_MATCHED}://a#upstream=hostile") is not None
    assert snapshot.resource("mine://7") is not None, "others are not concerned"
    assert any("upstream hostile has 257 URI templates" in warning for warning in snapshot.warnings)


async def test_many_links_against_many_templates_cost_a_bounded_number_of_tests(tests: list[str]) -> None:
    world = hostile_world(*(f"{{+a}}x{number}{{+b}}" for number in range(10_000)))
    links = await links_of(world, "hostile", [f"zzz://{number}" for number in range(1000)])
    assert len(tests) <= EFFORT // TEST_COST
    assert links[-1] == "zzz://999#upstream=hostile", "the mark of its upstream is always right"


async def test_a_link_to_the_web_stays_when_no_further_test_is_allowed(tests: list[str]) -> None:
    world = hostile_world(*(f"{{+a}}x{number}{{+b}}" for number in range(10_000)))
    links = await links_of(world, "honest", [f"zzz://{number}" for number in range(1000)] + ["https://example.org/a"])
    assert links[-1] == "https://example.org/a"
    assert links[-2] == "zzz://999#upstream=honest"


async def test_others_go_on_while_the_links_of_a_large_result_are_rewritten() -> None:
    world = hostile_world("zzz://{id}")
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0.001)

    task = asyncio.create_task(other())
    linked = await world.catalog.linked(*call_of("hostile", [f"other://{number}" for number in range(20_000)]))
    task.cancel()
    assert linked.raw.count(b"#upstream=hostile") == 20_000
    assert turns > 3


async def test_links_to_listed_resources_need_no_test(tests: list[str]) -> None:
    world = hostile_world(*(f"{{+a}}x{number}{{+b}}" for number in range(10_000)))
    links = await links_of(world, "honest", [f"zzz://{number}" for number in range(1000)] + ["mine://1"])
    assert links[-1] == "mine://1"


@pytest.mark.parametrize("size", [1000, 8 * 1024, 4 * 1024 * 1024])
def test_a_long_uri_is_read_a_bounded_number_of_times(size: int, tests: list[str]) -> None:
    world = hostile_world(*(f"{{+a}}x{number}{{+b}}" for number in range(10_000)))
    assert world.catalog.snapshot.resource("zzz://" + "a/" * (size // 2)) is None
    assert len(tests) * size <= EFFORT
    marked = world.catalog.snapshot.resource("zzz://" + "a/" * (size // 2) + "#upstream=honest")
    assert marked is not None
    assert [one.name for one in marked.upstreams] == ["honest"]


def test_links_of_tools_to_user_interfaces_share_one_budget(tests: list[str]) -> None:
    world = World(["hostile", "honest"])
    world.serve("honest", ["mine://1"])
    found = [item(f"{{+a}}x{number}{{+b}}", "template") for number in range(MAX_MATCHED)]
    tools = []
    for number in range(1000):
        definition = {"name": f"t{number}", "_meta": {"ui": {"resourceUri": f"ui://{number}"}}}
        tools.append(Item("tool", f"t{number}", json.dumps(definition).encode(), definition, ""))
    tests.clear()
    world.upstreams["hostile"].published.fetched = FetchedLists({"tool": tuple(tools), "template": tuple(found)})
    world.catalog.rebuild()
    assert len(tests) <= EFFORT // TEST_COST
    assert b"ui://999#upstream=hostile" in world.catalog.snapshot.tools["t999"].raw
