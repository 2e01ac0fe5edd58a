"""Watches every upstream: connects, checks, ejects, reconnects; and keeps its part of the catalog fresh.

One task per upstream walks a circle: connect (with backoff until it works), then supervise until the connection is
lost. *Active* checks run every `health_check_interval`, and faster while in doubt. *Passive* checks count what calls
met: only failures of the transport, never a tool's own error.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

from loguru import logger

from gateway_core.bugs import where
from gateway_core.chain import Chain
from gateway_core.errors import DeliveryError, RpcError
from gateway_core.outage import BACKOFF_FIRST, Backoff, PassiveChecks
from gateway_core.types import UpstreamState
from gateway_core.upstream.concealing import Concealer
from gateway_core.upstream.upstream import PING_TIMEOUT, Upstream

BACKOFF_RESET: Final = 60.0
"""Seconds of health after which the next failure starts at `BACKOFF_FIRST` again."""
FALL: Final = 3
"""Failed checks in a row that take an upstream down."""
RISE: Final = 2
"""Good checks in a row that bring back a server that was ejected because it could not be reached."""
DOUBT_INTERVAL: Final = 2.0
"""Seconds between checks while the last one failed."""
JITTER: Final = 0.1

EJECT_FIRST: Final = 30.0
EJECT_MAX: Final = 300.0
EJECT_JITTER: Final = 0.2
STARTUP_GRACE: Final = 5.0
"""Seconds after the start in which lists wait for upstreams that were not tried yet; later nobody waits."""
REFRESH_SPACING: Final = 1.0
"""Least seconds between two fetches of one upstream's lists however many `list_changed` arrive."""


class HealthMonitor:
    """Runs the watching tasks. `on_change` is called whenever an upstream's lists or state changed."""

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
        self._watches: dict[str, _Watch] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._started = 0.0
        self._settled = False

    def start(self) -> None:
        """Start watching; returns at once, connecting goes on in the background."""
        self._started = asyncio.get_running_loop().time()
        for upstream in self._upstreams:
            watch = _Watch(upstream, self._chain, self._on_change, self._rng)
            self._watches[upstream.name] = watch
            self._tasks.append(asyncio.create_task(watch.run(), name=f"watch {upstream.name}"))

    async def wait_first_attempts(self, timeout: float) -> None:
        """Wait until every upstream was reached or failed once, `timeout` seconds at most."""
        waits = [asyncio.ensure_future(watch.attempted.wait()) for watch in self._watches.values()]
        try:
            if waits:
                await asyncio.wait(waits, timeout=timeout)
        finally:
            for wait in waits:
                wait.cancel()

    async def settle(self) -> bool:
        """Right after the start, give upstreams the time to be reached: for who asks what there is meanwhile.

        Returns whether it did, so that there may be more now than before.
        """
        if self._settled:
            return False
        left = self._started + STARTUP_GRACE - asyncio.get_running_loop().time()
        if left > 0:
            await self.wait_first_attempts(left)
        self._settled = True
        return left > 0

    async def stop(self) -> None:
        """Stop watching; the upstreams' connections are left to their owner."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()


class _Watch:
    """The circle of one upstream."""

    def __init__(self, upstream: Upstream, chain: Chain, on_change: Callable[[], None], rng: random.Random) -> None:
        self.attempted = asyncio.Event()
        """Set after the first attempt to connect, whatever came of it."""
        self._upstream = upstream
        self._concealer = Concealer.of(upstream.config)
        """For the messages of errors, in which servers quote what they were given."""
        self._chain = chain
        self._on_change = on_change
        self._rng = rng
        self._backoff = Backoff(rng)
        self._passive = PassiveChecks()
        self._wake = asyncio.Event()
        self._stale = False
        self._doubt = False
        self._unreachable = False
        """Whether the last call that failed did not get as far as the server."""
        self._rises = 0
        """Good checks in a row since it was ejected."""
        upstream.on_transport = self._transport
        upstream.on_list_changed = self._list_changed
        upstream.on_refreshed = lambda _: on_change()

    # -- events from the path of calls: quick, never waiting ----------------------------------------------------

    def _transport(self, failure: str | None, sent: bool) -> None:
        now = time.monotonic()
        if failure is None:
            self._passive.succeeded(now)
            return
        self._unreachable = not sent
        if self._passive.failed(now) and self._upstream.facts.state is UpstreamState.HEALTHY:
            self._eject(now)
        if not self._doubt:
            # Ask the server itself at once instead of at the next interval.
            self._doubt = True
            self._wake.set()

    def _list_changed(self, upstream: Upstream) -> None:
        self._stale = True
        self._wake.set()

    def _eject(self, now: float) -> None:
        self._passive.ejections += 1
        seconds = min(EJECT_FIRST * self._passive.ejections, EJECT_MAX)
        seconds *= 1 + self._rng.uniform(-EJECT_JITTER, EJECT_JITTER)
        self._upstream.enter(UpstreamState.EJECTED, reason=self._upstream.last_error, retry_at=now + seconds)
        self._passive.clear()
        self._wake.set()
        self._rises = 0
        logger.warning("upstream {} is ejected for {:.0f} s: too many failed calls", self._upstream.name, seconds)

    # -- the circle ---------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Connect and supervise for ever; ends by cancellation only."""
        while True:
            try:
                await self._round()
            except Exception as error:  # noqa: BLE001 - a bug costs this upstream a round, not its watch
                kind = type(error).__name__
                logger.error("upstream {}: a bug in the gateway: {}\n{}", self._upstream.name, kind, where(error))
                await self._go_down(f"{kind} in the gateway", not_before=0.0)

    async def _round(self) -> None:
        """Connect, supervise as long as it works, and wait for the next attempt when it does not."""
        loop = asyncio.get_running_loop()
        started = loop.time()
        failure = await self._connect()
        if failure is None:
            healthy_since = loop.time()
            failure, lost = await self._supervise()
            if loop.time() - healthy_since >= BACKOFF_RESET:
                self._backoff.reset()
            if lost and loop.time() - healthy_since >= BACKOFF_FIRST:
                # The connection is gone, which may be all: connect again before anybody is told that it is down.
                logger.bind(upstream=self._upstream.name).info(
                    "connection to upstream {} lost: {}", self._upstream.name, failure
                )
                return
        await self._go_down(failure, not_before=started + BACKOFF_FIRST)

    async def _connect(self) -> str | None:
        upstream = self._upstream
        try:
            await upstream.connect()
        except (DeliveryError, RpcError) as error:
            return self._concealer.hide(str(error))
        finally:
            self.attempted.set()
        self._passive.clear()
        self._stale = self._doubt = False
        assert upstream.info is not None
        tools = len(upstream.inventory.of("tool")) if upstream.inventory is not None else 0
        logger.bind(upstream=upstream.name).info(
            "upstream {} is up: {} tools, protocol {}", upstream.name, tools, upstream.info.protocol_version
        )
        self._on_change()
        return None

    async def _go_down(self, reason: str, *, not_before: float) -> None:
        loop = asyncio.get_running_loop()
        upstream = self._upstream
        # Never two attempts within a second: each may fork a child.
        delay = max(self._backoff.next(), not_before - loop.time())
        retry_at = loop.time() + delay
        upstream.enter(UpstreamState.DOWN, reason=reason, retry_at=retry_at)
        upstream.abandon()
        words = f" ({upstream.last_words})" if upstream.last_words else ""
        logger.bind(upstream=upstream.name).warning(
            "upstream {} is down: {}{}; next attempt in {:.1f} s", upstream.name, reason, words, delay
        )
        self._on_change()
        await upstream.disconnect()
        await asyncio.sleep(max(0.0, retry_at - loop.time()))

    async def _supervise(self) -> tuple[str, bool]:
        """Check and refresh until there is no going on; returns why, and whether the connection ended by itself."""
        upstream = self._upstream
        connection = upstream.connection
        assert connection is not None
        lost = asyncio.ensure_future(connection.wait_closed())
        failures = 0
        try:
            while True:
                if await self._idle(lost, DOUBT_INTERVAL if failures or self._rising else self._interval):
                    return lost.result(), True
                if self._stale:
                    await self._refresh()
                problem = await self._check()
                if problem is None:
                    failures = 0
                    self._recovered()
                    continue
                failures += 1
                self._rises = 0
                upstream.suspect_sessions()
                logger.bind(upstream=upstream.name).debug("check of upstream {} failed: {}", upstream.name, problem)
                if failures >= FALL:
                    return f"{FALL} health checks failed: {problem}", False
        finally:
            lost.cancel()

    @property
    def _interval(self) -> float:
        return self._upstream.config.health_check_interval

    @property
    def _rising(self) -> bool:
        """Whether it is ejected and was out of reach at last: then checks tell as much as calls would."""
        return self._unreachable and self._upstream.facts.state is UpstreamState.EJECTED

    async def _idle(self, lost: asyncio.Future[str], interval: float) -> bool:
        """Wait for the next check, or for a reason to check earlier; True when the connection is lost."""
        upstream = self._upstream
        loop = asyncio.get_running_loop()
        wait = interval * (1 + self._rng.uniform(-JITTER, JITTER))
        if upstream.facts.state is UpstreamState.EJECTED and upstream.retry_at is not None:
            wait = min(wait, max(0.0, upstream.retry_at - loop.time()))
        woken = asyncio.ensure_future(self._wake.wait())
        events: set[asyncio.Future[Any]] = {lost, woken}
        try:
            await asyncio.wait(events, timeout=wait, return_when=asyncio.FIRST_COMPLETED)
        finally:
            woken.cancel()
        self._wake.clear()
        return lost.done()

    async def _refresh(self) -> None:
        self._stale = False
        try:
            await self._upstream.refresh()
        except (DeliveryError, RpcError, TimeoutError) as error:
            logger.bind(upstream=self._upstream.name).warning(
                "lists of upstream {} could not be fetched, the last known ones stay: {}",
                self._upstream.name,
                self._concealer.hide(str(error)),
            )
        else:
            self._on_change()
        await asyncio.sleep(REFRESH_SPACING)

    async def _check(self) -> str | None:
        """One active check; returns what is wrong, None when nothing is."""
        upstream = self._upstream
        try:
            if self._chain.has_health_check:
                async with asyncio.timeout(PING_TIMEOUT):
                    health = await self._chain.check_health(upstream.view)
                if health is not None:
                    return None if health.healthy else health.reason or "a plugin says so"
            await upstream.ping()
        except TimeoutError:
            return f"no answer within {PING_TIMEOUT:g} s"
        except (DeliveryError, RpcError) as error:
            return self._concealer.hide(str(error))
        return None

    def _recovered(self) -> None:
        """A check went well: an ejection whose time is up ends, or one of a server that was only out of reach."""
        self._doubt = False
        upstream = self._upstream
        if upstream.facts.state is not UpstreamState.EJECTED:
            return
        self._rises += 1
        due = upstream.retry_at is None or upstream.retry_at <= asyncio.get_running_loop().time()
        if not due and not (self._rising and self._rises >= RISE):
            return
        upstream.enter(UpstreamState.HEALTHY)
        self._passive.clear()
        logger.bind(upstream=upstream.name).info("upstream {} is back after its ejection", upstream.name)
        self._on_change()
