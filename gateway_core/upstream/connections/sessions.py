"""Extra connections of one upstream: one per agent session, or a small pool leased per call.

A *retired* connection accepts no new calls. It is closed when the last call on it ends, or at once if there is none.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from gateway_core.api import Principal
from gateway_core.background import Background
from gateway_core.errors import Busy, DeliveryError, NotSent
from gateway_core.exchange.exchange import Agent, Exchange
from gateway_core.inline.driver import in_task
from gateway_core.limits.shares import Holder, Shares, holder_of
from gateway_core.upstream.base import Connection
from gateway_core.upstream.capabilities import declared_by
from gateway_core.upstream.connections.await_shared import await_shared
from gateway_core.upstream.connections.coalescer import Coalescer
from gateway_core.upstream.connections.limiter import ConcurrencyLimiter
from gateway_core.upstream.ejection import Backoff
from gateway_core.upstream.messages.sends import SEND_TIMEOUT, UNDELIVERED
from gateway_core.upstream.status import SYSTEM_CLOCK, Clock

POOL_SIZE: Final = 8
"""Connections of an upstream with `isolation = "call"`; each serves one exchange at a time. Calls that wait for their
agents' answers keep theirs in addition: `limits.parked_calls` bounds them."""
POOL_QUEUE: Final = 256
"""Exchanges that may wait for a pooled connection."""
POOL_WAIT: Final = 10.0
"""Seconds that an exchange waits for a pooled connection."""
MAX_SESSIONS: Final = 1024
"""Agent sessions with a connection to a server over HTTP. Beyond this, one without calls is retired."""
MAX_CHILDREN: Final = 128
"""The same for a server on stdio, where each connection is a child process."""
SHARE: Final = MAX_SESSIONS // 4
CHILDREN_SHARE: Final = MAX_CHILDREN // 4
"""Those of one principal."""


@dataclass(slots=True)
class Lease:
    """An extra connection and the number of calls on it."""

    connection: Connection
    declared: Mapping[str, Any]
    """The client capabilities declared to its server; another agent's may differ."""
    users: int = 0
    retired: bool = False

    @property
    def usable(self) -> bool:
        return not self.retired and not self.connection.closed

    def retire(self) -> None:
        """Give the connection to no more calls."""
        self.retired = True


@dataclass(slots=True)
class _Opening:
    """Failed attempts to open a connection."""

    backoff: Backoff
    retry_at: float = 0.0
    reason: str = ""

    def again(self, reason: str, now: float) -> None:
        """Record one more. The first is free: the next attempt may follow at once."""
        fresh = self.backoff.fresh
        delay = self.backoff.next()
        self.retry_at = now if fresh else now + delay
        self.reason = reason


class SessionConnections:
    """Opens, keeps and closes the extra connections of one upstream."""

    def __init__(
        self,
        opener: Callable[[Mapping[str, Any], Agent | None], Awaitable[Connection]],
        clock: Clock = SYSTEM_CLOCK,
        *,
        backoff: bool = False,
        rng: random.Random | None = None,
    ) -> None:
        """`opener` opens a connection with these capabilities, for one agent if given, or raises `NotSent`.

        `backoff`: after failed attempts for one session, or for the pool, the next ones wait; for servers that each
        attempt starts as a process.
        """
        self._open = opener
        self._clock = clock
        self._backoff = backoff
        self._rng = rng or random.Random()  # noqa: S311 - jitter, not a secret
        self._failed_openings: dict[str | None, _Opening] = {}
        """Session (None: the pool) -> its failed attempts to open a connection, since the last that succeeded."""
        self._sessions: dict[str, asyncio.Task[Lease]] = {}
        """In the order of use, the least recent first."""
        self._shares: Shares[str] = Shares()
        """The sessions in `_sessions`, by their agents."""
        self._pooled: list[Lease] = []
        self._idle: list[Lease] = []
        self._limiter = ConcurrencyLimiter(POOL_SIZE, POOL_QUEUE, f"all {POOL_SIZE} isolated connections are in use")
        self._closing = Background("closing a connection to an upstream", expected=(*UNDELIVERED, OSError))
        self._notifying: Coalescer[tuple[str, str]] = Coalescer(self._notify, "notifying an upstream")
        """Keyed by session and method."""

    @contextlib.asynccontextmanager
    async def of_session(self, agent: Agent) -> AsyncIterator[Connection]:
        """Context manager for a session's connection: calls `lease_of`, and `left` at the end."""
        lease = await self.lease_of(agent)
        try:
            yield lease.connection
        finally:
            self.left(lease)

    async def lease_of(self, agent: Agent) -> Lease:
        """The connection of an agent's session, opened on first use. Raises `NotSent` if that fails.

        The caller counts as a user of the connection until it calls `left`.
        """
        lease = self.ready(agent) or await self._session_lease(agent)
        lease.users += 1
        return lease

    def ready(self, agent: Agent) -> Lease | None:
        """The open connection of an agent's session; None if not open. Marks it as most recently used."""
        session_id = agent.session_id
        task = self._sessions.get(session_id) if session_id is not None else None
        lease = _opened(task)
        if lease is None or not lease.usable:
            return None
        assert session_id is not None
        assert task is not None
        del self._sessions[session_id]
        self._sessions[session_id] = task  # again at the end: the order of use, for `MAX_SESSIONS`
        return lease

    def has(self, session_id: str) -> bool:
        """Whether the session of an agent has a connection, or one is being opened."""
        return session_id in self._sessions

    def connections(self) -> list[Connection]:
        """All connections of sessions and of the pool that have been opened."""
        leases = [lease for task in self._sessions.values() if (lease := _opened(task)) is not None]
        return [lease.connection for lease in (*leases, *self._pooled)]

    @property
    def kept(self) -> bool:
        """Whether agent sessions have connections, whose servers may keep something for them."""
        return bool(self._sessions)

    def left(self, lease: Lease) -> None:
        """Record the end of a call on this connection."""
        lease.users -= 1
        if lease.retired and not lease.users:
            self.discard(lease.connection)

    @contextlib.asynccontextmanager
    async def borrow(self, exchange: Exchange) -> AsyncIterator[Connection]:
        """A pooled connection for one exchange. Raises `Busy` if none is free in time, `NotSent` if opening fails."""
        await in_task()
        try:
            async with asyncio.timeout(POOL_WAIT):
                await self._limiter.acquire(exchange.agent.principal)
        except TimeoutError:
            raise Busy(f"all {POOL_SIZE} isolated connections are in use", retry_after=1.0) from None
        exchange.hold(self._limiter)
        try:
            lease = await self._pool_lease(declared_by(exchange.agent))
            lease.users += 1
            try:
                yield lease.connection
            finally:
                self.left(lease)
                if lease.usable and len(self._idle) < POOL_SIZE:
                    self._idle.append(lease)
                else:
                    self._retire(lease)
                    self._pooled.remove(lease)
        finally:
            exchange.let_go(self._limiter)

    def notify(self, session_id: str, method: str) -> None:
        """Send a notification in the background on the connection of an agent's session, if it has one.

        Repeated requests during a send cause one further send.
        """
        if session_id in self._sessions:
            self._notifying.ask((session_id, method))

    async def _notify(self, key: tuple[str, str]) -> None:
        session_id, method = key
        lease = _opened(self._sessions.get(session_id))
        if lease is None or not lease.usable:
            return
        with contextlib.suppress(DeliveryError, TimeoutError):  # the next call on it will report the failure
            async with asyncio.timeout(SEND_TIMEOUT):
                await lease.connection.notify(method)

    def retire(self, session_id: str) -> None:
        """Retire the connection of an agent's session that has ended."""
        task = self._sessions.pop(session_id, None)
        self._shares.remove(session_id)
        self._failed_openings.pop(session_id, None)
        lease = _opened(task)
        if lease is not None:
            self._retire(lease)
        elif task is not None:
            task.cancel()

    def retire_all(self) -> None:
        """Retire all connections because the server is or seems down. Later calls open new ones."""
        for session_id, task in list(self._sessions.items()):
            if task.done():  # a connection being opened is new enough, or fails by itself
                self.retire(session_id)
        for lease in self._pooled:
            self._retire(lease)
        self._pooled = [lease for lease in self._pooled if lease.users]
        self._idle.clear()

    def discard(self, connection: Connection) -> None:
        """Close a connection in the background; `closed` waits for it."""
        self._closing.run(connection.close)

    async def closed(self) -> None:
        """Wait until all connections being closed are closed. Each bounds its time."""
        await self._closing.wait()

    async def _session_lease(self, agent: Agent) -> Lease:
        session_id = agent.session_id
        assert session_id is not None, "only legacy agents have sessions"
        task = self._sessions.pop(session_id, None)
        if task is not None and task.done():
            lease = _opened(task)
            if lease is None or not lease.usable:
                task = None
                if lease is not None:
                    self._retire(lease)
        if task is None:
            if session_id not in self._shares:
                self._take_place(agent.principal, session_id)
            task = asyncio.create_task(self._lease(declared_by(agent), agent), name="open upstream session")
        self._sessions[session_id] = task
        return await await_shared(task, "its session was ended while it was being opened")

    def _take_place(self, principal: Principal, session_id: str) -> None:
        """Count one more session of `principal`. At a limit, a connection without calls is retired.

        At its share, the principal loses its own; at the limit of all, the principal with most loses one. Raises `Busy`
        if all of them have calls.
        """
        holder = holder_of(principal)
        limit, share = (MAX_CHILDREN, CHILDREN_SHARE) if self._backoff else (MAX_SESSIONS, SHARE)
        if len(self._shares.of(holder)) >= share:
            self._make_room([holder])
        elif len(self._shares) >= limit:
            self._make_room([*self._shares.above(holder), holder])
        self._shares.add(holder, session_id)

    def _make_room(self, holders: Iterable[Holder]) -> None:
        """Retire the least recently used connection without calls of the first holder that has one."""
        for holder in holders:
            own = self._shares.of(holder)
            for session_id, task in self._sessions.items():
                lease = _opened(task)
                if session_id in own and (lease is None or not lease.users) and task.done():
                    self.retire(session_id)
                    return
        raise Busy("all connections that this client may have are in use", retry_after=1.0)

    async def _pool_lease(self, wanted: Mapping[str, Any]) -> Lease:
        """An idle connection with the capabilities `wanted`, or a new one, which may replace an idle one."""
        for lease in reversed(self._idle):
            if lease.usable and lease.declared == wanted:
                self._idle.remove(lease)
                return lease
        while self._idle and (len(self._pooled) >= POOL_SIZE or not self._idle[0].usable):
            lease = self._idle.pop(0)
            self._retire(lease)
            self._pooled.remove(lease)
        lease = await self._lease(wanted, None)
        self._pooled.append(lease)
        return lease

    async def _lease(self, declared: Mapping[str, Any], agent: Agent | None) -> Lease:
        """Open a connection. Raises `Busy` before the next attempt is due."""
        key = agent.session_id if agent is not None else None
        failed = self._failed_openings.get(key)
        if failed is not None and (wait := failed.retry_at - self._clock.now()) > 0:
            raise Busy(failed.reason, retry_after=wait)
        try:
            connection = await self._open(declared, agent)
        except NotSent as problem:
            if not self._backoff:
                raise
            failed = self._failed_openings.setdefault(key, _Opening(Backoff(self._rng)))
            failed.again(problem.reason, self._clock.now())
            while len(self._failed_openings) > MAX_SESSIONS:
                del self._failed_openings[next(iter(self._failed_openings))]
            raise
        self._failed_openings.pop(key, None)
        return Lease(connection, declared)

    def _retire(self, lease: Lease) -> None:
        if not lease.retired:
            lease.retire()
            if not lease.users:
                self.discard(lease.connection)


def _opened(task: asyncio.Task[Lease] | None) -> Lease | None:
    """The lease of a session; None while its connection is being opened, or if opening failed."""
    if task is None or not task.done() or task.cancelled() or task.exception() is not None:
        return None
    return task.result()
