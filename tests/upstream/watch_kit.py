"""Real servers under a watch, a clock that tests turn, and what the servers wrote down."""

from __future__ import annotations

import asyncio
import contextlib
import random
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from gateway_core.config import ProxyConfig, UpstreamConfig
from gateway_core.hooks import Chain
from gateway_core.upstream.health import HealthMonitor
from gateway_core.upstream.status import Clock
from gateway_core.upstream.upstream import Upstream

SERVERS = Path(__file__).parent / "servers"


class Longest(random.Random):
    """The longest wait that the jitter allows."""

    def uniform(self, a: float, b: float) -> float:
        return b


class HandClock(Clock):
    """Real time, and what a test adds to it. Waits end when the sum reaches their end."""

    def __init__(self) -> None:
        super().__init__(self._now, self._sleep)
        self.added = 0.0
        self.slept: list[float] = []
        """The waits that were asked for, in seconds."""
        self._turned = asyncio.Event()

    def _now(self) -> float:
        return time.monotonic() + self.added

    async def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        end = self.now() + seconds
        while (left := end - self.now()) > 0:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await self._turned.wait()

    def turn(self, seconds: float) -> None:
        self.added += seconds
        self._turned.set()
        self._turned = asyncio.Event()


class Journal:
    """What a server of `servers/` wrote down."""

    def __init__(self, file: Path) -> None:
        self.file = file

    @property
    def lines(self) -> list[tuple[float, str]]:
        text = self.file.read_text() if self.file.exists() else ""
        return [(float(line.split()[0]), line.split()[1]) for line in text.splitlines()]

    def times(self, what: str) -> list[float]:
        return [when for when, line in self.lines if line == what]

    @property
    def starts(self) -> list[list[str]]:
        """The messages after each start."""
        found: list[list[str]] = []
        for _, line in self.lines:
            if line == "started":
                found.append([])
            else:
                found[-1].append(line)
        return found


def stdio(name: str = "s", *args: str, **settings: Any) -> Upstream:
    """An upstream that starts a child process; the demo's server by default."""
    command, clock = settings.pop("command", sys.executable), settings.pop("clock", Clock())
    arguments = args or ("-m", "gateway_core.demo.stdio_server")
    config = UpstreamConfig(name=name, transport="stdio", command=command, args=arguments, **settings)
    return Upstream(config, ProxyConfig(), 0, clock=clock)


@contextlib.asynccontextmanager
async def watching(
    *upstreams: Upstream, on_change: Callable[[], None] = lambda: None, rng: random.Random | None = None
) -> AsyncIterator[HealthMonitor]:
    """Watch the upstreams, and close them at the end."""
    monitor = HealthMonitor(upstreams, Chain([]), on_change, rng)
    monitor.start()
    try:
        yield monitor
    finally:
        await monitor.stop()
        for upstream in upstreams:
            await upstream.close()


async def until(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    """Wait until the condition holds; fails after `seconds`."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.02)
