"""Trace context of calls, from the agent's request to the bytes that an upstream gets."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gateway_core import CallBegun, CallTrace, HopStep, UpstreamView, hookimpl
from gateway_core.api import Era, Outcome
from gateway_core.downstream.agents import meta_of
from gateway_core.exchange.back import NoBackChannel
from gateway_core.exchange.exchange import Exchange
from gateway_core.mcp import jsonrpc
from tests.upstream.inline_kit import GOOD, Start, World, ended, http, promoted, response

AGENT = "00-0af7651916cd43dd8448eb211c80319c-00f067aa0ba902b7-01"
HOP = "00-11111111111111111111111111111111-{:016x}-01"


class Follows(CallTrace):
    """Sends a context of its own along with each request of each call."""

    def __init__(self, context: dict[str, str] | None = None) -> None:
        self.context = context
        self.begun: list[CallBegun] = []
        self.hops: list[UpstreamView] = []
        self.events: list[Any] = []

    @hookimpl
    def trace_call(self, begun: CallBegun) -> Any:
        self.begun.append(begun)
        return self if self.context is None else self.context

    def hop(self, upstream: UpstreamView) -> dict[str, str]:
        self.hops.append(upstream)
        return {"traceparent": HOP.format(len(self.hops)), "tracestate": "gw=1"}

    def ended(self, event: Any) -> None:
        self.events.append(event)


class Back(NoBackChannel):
    """The back channel of a request over HTTP."""

    def __init__(self, **fields: str) -> None:
        self.fields = fields


def well(era: Era) -> Any:
    async def script(seen: Any, writer: asyncio.StreamWriter) -> None:
        writer.write(http(response(seen, GOOD, era)))

    return script


async def call(made: World, *, meta: dict[str, Any], agent: Era = "modern", **given: Any) -> Any:
    """Call the tool, with a `_meta` of the agent; returns what the server got."""
    params = {"name": "echo", "arguments": {"value": 1}, "_meta": meta}
    members = jsonrpc.members(jsonrpc.encode(params))
    exchange = Exchange(made.agents[agent], "tools/call", meta=meta_of(members), **given)
    running = made.pipeline.begin(exchange, members)
    assert given.get("log_level") or not promoted(running)
    assert (await ended(running)).outcome is Outcome.OK
    return made.server.of("tools/call")[-1]


def context_in(seen: Any) -> tuple[Any, ...]:
    """The context in `_meta`, and in the headers."""
    meta = seen.message["params"]["_meta"]
    assert seen.body.count(b'"traceparent"') <= 1
    names = ("traceparent", "tracestate")
    return tuple(meta.get(name) for name in names), tuple(seen.headers.get(name) for name in names)


@pytest.mark.parametrize("log_level", ["", "info"], ids=["prepared", "encoded"])
@pytest.mark.parametrize("agent", ["modern", "legacy"])
@pytest.mark.parametrize("server", ["modern", "legacy"])
async def test_each_request_carries_its_own_context_in_meta_and_header(
    world: Start, server: Era, agent: Era, log_level: str
) -> None:
    plugin = Follows()
    made = await world(well(server), plugin, era=server)
    begun = len(plugin.hops)
    meta = {"traceparent": AGENT, "tracestate": "agent=1", "vendor/key": "x%d"}
    for number in (begun + 1, begun + 2):
        seen = await call(made, meta=meta, agent=agent, log_level=log_level)
        expected = (HOP.format(number), "gw=1")
        assert context_in(seen) == (expected, expected)
        assert seen.message["params"]["_meta"]["vendor/key"] == "x%d"
    assert plugin.begun[-1].meta == {"traceparent": AGENT, "tracestate": "agent=1"}
    assert plugin.hops[-1].name == "up"
    (step,) = plugin.events[-1].steps
    assert isinstance(step, HopStep)
    assert (step.upstream, step.ended) == ("up", "answered")
    assert made.at_rest()


@pytest.mark.parametrize("server", ["modern", "legacy"])
async def test_a_context_that_passes_replaces_that_of_the_agent(world: Start, server: Era) -> None:
    context = {"traceparent": HOP.format(7)}
    made = await world(well(server), Follows(context), era=server)
    seen = await call(made, meta={"traceparent": AGENT, "tracestate": "agent=1"})
    assert context_in(seen) == ((HOP.format(7), None), (HOP.format(7), None))
    assert made.at_rest()


@pytest.mark.parametrize("server", ["modern", "legacy"])
async def test_without_a_plugin_the_context_of_the_agent_passes_in_the_meta_alone(world: Start, server: Era) -> None:
    made = await world(well(server), era=server)
    back = Back(traceparent=HOP.format(1))
    seen = await call(made, meta={"traceparent": AGENT, "tracestate": "agent=1"}, back=back)
    assert context_in(seen) == ((AGENT, "agent=1"), (None, None))


async def test_the_plugin_is_told_of_the_context_in_the_headers(world: Start) -> None:
    plugin = Follows()
    made = await world(well("modern"), plugin)
    await call(made, meta={}, back=Back(traceparent=AGENT, tracestate="a=1", authorization="secret"))
    assert (plugin.begun[-1].meta, plugin.begun[-1].headers) == ({}, {"traceparent": AGENT, "tracestate": "a=1"})


async def test_a_request_over_stdio_carries_its_context_in_the_meta(world: Start) -> None:
    plugin = Follows()
    made = await world(None, plugin)
    members = jsonrpc.members(jsonrpc.encode({"name": "up:echo", "arguments": {"value": 1}}))
    result = await made.pipeline.call(Exchange(made.agents["modern"], "tools/call"), members)
    assert plugin.hops[-1].transport == "stdio"
    assert HOP.format(1) in result.raw.decode()
