"""Watches one upstream: connects, checks, ejects, reconnects, and refreshes its lists.

The task connects (with backoff until it succeeds), supervises until the connection is lost, and starts again.
*Active* checks run every `health_check_interval`, and more often after a failure. *Passive* checks count outcomes of
calls: only transport failures, never a tool's error. `upstream/liveness.py` defines what counts as alive.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from loguru import logger

from gateway_core.api import UpstreamState
from gateway_core.errors import UNSUPPORTED_PROTOCOL_VERSION, DeliveryError, Permanent, RefusedUpstream, RpcError
from gateway_core.hooks import Chain
from gateway_core.internal_errors import where
from gateway_core.upstream.base import Connection
from gateway_core.upstream.concealing import Concealer
from gateway_core.upstream.ejection import BACKOFF_FIRST, TIMED_OUT, PassiveChecks, ReconnectPolicy
from gateway_core.upstream.liveness import PING_TIMEOUT, Liveness
from gateway_core.upstream.upstream import Upstream

FALL: Final = 3
"""Failed checks in a row that take an upstream down."""
RISE: Final = 2
"""Successful checks in a row that end the ejection of an unreachable server."""
DOUBT_INTERVAL: Final = 2.0
"""Seconds between checks after a failed one."""
JITTER: Final = 0.1

EJECT_FIRST: Final = 30.0
EJECT_MAX: Final = 300.0
EJECT_JITTER: Final = 0.2
REFRESH_SPACING: Final = 1.0
"""Minimum seconds between two fetches of one upstream's lists, however many `list_changed` arrive."""


@dataclass(frozen=True, slots=True)
class _Problem:
    """The failure that one check found."""

    text: str
    silent: bool = False
    """Whether the server gave no answer at all."""
    by_plugin: bool = False


class Watch:
    """The lifecycle of one upstream."""

    def __init__(self, upstream: Upstream, chain: Chain, on_change: Callable[[], None], rng: random.Random) -> None:
        self.attempted = asyncio.Event()
        """Set after the first attempt to connect, successful or not."""
        self._upstream = upstream
        self._concealer = Concealer.of(upstream.config)
        """For error messages: servers quote their credentials and arguments in them."""
        self._chain = chain
        self._on_change = on_change
        self._rng = rng
        self._retries = ReconnectPolicy(rng)
        self._passive = PassiveChecks()
        self._wake = asyncio.Event()
        self._stale = False
        self._doubt = False
        self._unreachable = False
        """Whether the last transport failure occurred before a byte was sent."""
        self._rises = 0
        """Successful checks in a row since the ejection."""
        self._liveness = Liveness(self._connections)
        upstream.on_transport = self._transport
        upstream.on_list_changed = self._list_changed
        upstream.on_refreshed = lambda _: on_change()

    # -- events from calls: must not wait -----------------------------------------------------------------------

    def _transport(self, failure: str | None, sent: bool) -> None:
        now = time.monotonic()
        if failure is None:
            self._liveness.last_sign = now
            self._passive.succeeded(now)
            return
        if failure == TIMED_OUT:
            self._liveness.overdue(now)
        self._unreachable = not sent
        if self._passive.failed(now) and self._upstream.facts.state is UpstreamState.HEALTHY:
            self._eject(now)
        if not self._doubt:
            # Check the server at once instead of at the next interval.
            self._doubt = True
            self._wake.set()

    def _list_changed(self, upstream: Upstream) -> None:
        self._stale = True
        self._wake.set()

    def _eject(self, now: float) -> None:
        seconds = min(EJECT_FIRST * self._passive.ejected(), EJECT_MAX)
        seconds *= 1 + self._rng.uniform(-EJECT_JITTER, EJECT_JITTER)
        self._upstream.enter(UpstreamState.EJECTED, reason=self._upstream.last_error, retry_at=now + seconds)
        self._wake.set()
        self._rises = 0
        logger.warning("upstream {} is ejected for {:.0f} s: too many failed calls", self._upstream.name, seconds)

    # -- lifecycle loop -----------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Connect and supervise in a loop until cancelled. A misconfigured upstream is only reported."""
        if reason := self._upstream.config.misconfigured:
            self._upstream.enter(UpstreamState.MISCONFIGURED, reason=reason)
            self.attempted.set()
            logger.bind(upstream=self._upstream.name).warning(
                "upstream {} is misconfigured and left out: {}", self._upstream.name, reason
            )
            self._on_change()
            return
        while True:
            try:
                await self._round()
            except Exception as error:  # noqa: BLE001 - after a bug, this upstream reconnects and stays watched
                kind = type(error).__name__
                logger.error("upstream {}: a bug in the gateway: {}\n{}", self._upstream.name, kind, where(error))
                await self._go_down(f"{kind} in the gateway", not_before=0.0)

    async def _round(self) -> None:
        """Connect and supervise until a failure, then wait for the next attempt."""
        loop = asyncio.get_running_loop()
        started = loop.time()
        problem = await self._connect()
        if problem is not None:
            await self._go_down(
                self._concealer.hide(str(problem)), not_before=started + BACKOFF_FIRST, lasting=is_lasting(problem)
            )
            return
        connected = loop.time()
        self._liveness.connected(connected)
        failure, lost = await self._supervise()
        healthy = (loop.time() if lost else self._liveness.last_sign) - connected
        self._retries.lived(healthy)
        if lost and self._retries.may_reconnect(healthy, process=self._upstream.config.transport == "stdio"):
            # Perhaps only the connection was lost: reconnect before agents see the upstream as down.
            logger.bind(upstream=self._upstream.name).info(
                "connection to upstream {} lost: {}", self._upstream.name, failure
            )
            return
        await self._go_down(failure, not_before=started + BACKOFF_FIRST, served=self._liveness.served)

    async def _connect(self) -> DeliveryError | RpcError | None:
        upstream = self._upstream
        try:
            await upstream.connect()
        except (DeliveryError, RpcError) as error:
            return error
        finally:
            self.attempted.set()
        self._passive.clear()
        self._stale = self._doubt = False
        assert upstream.info is not None
        tools = len(upstream.fetched.of("tool")) if upstream.fetched is not None else 0
        logger.bind(upstream=upstream.name).info(
            "upstream {} is up: {} tools, protocol {}", upstream.name, tools, upstream.info.protocol_version
        )
        self._on_change()
        return None

    async def _go_down(self, reason: str, *, not_before: float, lasting: bool = False, served: bool = False) -> None:
        """Enter the state down and wait until the next attempt is due. `lasting`: the failure is permanent."""
        loop = asyncio.get_running_loop()
        upstream = self._upstream
        upstream.abandon()
        death = f"{reason}: {upstream.last_words}" if upstream.died and not served else ""
        reason, delay = self._retries.after(reason, death=death, lasting=lasting)
        # At most one attempt per `BACKOFF_FIRST`: each may start a process.
        delay = max(delay, not_before - loop.time())
        retry_at = loop.time() + delay
        upstream.enter(UpstreamState.DOWN, reason=reason, retry_at=retry_at)
        words = f" ({upstream.last_words})" if upstream.last_words else ""
        logger.bind(upstream=upstream.name).warning(
            "upstream {} is down: {}{}; next attempt in {:.1f} s", upstream.name, reason, words, delay
        )
        self._on_change()
        await upstream.disconnect()
        await asyncio.sleep(max(0.0, retry_at - loop.time()))

    async def _supervise(self) -> tuple[str, bool]:
        """Check and refresh until a failure. Returns its reason, and whether the connection ended by itself."""
        upstream = self._upstream
        connection = upstream.connection
        assert connection is not None
        lost = asyncio.ensure_future(connection.wait_closed())
        loop = asyncio.get_running_loop()
        failures, wait, checked = 0, self._interval, loop.time()
        try:
            while True:
                if await self._idle(lost, DOUBT_INTERVAL if self._rising else wait):
                    return lost.result(), True
                if self._stale or upstream.published.retry_due:
                    await self._refresh()
                wait, before, checked = self._interval, checked, loop.time()
                problem = await self._check(connection)
                if problem is None or self._is_answered(problem, checked):
                    failures = 0
                    self._recovered()
                    continue
                busy = self._liveness.explained_until(loop.time()) - loop.time() if problem.silent else 0.0
                if busy > 0:
                    wait = min(wait, max(DOUBT_INTERVAL, busy))
                    continue
                wait, failures = DOUBT_INTERVAL, 1 if self._is_answered(problem, before) else failures + 1
                self._rises = 0
                upstream.suspect_sessions()
                text = problem.text
                logger.bind(upstream=upstream.name).debug("check of upstream {} failed: {}", upstream.name, text)
                if failures >= FALL:
                    alive = not problem.by_plugin and await self._liveness.answers_a_list(connection)
                    if not alive and not self._is_answered(problem, checked):
                        return f"{FALL} health checks failed: {text}", False
                    wait, failures = self._interval, 0
        finally:
            lost.cancel()

    def _is_answered(self, problem: _Problem, since: float) -> bool:
        """Whether an answered call since then overrides the failed check. Never overrides a plugin's check."""
        return not problem.by_plugin and self._liveness.last_sign >= since

    def _connections(self) -> Iterator[Connection]:
        """The connections whose calls keep the same server process busy as the main one."""
        upstream = self._upstream
        if upstream.connection is not None:
            yield upstream.connection
        if upstream.config.transport != "stdio":
            yield from upstream.own.connections()

    @property
    def _interval(self) -> float:
        return self._upstream.config.health_check_interval

    @property
    def _rising(self) -> bool:
        """Whether the upstream is ejected and was unreachable: then checks alone can prove its recovery."""
        return self._unreachable and self._upstream.facts.state is UpstreamState.EJECTED

    async def _idle(self, lost: asyncio.Future[str], interval: float) -> bool:
        """Wait for the next check or a reason to check earlier. Returns whether the connection is lost."""
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

    async def _check(self, connection: Connection) -> _Problem | None:
        """Run one active check. Returns the problem; None if the upstream is healthy."""
        silence = f"no answer within {PING_TIMEOUT:g} s"
        if self._chain.has_health_check:
            try:
                async with asyncio.timeout(PING_TIMEOUT):
                    health = await self._chain.check_health(self._upstream.view)
            except TimeoutError:
                return _Problem(f"a plugin gave {silence}", by_plugin=True)
            if health is not None:
                return None if health.healthy else _Problem(health.reason or "a plugin says so", by_plugin=True)
        try:
            await self._liveness.check(connection)
        except TimeoutError:
            return _Problem(silence, silent=True)
        except DeliveryError as error:
            return _Problem(self._concealer.hide(str(error)))
        self._liveness.last_sign = time.monotonic()
        return None

    def _recovered(self) -> None:
        """Record a successful check. Ends an ejection that is due, or that of a server reachable again."""
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


def is_lasting(problem: DeliveryError | RpcError) -> bool:
    """Whether a failure to connect is permanent: only an operator can fix it."""
    if isinstance(problem, RefusedUpstream):
        return problem.status in {401, 403}
    if isinstance(problem, RpcError):
        return problem.code == UNSUPPORTED_PROTOCOL_VERSION
    return isinstance(problem, Permanent)
