"""Nothing that has ended keeps its payload, however it ended: the collector of cycles is off, and memory is counted.

It does not count against the memory budget any more, either.
"""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from tests.payloads.conftest import BURST, LIMIT, Agent, Open

MEGABYTE = "m" * 1_000_000
Way = Callable[[Agent, str], Awaitable[None]]


def called(tool: str, expected: bytes, **arguments: Any) -> Way:
    """A call of `tool` whose answer has `expected` in it."""

    async def way(agent: Agent, payload: str) -> None:
        assert expected in (await agent.call(tool, **arguments, payload=payload))[-400:].replace(b'": ', b'":')

    return way


async def limited(agent: Agent, payload: str) -> None:
    for _ in range(BURST):
        if b"Rate limit" in await agent.call("main__tool_error"):
            break
    assert b"Rate limit" in await agent.call("main__tool_error", payload=payload)


async def unreachable(agent: Agent, payload: str) -> None:
    if not payload:
        assert b"Outcome unknown" in await agent.call("frail__die")
    assert b"-31001" in await agent.call("frail__ok", payload=payload)


async def unknown_outcome(agent: Agent, payload: str) -> None:
    while b"done" not in await agent.call("main__ok"):
        await asyncio.sleep(0.2)  # it is being started again
    await asyncio.sleep(1.1)  # so that it starts at once the next time
    assert b"Outcome unknown" in await agent.call("main__die", payload=payload)


async def cancelled(agent: Agent, payload: str) -> None:
    await agent.send(agent.message("tools/call", {"name": "main__hang", "arguments": {"payload": payload}}))
    await asyncio.sleep(0.2)
    await agent.give_up()


async def bad_params(agent: Agent, payload: str) -> None:
    await agent.send(agent.message("tools/call", {"name": "main__ok", "arguments": [payload]}))
    assert b"-32602" in await agent.receive()


async def no_such_method(agent: Agent, payload: str) -> None:
    await agent.send(agent.message("tools/nothing", {"payload": payload}))
    assert b"-32601" in await agent.receive()


async def no_such_resource(agent: Agent, payload: str) -> None:
    await agent.send(agent.message("resources/read", {"uri": "x:/y", "payload": payload}))
    assert b'"error"' in await agent.receive()


async def no_such_prompt(agent: Agent, payload: str) -> None:
    await agent.send(agent.message("prompts/get", {"name": "x", "arguments": {"payload": payload}}))
    assert b'"error"' in await agent.receive()


async def bad_cursor(agent: Agent, payload: str) -> None:
    await agent.send(agent.message("tools/list", {"cursor": "x" + payload}))
    assert b'"error"' in await agent.receive()


def written(before: bytes, after: bytes) -> Way:
    """A body that is refused, with the payload between these."""

    async def way(agent: Agent, payload: str) -> None:
        await agent.post(before + payload.encode() + after)
        assert b'"error":' in await agent.receive()

    return way


async def too_large(agent: Agent, payload: str) -> None:
    await agent.post(b"x" * (LIMIT + 1) if payload else b"x")
    assert b'"error":' in await agent.receive()
    if agent.hangs_up and payload:
        await agent.close()
        await agent.open()


WAYS: dict[str, Way] = {
    "ok": called("main__ok", b"done"),
    "large": called("main__large", b"xxx"),
    "tool error": called("main__tool_error", b'"isError":true'),
    "error": called("main__rpc_error", b"left out"),
    "unknown tool": called("nothing", b"-32602"),
    "refused": called("main__ok", b"-31003", end="refuse"),
    "refused late": called("main__ok", b"-31003", end="refuse late"),
    "answered with what was caught": called("main__ok", b"caught", end="catch"),
    "raised before": called("main__ok", b"-31004", end="raise before"),
    "raised late": called("main__ok", b"-31004", end="raise late"),
    "raised after": called("main__ok", b"-31004", end="raise after"),
    "raised late after": called("main__ok", b"-31004", end="raise late after"),
    "rate limited": limited,
    "not reached": unreachable,
    "timed out": called("slow__hang", b"Outcome unknown"),
    "cancelled": cancelled,
    "no result object": called("main__not_object", b"Outcome unknown"),
    "nested too deeply": called("main__too_deep", b"Outcome unknown"),
    "bad params": bad_params,
    "unknown method": no_such_method,
    "unknown resource": no_such_resource,
    "unknown prompt": no_such_prompt,
    "unknown cursor": bad_cursor,
    "unknown outcome": unknown_outcome,
    "not JSON": written(b"{", b""),
    "no message": written(b'{"jsonrpc":"2.0","params":{"x":"', b'"}}'),
    "given twice": written(b'{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"a","name":"', b'"}}'),
    "too large": too_large,
}
PATHS = [
    ("modern", "http", "http"),
    ("modern", "http", "stdio"),
    ("legacy", "http", "http"),
    ("legacy", "sse", "stdio"),
    ("modern", "stdio", "http"),
    ("legacy", "stdio", "stdio"),
]
"""Eras and transports of agents, and the transports of the upstream."""


@pytest.fixture
def counted() -> Iterator[None]:
    tracemalloc.start()
    gc.disable()
    yield
    gc.enable()
    tracemalloc.stop()


@pytest.mark.parametrize(("era", "transport", "upstream"), PATHS)
async def test_a_call_that_has_ended_keeps_no_payload(
    open_agent: Open, counted: None, era: str, transport: str, upstream: str
) -> None:
    agent = await open_agent(era, transport, upstream)
    kept = []
    for name, way in WAYS.items():
        await way(agent, "")
        await asyncio.sleep(0.05)
        before, _ = tracemalloc.get_traced_memory()
        await way(agent, MEGABYTE)
        await asyncio.sleep(0.05)
        after, _ = tracemalloc.get_traced_memory()
        counted_still = dict(agent.budget._owners)
        if counted_still:
            kept.append(f"{name}: {counted_still}")
        if after - before > len(MEGABYTE) / 2:
            kept.append(name)
            largest = tracemalloc.take_snapshot().statistics("lineno")[:5]
            print(f"----- {name}: {after - before} bytes", *largest, sep="\n")
            gc.collect()
    assert kept == []
