"""The upstreams that URIs lead to."""

import json

import pytest

from gateway_core.api import CallResult, Outcome, Principal
from gateway_core.exchange.back import NO_BACK
from gateway_core.exchange.exchange import Agent, Exchange

from .world import World

ELSEWHERE = [
    "https://example.org/a#part",
    "HTTPS://example.org",
    "http://localhost:3000/x?y=1",
    "mailto:someone@example.org",
    "tel:+49-30-1234",
    "sms:+4930?body=x",
    "urn:isbn:0451450523",
    "geo:52.5,13.4",
    "data:text/plain;base64,eA==",
    "blob:https://example.org/1",
    "about:blank",
    "javascript:alert(1)",
    "ftp://example.org/x",
    "wss://example.org/x",
    "ssh://git@example.org/x",
    "magnet:?xt=urn:btih:1",
    "doi:10.1000/1",
    "vscode://file/x:1",
    "msteams:/l/chat/0",
    "file:///home/someone/report.pdf",
    " https://example.org/space",
    "",
]


@pytest.mark.parametrize("uri", ELSEWHERE)
def test_a_link_to_what_no_upstream_serves_stays_as_it_is(uri: str) -> None:
    world = World(["a", "b"])
    world.serve("a", ["note://1"], ["note://all/{id}"])
    world.serve("b", ["page://1"], ["page://all/{id}"])
    assert world.catalog.snapshot.published_uri("b", uri) == uri


@pytest.mark.parametrize("listed", [True, False])
@pytest.mark.parametrize(
    "uri", ["https://example.org/a", "file:///x", "urn:x:1", "mailto:x", "data:,x", "tel:1", "git://x"]
)
def test_a_link_to_what_its_upstream_serves_leads_to_it_whatever_the_scheme(uri: str, listed: bool) -> None:
    world = World(["a", "b"])
    serves = {"resources": [uri]} if listed else {"templates": [f"{uri[:-1]}{{last}}"]}
    for upstream in ("a", "b"):
        world.serve(upstream, **serves)
    for upstream in ("a", "b"):
        published = world.catalog.snapshot.published_uri(upstream, uri)
        target = world.catalog.resource(published)
        assert target is not None
        assert (target.original, [one.name for one in target.upstreams]) == (uri, [upstream])


def test_a_link_of_one_upstream_to_the_web_stays_although_another_serves_the_same_scheme() -> None:
    world = World(["a", "b"])
    world.serve("a", ["https://example.org/docs"], ["https://example.org/issues/{number}"])
    world.serve("b", ["https://example.org/other"])
    for uri in ("https://example.org/docs", "https://example.org/issues/7", "https://example.org/else"):
        assert world.catalog.snapshot.published_uri("b", uri) == uri


@pytest.mark.parametrize("uri", ["page://2", "report://1", "file:///x/unlisted", "relative/path"])
def test_a_link_to_an_unlisted_resource_leads_to_its_upstream(uri: str) -> None:
    """Links of tools are not always in the list (server/tools, Resource Links)."""
    world = World(["a", "b"])
    world.serve("a", ["note://1", "file:///x/1"])
    world.serve("b", ["page://1", "file:///x/2"])
    for upstream in ("a", "b"):
        published = world.catalog.snapshot.published_uri(upstream, uri)
        assert published == f"{uri}#upstream={upstream}"
        target = world.catalog.resource(published)
        assert target is not None
        assert (target.original, [one.name for one in target.upstreams]) == (uri, [upstream])


@pytest.mark.parametrize(
    "greedy", ["{+anything}", "bank://{+rest}", "bank://account/{+rest}", "{scheme}://account/{id}"]
)
def test_a_greedy_template_takes_no_uris_of_a_more_precise_one(greedy: str) -> None:
    world = World(["greedy", "bank"])
    world.serve("greedy", templates=[greedy])
    world.serve("bank", templates=["bank://account/{id}"])
    target = world.catalog.resource("bank://account/7")
    assert target is not None
    assert [one.name for one in target.upstreams] == ["bank"]
    assert world.catalog.snapshot.published_uri("bank", "bank://account/7") == "bank://account/7"
    assert world.catalog.snapshot.published_uri("greedy", "bank://account/7") == "bank://account/7#upstream=greedy"


def test_of_equally_precise_templates_the_first_in_the_file_counts() -> None:
    world = World(["a", "b"])
    world.serve("a", templates=["x://{one}"])
    world.serve("b", templates=["x://{other}"])
    target = world.catalog.resource("x://1")
    assert target is not None
    assert [one.name for one in target.upstreams] == ["a"]


async def test_what_an_upstream_was_read_from_leads_to_it_whatever_the_scheme() -> None:
    world = World(["a", "b"])
    world.serve("a", ["note://1"])
    world.serve("b", ["page://1"])
    agent = Agent(Principal("p"), "modern", "2026-07-28")
    raw = b'{"contents":[{"uri":"https://example.org/x","text":""}]}'
    result = CallResult(raw, None, Outcome.OK, "b", "modern")
    read = await world.catalog.linked(Exchange(agent, "resources/read", NO_BACK), result)
    assert json.loads(read.raw)["contents"][0]["uri"] == "https://example.org/x#upstream=b"
    assert world.catalog.published_uri("b", "https://example.org/x") == "https://example.org/x#upstream=b"
    block = b'{"content":[{"type":"resource_link","name":"x","uri":"https://example.org/x"}]}'
    called = await world.catalog.linked(
        Exchange(agent, "tools/call", NO_BACK), CallResult(block, None, Outcome.OK, "b", "modern")
    )
    assert called.raw == block
