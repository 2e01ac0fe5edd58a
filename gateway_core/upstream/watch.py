"""Watches one upstream: connects, checks, ejects, reconnects, refreshes its lists, and stops a server without use.

The task connects (with backoff until it succeeds), supervises until the connection is lost, and starts again.
*Active* checks run every `health_check_interval`, and more often after a failure or a signal of `signals.py`.
`liveness.py` defines what counts as alive.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any, Final

from loguru import logger

from gateway_core.api import UpstreamState
from gateway_core.errors import DeliveryError, LoginNeeded, NotSent, RefusedUpstream, RpcError
from gateway_core.hooks import Chain
from gateway_core.internal_errors import where
from gateway_core.log.wording import count
from gateway_core.upstream.auth.login_tokens import NO_LOGIN
from gateway_core.upstream.concealing import Concealer
from gateway_core.upstream.ejection import BACKOFF_FIRST, Loss, ReconnectPolicy, is_lasting, is_refusal
from gateway_core.upstream.life.checks import Problem, check
from gateway_core.upstream.life.idleness import Idleness
from gateway_core.upstream.upstream import Upstream

FALL: Final = 3
"""Failed checks in a row that take an upstream down."""
DOUBT_INTERVAL: Final = 2.0
"""Seconds between checks after a failed one."""
JITTER: Final = 0.1
REFRESH_SPACING: Final = 1.0
"""Minimum seconds between two fetches of one upstream's lists, however many `list_changed` arrive."""


class Watch:
    """The lifecycle of one upstream."""

    def __init__(
        self, upstream: Upstream, chain: Callable[[], Chain], on_change: Callable[[], None], rng: random.Random
    ) -> None:
        """`chain` returns the plugins of the configuration in force."""
        self.attempted = asyncio.Event()
        """Set after the first attempt to connect, successful or not."""
        self._upstream = upstream
        self._concealer = Concealer.of(upstream.config)
        """For error messages: servers quote their credentials and arguments in them."""
        self._chain = chain
        self._on_change = on_change
        self._rng = rng
        self._retries = ReconnectPolicy(rng)
        self._clock = upstream.clock
        self._login = upstream.connections.login
        self._seen = NO_LOGIN
        """The stamp of the login with which the gateway connected last."""
        self._demand = upstream.connections.demand
        self._rests = upstream.config.start == "lazy"
        """Whether the server is started only for calls, once its lists are known."""

    async def run(self) -> None:
        """Connect and supervise in a loop until cancelled. A misconfigured upstream is only reported."""
        if reason := self._upstream.config.misconfigured:
            self._upstream.status.enter(UpstreamState.MISCONFIGURED, reason=reason)
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
                await self._go_down(Loss(f"{kind} in the gateway"), 0.0)

    async def _round(self) -> None:
        """Connect and supervise until a failure, then wait for the next attempt."""
        upstream, liveness, now = self._upstream, self._upstream.liveness, self._clock.now
        if self._rests and upstream.published.known:
            await self._rest()
        started, asked_for = now(), self._demand.waiting
        self._seen = NO_LOGIN if self._login is None else self._login.stamp
        problem = await self._connect()
        needs_login = isinstance(problem, LoginNeeded)
        if (upstream.config.of_users and needs_login) or (upstream.identities is not None and is_refusal(problem)):
            await self._serve_users_alone()
            return
        if isinstance(problem, LoginNeeded):
            await self._wait_for_login(problem)
            return
        if problem is not None:
            await self._go_down(self._loss(problem), started)
            return
        connected = now()
        liveness.connected(connected)
        connection = upstream.connections.main
        ended = await self._supervise(Idleness(upstream, asked_for=asked_for))
        if ended is None:
            self._retries.lived(now() - connected)
            await self._stop_unused()
            return
        failure, lost = ended
        noisy = connection is not None and connection.noisy
        healthy = (now() if lost else liveness.last_sign) - connected
        self._retries.lived(healthy)
        process, served = self._starts_process, liveness.served
        if lost and not noisy and self._retries.may_reconnect(healthy, process=process, served=served):
            # Perhaps only the connection was lost: reconnect before agents see the upstream as down.
            upstream.status.lost(failure)
            logger.bind(upstream=upstream.name).info("connection to upstream {} lost: {}", upstream.name, failure)
            await self._clock.sleep(max(0.0, started + BACKOFF_FIRST - now()))  # calls wait for `RECONNECT_WAIT`
            return
        await self._go_down(Loss(failure, repeats=noisy or (process and not served)), started)

    async def _connect(self) -> DeliveryError | RpcError | None:
        upstream = self._upstream
        try:
            await upstream.connect()
        except (DeliveryError, RpcError) as error:
            return error
        finally:
            self.attempted.set()
            self._demand.attempted()
        upstream.signals.connected()
        assert upstream.info is not None
        tools = len(upstream.fetched.of("tool")) if upstream.fetched is not None else 0
        logger.bind(upstream=upstream.name).info(
            "upstream {} is up: {}, protocol {}", upstream.name, count(tools, "tool"), upstream.info.protocol_version
        )
        self._on_change()
        return None

    async def _rest(self) -> None:
        """Enter the state idle, and wait until something asks for the server."""
        if self._demand.waiting:
            return
        self._upstream.connections.rest()
        self.attempted.set()
        self._on_change()
        await self._demand.wait()

    async def _stop_unused(self) -> None:
        """Stop the server until something asks for it."""
        upstream = self._upstream
        upstream.connections.rest()
        self._rests = True
        logger.bind(upstream=upstream.name).info("upstream {} is not used and was stopped", upstream.name)
        self._on_change()
        # A server may lock files: its next process starts after the end of this one.
        await upstream.connections.disconnect()

    def _loss(self, problem: DeliveryError | RpcError) -> Loss:
        """The loss that a failed attempt to connect is."""
        wait = problem.retry_after if isinstance(problem, NotSent | RefusedUpstream) else None
        repeats = self._starts_process or isinstance(problem, RpcError)
        return Loss(self._concealer.hide(str(problem)), is_lasting(problem), repeats, wait or 0.0)

    async def _go_down(self, loss: Loss, started: float) -> None:
        """Enter the state down and wait until the next attempt is due. `started`: when the last attempt began."""
        now, upstream = self._clock.now, self._upstream
        upstream.connections.abandon()
        upstream.status.lost(loss.reason)
        last_words = upstream.status.last_words
        reason, delay = self._retries.after(loss, last_words)
        # At most one attempt per `BACKOFF_FIRST`: each may start a process.
        delay = max(delay, started + BACKOFF_FIRST - now())
        retry_at = now() + delay
        upstream.status.enter(UpstreamState.DOWN, reason=reason, retry_at=retry_at)
        words = f" ({last_words})" if last_words else ""
        logger.bind(upstream=upstream.name).warning(
            "upstream {} is down: {}{}; next attempt in {:.1f} s", upstream.name, reason, words, delay
        )
        self._on_change()
        await upstream.connections.disconnect()
        await self._until_login(max(0.0, retry_at - now()))

    async def _serve_users_alone(self) -> None:
        """Serve the agents of a server that refuses the gateway itself, until it is time to ask it again.

        The refusal shows that the server is alive.
        """
        upstream = self._upstream
        if not upstream.without_own:
            logger.bind(upstream=upstream.name).info(
                "upstream {} refuses the gateway itself; each principal gets the lists that it has for its own user",
                upstream.name,
            )
        upstream.connections.abandon()
        upstream.serve_users_alone()
        upstream.liveness.checked(self._clock.now())
        self._recovered()
        self._on_change()
        await self._clock.sleep(REFRESH_SPACING)
        await self._wait_for_check(asyncio.get_running_loop().create_future(), self._interval)

    async def _wait_for_login(self, problem: LoginNeeded) -> None:
        """Enter the state that asks for a login, and wait for one. Nothing is retried until then."""
        upstream = self._upstream
        upstream.connections.abandon()
        upstream.status.lost(problem.reason)
        upstream.status.enter(UpstreamState.NEEDS_LOGIN, reason=problem.reason)
        logger.bind(upstream=upstream.name).warning("upstream {}: {}", upstream.name, problem.reason)
        self._on_change()
        await upstream.connections.disconnect()
        await self._new_login()

    async def _until_login(self, seconds: float) -> None:
        """Wait for `seconds`, or until there is a new login if the upstream needs one."""
        if self._login is None:
            await self._clock.sleep(seconds)
            return
        waits = [asyncio.ensure_future(it) for it in (self._clock.sleep(seconds), self._new_login())]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    async def _new_login(self) -> None:
        """Wait for another login than the last one seen. Endless for an upstream that needs none."""
        if self._login is None:
            await asyncio.Event().wait()
        else:
            await self._login.changed(self._seen)
            self._seen = self._login.stamp

    async def _supervise(self, idleness: Idleness) -> tuple[str, bool] | None:
        """Check and refresh until a failure. Returns its reason, and whether the connection was lost.

        None: nothing failed, but the server was not used for so long that it is to be stopped.
        """
        upstream, signals, now = self._upstream, self._upstream.signals, self._clock.now
        connection = upstream.connections.main
        assert connection is not None
        lost = asyncio.ensure_future(connection.wait_closed())
        failures, wait, checked = 0, self._interval, now()
        try:
            while True:
                unused = idleness.left() / (1 - JITTER)
                if await self._wait_for_check(lost, min(DOUBT_INTERVAL if signals.rising else wait, unused)):
                    return lost.result(), True
                if idleness.left() <= 0:
                    return None
                if signals.stale or upstream.published.retry_due:
                    await self._refresh()
                wait, before, checked = self._interval, checked, now()
                confirm = failures in {0, FALL - 1}
                problem = await check(upstream, connection, self._chain(), self._concealer, confirm=confirm)
                if problem is None or self._is_answered(problem, checked):
                    failures = 0
                    self._recovered()
                    continue
                busy = upstream.liveness.explained_until(now()) - now() if problem.silent else 0.0
                if busy > 0:
                    wait = min(wait, max(DOUBT_INTERVAL, busy))
                    continue
                wait, failures = DOUBT_INTERVAL, 1 if self._is_answered(problem, before) else failures + 1
                signals.check_failed()
                upstream.connections.sessions.retire_all()  # so that no call fails on a dead session
                text = problem.text
                if problem.final:
                    return text, False
                logger.bind(upstream=upstream.name).debug("check of upstream {} failed: {}", upstream.name, text)
                if failures >= FALL:
                    return f"{FALL} health checks failed: {text}", False
        finally:
            lost.cancel()

    def _is_answered(self, problem: Problem, since: float) -> bool:
        """Whether an answered call since then overrides the failed check. Never overrides a plugin's check."""
        return not problem.by_plugin and self._upstream.liveness.last_sign >= since

    @property
    def _starts_process(self) -> bool:
        """Whether a connection is a process that the gateway starts."""
        return self._upstream.config.transport == "stdio"

    @property
    def _interval(self) -> float:
        return self._upstream.config.health_check_interval

    async def _wait_for_check(self, lost: asyncio.Future[str], interval: float) -> bool:
        """Wait for the next check or a reason to check earlier. Returns whether the connection is lost."""
        upstream = self._upstream
        wait = interval * (1 + self._rng.uniform(-JITTER, JITTER))
        due = upstream.status.retry_in()
        if upstream.status.state is UpstreamState.EJECTED and due is not None:
            wait = min(wait, due)
        waits = (self._new_login(), upstream.signals.wait(), self._clock.sleep(wait))
        others: list[asyncio.Future[Any]] = [asyncio.ensure_future(it) for it in waits]
        try:
            await asyncio.wait([lost, *others], return_when=asyncio.FIRST_COMPLETED)
            if others[0].done():
                upstream.signals.lists_changed()  # the new login may see others
        finally:
            for other in others:
                other.cancel()
        upstream.signals.woken()
        return lost.done()

    async def _refresh(self) -> None:
        self._upstream.signals.refreshing()
        try:
            await self._upstream.refresh()
        except (DeliveryError, RpcError) as error:
            logger.bind(upstream=self._upstream.name).warning(
                "lists of upstream {} could not be fetched, the last known ones stay: {}",
                self._upstream.name,
                self._concealer.hide(str(error)),
            )
        else:
            self._on_change()
        await self._clock.sleep(REFRESH_SPACING)

    def _recovered(self) -> None:
        """Record a successful check."""
        upstream = self._upstream
        if upstream.signals.check_succeeded():
            logger.bind(upstream=upstream.name).info("upstream {} is back after its ejection", upstream.name)
            self._on_change()
