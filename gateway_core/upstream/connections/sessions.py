"""Connections of one upstream beside its main one: one per agent session, or a small pool leased call by call.

A connection that is *retired* is given to nobody any more: it is closed at once, or when the last call on it ends.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from loguru import logger

from gateway_core.errors import Busy, DeliveryError
from gateway_core.exchange.exchange import Agent, Exchange
from gateway_core.inline.driver import in_task
from gateway_core.upstream.base import Connection
from gateway_core.upstream.capabilities import declared_by
from gateway_core.upstream.connections.await_shared import joined
from gateway_core.upstream.connections.coalescer import Settling
from gateway_core.upstream.connections.limiter import ConcurrencyLimiter

POOL_SIZE: Final = 8
"""Connections of an upstream with `isolation = "call"`; each serves one exchange at a time. Those of calls that wait
for their agents' answers come on top: `limits.parked_calls` bounds them."""
POOL_QUEUE: Final = 256
"""Exchanges that may wait for one."""
POOL_WAIT: Final = 10.0
"""Seconds that an exchange waits for one of them."""
TELL_TIMEOUT: Final = 5.0
"""Seconds for a notification that nobody waits for."""
MAX_SESSIONS: Final = 1024
"""Agent sessions that have a connection; past it the one that was used least recently is retired."""


@dataclass(slots=True)
class Lease:
    """An extra connection, and how many calls are on it."""

    connection: Connection
    declared: Mapping[str, Any]
    """The capabilities that its server was told of; another agent's may differ."""
    users: int = 0
    retired: bool = False

    @property
    def usable(self) -> bool:
        return not self.retired and not self.connection.closed


class SessionConnections:
    """Opens, keeps and closes the extra connections of one upstream."""

    def __init__(self, opener: Callable[[Mapping[str, Any], Agent | None], Awaitable[Connection]]) -> None:
        """`opener` opens one that declares those capabilities, for that agent alone if any, or raises `NotSent`."""
        self._open = opener
        self._sessions: dict[str, asyncio.Task[Lease]] = {}
        self._pooled: list[Lease] = []
        self._idle: list[Lease] = []
        self._limiter = ConcurrencyLimiter(POOL_SIZE, POOL_QUEUE, f"all {POOL_SIZE} isolated connections are in use")
        self._closing: set[asyncio.Task[None]] = set()
        self._telling: Settling[tuple[str, str]] = Settling(self._tell, "tell an upstream")
        """By session and method."""

    @contextlib.asynccontextmanager
    async def of_session(self, agent: Agent) -> AsyncIterator[Connection]:
        """`lease_of`, and `left` at the end."""
        lease = await self.lease_of(agent)
        try:
            yield lease.connection
        finally:
            self.left(lease)

    async def lease_of(self, agent: Agent) -> Lease:
        """The connection of a legacy agent's session, opened on first use. Raises `NotSent` when that fails.

        It counts as one more user of the connection, until `left`.
        """
        lease = self.ready(agent) or await self._session_lease(agent)
        lease.users += 1
        return lease

    def ready(self, agent: Agent) -> Lease | None:
        """The connection of a legacy agent's session, where it is open already. It counts as used now."""
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

    def connections(self) -> list[Connection]:
        """Those that are open."""
        leases = [lease for task in self._sessions.values() if (lease := _opened(task)) is not None]
        return [lease.connection for lease in (*leases, *self._pooled)]

    def left(self, lease: Lease) -> None:
        """A call has ended that was on it."""
        lease.users -= 1
        if lease.retired and not lease.users:
            self.discard(lease.connection)

    @contextlib.asynccontextmanager
    async def borrow(self, exchange: Exchange) -> AsyncIterator[Connection]:
        """A connection for one exchange alone. Raises `NotSent` when none is free in time or none can be opened."""
        await in_task()
        try:
            async with asyncio.timeout(POOL_WAIT):
                await self._limiter.acquire()
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

    def tell(self, session_id: str, method: str) -> None:
        """Send a notification on the connection of an agent's session, if it has one; nobody waits for it.

        What is to be told again while the server is still being told is told once more, however often that is.
        """
        if session_id in self._sessions:
            self._telling.ask((session_id, method))

    async def _tell(self, told: tuple[str, str]) -> None:
        session_id, method = told
        lease = _opened(self._sessions.get(session_id))
        if lease is None or not lease.usable:
            return
        with contextlib.suppress(DeliveryError, TimeoutError):  # the next call on it will find out
            async with asyncio.timeout(TELL_TIMEOUT):
                await lease.connection.notify(method)

    def retire(self, session_id: str) -> None:
        """An agent's session has ended: its connection is closed."""
        task = self._sessions.pop(session_id, None)
        lease = _opened(task)
        if lease is not None:
            self._retire(lease)
        elif task is not None:
            task.cancel()

    def retire_all(self) -> None:
        """The server has gone away, or seems to have: open new connections for the next calls."""
        for session_id, task in list(self._sessions.items()):
            if task.done():  # one that is being opened now is new enough, or fails by itself
                self.retire(session_id)
        for lease in self._pooled:
            self._retire(lease)
        self._pooled = [lease for lease in self._pooled if lease.users]
        self._idle.clear()

    def discard(self, connection: Connection) -> None:
        """Close a connection in the background; `closed` waits for it, whoever stopped waiting meanwhile."""
        task = asyncio.create_task(_close(connection), name="close upstream connection")
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def closed(self) -> None:
        """Wait until everything that is being closed is (each connection bounds its own closing)."""
        while self._closing:
            await asyncio.wait(self._closing)

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
            if len(self._sessions) >= MAX_SESSIONS:
                self.retire(next(iter(self._sessions)))
            task = asyncio.create_task(self._lease(declared_by(agent), agent), name="open upstream session")
        self._sessions[session_id] = task
        return await joined(task, "its session was ended while it was being opened")

    async def _pool_lease(self, wanted: Mapping[str, Any]) -> Lease:
        """An idle connection that declares the capabilities `wanted`, or a new one, in the place of another's."""
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
        return Lease(await self._open(declared, agent), declared)

    def _retire(self, lease: Lease) -> None:
        if not lease.retired:
            lease.retired = True
            if not lease.users:
                self.discard(lease.connection)


def _opened(task: asyncio.Task[Lease] | None) -> Lease | None:
    """What opening a session's connection gave; None while it is being opened, and when that failed."""
    if task is None or not task.done() or task.cancelled() or task.exception() is not None:
        return None
    return task.result()


async def _close(connection: Connection) -> None:
    try:
        await connection.close()
    except Exception as error:  # noqa: BLE001 - closing is best effort; the reason is worth a line
        logger.debug("closing an upstream connection failed: {}", type(error).__name__)
