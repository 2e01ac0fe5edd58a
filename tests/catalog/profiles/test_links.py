"""Which links in results agents of a profile get."""

import json
from typing import Any

import pytest

from gateway_core.api import CallResult, Era, Outcome, Principal
from gateway_core.exchange.back import NO_BACK
from gateway_core.exchange.exchange import Agent, Exchange
from tests.catalog.profiles.conftest import Make
from tests.catalog.world import World

HIDDEN = ""
"""A link that a text replaces."""


async def links(world: World, upstream: str, uris: list[str], profile: str = "p0", era: Era = "modern") -> list[str]:
    """The URIs in a tool's result, as agents of the profile get them."""
    content = [{"type": "resource_link", "uri": uri, "name": "x"} for uri in uris]
    result = CallResult(json.dumps({"content": content}).encode(), None, Outcome.OK, upstream, era)
    agent = Agent(Principal("a", profile=profile), era, "2026-07-28")
    linked = await world.catalog.linked(Exchange(agent, "tools/call", NO_BACK), result)
    return [block.get("uri", HIDDEN) for block in json.loads(linked.raw)["content"]]


@pytest.mark.parametrize(
    ("profile", "expected"),
    [
        ({"resources": ["wiki:*"]}, ["wiki:home", "wiki:secret", "wiki:pages/a"]),
        ({"resources": ["wiki:*", "!*secret"]}, ["wiki:home", HIDDEN, "wiki:pages/a"]),
        ({"resources": ["wiki:wiki:home"]}, ["wiki:home", HIDDEN, HIDDEN]),
        ({}, [HIDDEN, HIDDEN, HIDDEN]),
    ],
)
async def test_a_link_stays_if_the_profile_shows_its_resource(
    world: Make, profile: dict[str, Any], expected: list[str]
) -> None:
    uris = ["wiki:home", "wiki:secret", "wiki:pages/a"]
    w = world(profile)
    assert await links(w, "wiki", uris) == expected
    assert await links(w, "wiki", uris, profile="") == uris


async def test_a_link_of_one_upstream_to_a_hidden_resource_of_another_is_withheld(world: Make) -> None:
    w = world({"resources": ["wiki:wiki:home"]})
    assert await links(w, "clock", ["wiki:home", "wiki:secret"]) == ["wiki:home", HIDDEN]


async def test_links_that_lead_elsewhere_stay_unless_an_upstream_has_them(world: Make) -> None:
    w = World(["files"], profiles=world({}).config.profiles)
    w.serve("files", ["file:///a", "https://example.org/listed"], ["https://example.org/pages/{name}"])
    found = await links(
        w,
        "files",
        [
            "https://example.org/b",
            "https://example.org/listed",
            "https://example.org/pages/a",
            "file:///b",
            "mailto:a@example.org",
        ],
    )
    assert found == ["https://example.org/b", HIDDEN, HIDDEN, HIDDEN, "mailto:a@example.org"]


async def test_many_links_against_a_hidden_template_are_all_withheld(world: Make) -> None:
    found = await links(world({}), "wiki", [f"wiki:pages/{number}" for number in range(1000)])
    assert set(found) == {HIDDEN}
