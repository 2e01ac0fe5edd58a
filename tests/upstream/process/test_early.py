"""Children that are started before the gateway is there to hear them."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import pytest

from gateway_core.config import LimitsConfig, UpstreamConfig
from gateway_core.errors import NotSent
from gateway_core.upstream.base import ClientContext
from gateway_core.upstream.process import child as module
from gateway_core.upstream.process.early import MAX_EARLY, EarlyChildren
from gateway_core.upstream.transports.stdio import StdioConnection
from tests.upstream.process.test_child import gone_within

FAULTY = str(Path(__file__).parents[1] / "servers" / "faulty.py")


def stdio(name: str = "up", *args: str, command: str = sys.executable) -> UpstreamConfig:
    return UpstreamConfig(name=name, transport="stdio", command=command, args=args or (FAULTY,))


def connection(config: UpstreamConfig, early: Any) -> StdioConnection:
    return StdioConnection(config, LimitsConfig(), ClientContext(lambda *told: None), early)


async def until(condition: Any) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)


async def test_a_connection_takes_the_child_that_is_there_and_the_next_one_starts_its_own() -> None:
    config = stdio()
    early = EarlyChildren([config])
    await early.start()
    child = early.take("up")
    assert child is not None
    assert early.take("up") is None
    found = connection(config, child)
    info = await found.open(None)
    assert info.name == "faulty"
    assert found._child is child
    await found.close()
    assert child._ended
    other = connection(config, early.take("up"))
    await other.open(None)
    assert other._child is not child
    await other.close()
    await early.stop()


async def test_what_it_said_before_anybody_heard_it_is_heard(tmp_path: Path) -> None:
    banner = f"import runpy, sys; print('Welcome!', flush=True); sys.argv = ['x']; runpy.run_path({FAULTY!r})"
    config = stdio("up", "-c", banner)
    early = EarlyChildren([config])
    await early.start()
    await until(lambda: early._children["up"]._unheard)
    found = connection(config, early.take("up"))
    assert (await found.open(None)).name == "faulty"
    assert found.unexpected.counts["malformed message"] == 1
    await found.close()


async def test_children_that_the_gateway_does_not_take_are_ended_with_all_that_they_started(tmp_path: Path) -> None:
    file = tmp_path / "pids"
    early = EarlyChildren([stdio("up", FAULTY, "family", str(file)), stdio("other")])
    await early.start()
    await until(lambda: file.exists() and len(file.read_text().split()) == 2)
    await early.stop()
    assert await gone_within(2, *map(int, file.read_text().split()))


async def test_one_that_cannot_be_started_is_left_to_who_tries_again() -> None:
    missing = stdio("missing", command="/nothing/there")
    early = EarlyChildren([missing])
    await early.start()
    assert early.take("missing") is None
    with pytest.raises(NotSent, match="no such executable file"):
        await connection(missing, None).open(None)


async def test_one_that_has_ended_meanwhile_is_reported_like_any_other() -> None:
    gone = stdio("gone", "-c", "import sys; sys.exit(3)")
    early = EarlyChildren([gone])
    await early.start()
    child = early._children["gone"]
    await until(lambda: child._ended)
    found = connection(gone, early.take("gone"))
    with pytest.raises(NotSent, match="exited with status 3"):
        await found.open("legacy")
    await found.close()


async def test_one_that_writes_without_end_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_UNHEARD", 10_000)
    chatty = stdio("up", "-c", "while True: print('x' * 1000)")
    early = EarlyChildren([chatty])
    await early.start()
    child = early._children["up"]
    await until(lambda: child._ended)
    assert len(child._unheard) <= 10_000
    found = connection(chatty, early.take("up"))
    with pytest.raises(NotSent, match="writes without being asked"):
        await found.open("legacy")
    await found.close()
    assert child._exited.is_set(), "and no second one runs beside it"


async def test_only_children_and_only_so_many_are_started_early() -> None:
    far = UpstreamConfig(name="far", transport="http", url="http://127.0.0.1:9/mcp")
    early = EarlyChildren([far, *(stdio(f"up{number}", "-c", "input()") for number in range(MAX_EARLY + 3))])
    await early.start()
    assert len(early._children) == MAX_EARLY
    assert early.take("far") is None
    await early.stop()
