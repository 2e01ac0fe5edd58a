"""Health monitoring of all upstreams, and the wait for their first lists after the start."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Final

from loguru import logger

from gateway_core.api import UpstreamState
from gateway_core.hooks import Chain
from gateway_core.internal_errors import where
from gateway_core.supervised import cancel_all
from gateway_core.upstream.upstream import Upstream
from gateway_core.upstream.watch import Watch

DRAIN_INTERVAL: Final = 0.05
"""Seconds between two looks at whether calls are in flight."""
STARTUP_GRACE: Final = 5.0
"""Seconds after the start in which list requests wait for upstreams not yet tried; later they never wait."""
FIRST_GRACE: Final = 20.0
"""Seconds that they wait while no upstream has been reached: an empty list is useless to agents."""


class HealthMonitor:
    """Runs one watch task per upstream. `on_change` is called when an upstream's lists or state change."""

    def __init__(
        self,
        upstreams: Sequence[Upstream],
        chain: Chain,
        on_change: Callable[[], None],
        rng: random.Random | None = None,
    ) -> None:
        self._upstreams = tuple(upstreams)
        self._chain = chain
        self._on_change = on_change
        self._rng = rng or random.Random()  # noqa: S311 - jitter, not a secret
        self._watches: dict[Upstream, Watch] = {}
        self._tasks: dict[Upstream, asyncio.Task[None]] = {}
        self._reconnecting: dict[Upstream, asyncio.Task[None]] = {}
        """Those that an operator reconnects; they have no watch meanwhile."""
        self._started = 0.0
        self._begun = asyncio.Event()
        self._waited = False

    def start(self) -> None:
        """Start the watch tasks. Returns at once; they connect in the background."""
        self._started = asyncio.get_running_loop().time()
        self.watch(self._upstreams)
        self._begun.set()

    def watch(self, upstreams: Iterable[Upstream]) -> None:
        """Start to watch upstreams that are not watched yet. Returns at once."""
        for upstream in upstreams:
            if upstream not in self._watches:
                watch = Watch(upstream, lambda: self._chain, self._on_change, self._rng)
                self._watches[upstream] = watch
                self._tasks[upstream] = asyncio.create_task(watch.run(), name=f"watch {upstream.name}")

    async def forget(self, upstreams: Iterable[Upstream]) -> None:
        """Stop to watch and to reconnect these upstreams. Their owner closes their connections."""
        forgotten = tuple(upstreams)
        await cancel_all(task for it in forgotten if (task := self._reconnecting.pop(it, None)) is not None)
        await self._stop_watching(forgotten)

    async def _stop_watching(self, upstreams: Iterable[Upstream]) -> None:
        await cancel_all(self._tasks.pop(it) for it in upstreams if self._watches.pop(it, None) is not None)

    def begin_reconnect(self, name: str, patience: float) -> bool:
        """Connect to an upstream again, in the background: its calls in flight end first, within `patience` seconds.

        Until it is reached, later calls go to its replicas, or are refused. No effect while that is going on already.
        Returns whether there is an upstream with this name.
        """
        found = next((upstream for upstream in self._upstreams if upstream.name == name), None)
        if found is not None and found in self._watches and found not in self._reconnecting:
            task = asyncio.create_task(self._reconnect(found, patience), name=f"reconnect {name}")
            self._reconnecting[found] = task
        return found is not None

    async def _reconnect(self, upstream: Upstream, patience: float) -> None:
        await self._stop_watching([upstream])
        upstream.status.enter(UpstreamState.CONNECTING, reason="an operator reconnects it")
        deadline = upstream.clock.now() + patience
        while upstream.facts.in_flight and upstream.clock.now() < deadline:
            await upstream.clock.sleep(DRAIN_INTERVAL)
        try:
            await upstream.connections.disconnect()
        except Exception as error:  # noqa: BLE001 - after a bug, the upstream is watched again
            logger.error("{} while {} is reconnected\n{}", type(error).__name__, upstream.name, where(error))
        del self._reconnecting[upstream]
        upstream.connections.demand.ask()
        self.watch([upstream])

    def use(self, upstreams: Sequence[Upstream], chain: Chain) -> None:
        """Check by the plugins of `chain` from now on, and count these upstreams as the present ones."""
        self._upstreams, self._chain = tuple(upstreams), chain

    async def wait_attempts(self, upstreams: Iterable[Upstream], timeout: float) -> None:
        """Wait at most `timeout` seconds until each of these upstreams has been reached or has failed once."""
        await _wait(timeout, [self._watches[upstream].attempted for upstream in upstreams], asyncio.ALL_COMPLETED)

    async def wait_first_attempts(self, timeout: float) -> None:
        """Wait at most `timeout` seconds until each upstream has been reached or has failed once."""
        await _wait(timeout, [watch.attempted for watch in self._watches.values()], asyncio.ALL_COMPLETED)

    async def wait_first_lists(self, target: Collection[Upstream] = (), *, listing: bool = False) -> bool:
        """Wait for upstreams to be reached, within `STARTUP_GRACE` and `FIRST_GRACE` of the start.

        `target`: wait for the first of these, within `FIRST_GRACE`. `listing`: wait only for upstreams whose lists are
        not known. Returns whether it waited, so that the lists may have changed.
        """
        if self._waited:
            return False
        await _wait(STARTUP_GRACE, [self._begun], asyncio.ALL_COMPLETED)  # the port is open a moment earlier
        now, first_end, last_end = self._now(), self._started + STARTUP_GRACE, self._started + FIRST_GRACE
        if now >= last_end or all(watch.attempted.is_set() for watch in self._watches.values()):
            self._waited = True
            return False
        if target:
            return await self._wait_for_one(target, last_end)
        needed = [one for one in self._watches if one.fetched is None] if listing else [*self._watches]
        pending = self._untried(needed)
        await _wait(first_end - now, pending, asyncio.ALL_COMPLETED)
        waited = bool(pending) and now < first_end
        while not self._reached and await self._wait_for_one(needed, last_end):
            waited = True
        return waited

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    def _untried(self, upstreams: Iterable[Upstream]) -> list[asyncio.Event]:
        """The events of the first attempts at those of these upstreams that were not tried yet."""
        watches = (watch for one in upstreams if (watch := self._watches.get(one)) is not None)
        return [watch.attempted for watch in watches if not watch.attempted.is_set()]

    async def _wait_for_one(self, upstreams: Iterable[Upstream], end: float) -> bool:
        """Wait until `end` for the next first attempt at one of these. Returns whether it waited."""
        pending, left = self._untried(upstreams), end - self._now()
        await _wait(left, pending, asyncio.FIRST_COMPLETED)
        return bool(pending) and left > 0

    @property
    def _reached(self) -> bool:
        return any(upstream.fetched is not None for upstream in self._upstreams)

    async def stop(self) -> None:
        """Stop the watch tasks. The upstreams' owner closes their connections."""
        await self.forget({*self._watches, *self._reconnecting})


async def _wait(seconds: float, events: Sequence[asyncio.Event], enough: str) -> None:
    """Wait at most `seconds` for the events."""
    waits = [asyncio.ensure_future(event.wait()) for event in events if not event.is_set()]
    try:
        if waits and seconds > 0:
            await asyncio.wait(waits, timeout=seconds, return_when=enough)
    finally:
        for wait in waits:
            wait.cancel()
