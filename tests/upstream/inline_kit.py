"""A pipeline over one scripted server, for inline calls: the test decides every byte that the server sends."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from gateway_core.api import CallResult, Era, Outcome, Principal
from gateway_core.catalog import Catalog
from gateway_core.config import ProxyConfig, UpstreamConfig
from gateway_core.exchange.exchange import Agent, Exchange
from gateway_core.hooks import Chain, LoadedPlugin
from gateway_core.inline.driver import InlineCall, Running
from gateway_core.mcp import jsonrpc
from gateway_core.pipeline.input_required import InputRequired
from gateway_core.pipeline.pipeline import Pipeline
from gateway_core.pipeline.router import Router
from gateway_core.sealing import Seal
from gateway_core.upstream.health import HealthMonitor
from gateway_core.upstream.pool import UpstreamPool

FAULTY = Path(__file__).parent / "servers" / "faulty.py"

Script = Callable[[Any, asyncio.StreamWriter], Awaitable[None]]
GOOD = {"content": [{"type": "text", "text": "good"}]}


def http(body: bytes, kind: str = "application/json", status: int = 200) -> bytes:
    head = f"HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def response(seen: Any, result: Any = GOOD, era: Era = "modern") -> bytes:
    content = {"resultType": "complete", **result} if era == "modern" else result
    return json.dumps({"jsonrpc": "2.0", "id": seen.message["id"], "result": content}, separators=(",", ":")).encode()


class World:
    """A pipeline over one scripted server."""

    def __init__(self, server: Any, *plugins: Any, **settings: Any) -> None:
        """`server`: a scripted one; None for `faulty.py` on stdio."""
        self.server = server
        own: dict[str, Any] = {"name": "up", "transport": "http", "url": server.url} if server is not None else {}
        faulty = {"name": "up", "transport": "stdio", "command": sys.executable, "args": (str(FAULTY), "compact")}
        upstream = UpstreamConfig(**{**(own or faulty), **settings.pop("upstream", {})})
        config = ProxyConfig(upstreams=(upstream,), **settings)
        methods = frozenset({"tools/call"})
        loaded = [LoadedPlugin(f"p{n}", it, "1", "d", (), "reject", methods) for n, it in enumerate(plugins)]
        chain = Chain(loaded)
        self.pool = UpstreamPool(config)
        self.upstream = self.pool.upstreams[0]
        self.catalog = Catalog(config, self.pool.upstreams, chain.resolve_conflict, Seal())
        self.health = HealthMonitor(self.pool.upstreams, chain, self.catalog.rebuild)
        self.router = Router(chain, InputRequired(config, Seal()))
        self.pipeline = Pipeline(config, self.catalog, self.router, chain, self.health.wait_first_lists)
        self.agents: dict[str, Agent] = {
            "modern": Agent(Principal("m@test"), "modern", "2026-07-28"),
            "legacy": Agent(Principal("l@test"), "legacy", "2025-11-25", session_id="s"),
        }

    def begin(self, name: str = "echo", era: Era = "modern", **arguments: Any) -> Running[CallResult]:
        """Begin a call of the server's tool."""
        params = {"name": name, "arguments": arguments}
        return self.pipeline.begin(Exchange(self.agents[era], "tools/call"), jsonrpc.members(jsonrpc.encode(params)))

    def inline(self, **arguments: Any) -> InlineCall[CallResult]:
        """Begin a call that waits for its upstream only, and so needs no task."""
        running = self.begin(**arguments)
        assert isinstance(running, InlineCall)
        assert not promoted(running)
        return running

    async def warm(self) -> None:
        """Have a connection and all the rest at hand."""
        for era in ("modern", "legacy"):
            assert (await ended(self.begin(era=era))).outcome is Outcome.OK

    def at_rest(self) -> bool:
        """Whether no call is in flight anywhere, and no place is taken."""
        connection: Any = self.upstream.connections.main
        return (
            self.pipeline.in_flight == self.upstream.facts.in_flight == self.router.in_flight == 0
            and self.upstream.limiter._taken == len(self.upstream.limiter._given_up)
            and not any(it.exchange for it in connection._pending.values())
        )


def promoted(running: Running[Any]) -> bool:
    """Whether a task carries the call."""
    return not isinstance(running, InlineCall) or running._task is not None


async def ended(running: Running[CallResult]) -> CallResult:
    """The result of a call, without promoting it."""
    if not running.done():
        done = asyncio.get_running_loop().create_future()
        running.add_done_callback(lambda _: done.set_result(None))
        async with asyncio.timeout(10):
            await done
    return running.result()


Start = Callable[..., Awaitable[World]]
