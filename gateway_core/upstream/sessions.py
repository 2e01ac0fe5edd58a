"""Connections of one upstream beside its main one: one per agent session, or a small pool leased call by call."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from loguru import logger

from gateway_core.errors import NotSent
from gateway_core.upstream.base import Connection

POOL_SIZE: Final = 8
"""Connections of an upstream with `isolation = "call"`; each serves one exchange at a time."""
POOL_WAIT: Final = 10.0
"""Seconds that an exchange waits for one of them."""
MAX_SESSIONS: Final = 1024
"""Sessions kept open with one upstream; past it the one that was used least recently is closed."""


@dataclass(slots=True)
class Lease:
    """A pooled connection while one exchange has it."""

    connection: Connection
    generation: int


class SessionConnections:
    """Opens, keeps and closes the extra connections of one upstream.

    `generation` grows when the server is believed to have gone away: connections opened before are replaced instead
    of being used, so that no call is spent on finding out that its session is dead.
    """

    def __init__(self, opener: Callable[[], Awaitable[Connection]]) -> None:
        self._open = opener
        self._generation = 0
        self._sessions: dict[str, asyncio.Task[Lease]] = {}
        self._idle: list[Lease] = []
        self._places = asyncio.Semaphore(POOL_SIZE)
        self._closing: set[asyncio.Task[None]] = set()

    async def of_session(self, session_id: str) -> Connection:
        """The connection of an agent's session, opened on first use. Raises `NotSent` when that fails."""
        task = self._sessions.get(session_id)
        if task is not None and task.done() and not self._usable(task):
            self._forget(session_id)
            task = None
        if task is None:
            if len(self._sessions) >= MAX_SESSIONS:
                self._forget(next(iter(self._sessions)))
            task = asyncio.create_task(self._lease(), name="open upstream session")
            self._sessions[session_id] = task
        else:
            self._sessions[session_id] = self._sessions.pop(session_id)  # the order of use, for the bound above
        # Shielded: the calls of one session share its opening, and one that is cancelled must not end it for all.
        try:
            lease = await asyncio.shield(task)
        except asyncio.CancelledError:
            current = asyncio.current_task()
            if task.cancelled() and current is not None and not current.cancelling():
                raise NotSent("its session was ended while it was being opened") from None
            raise
        return lease.connection

    async def borrow(self) -> Lease:
        """Lease a connection to one exchange. Raises `NotSent` when none is free in time or none can be opened."""
        try:
            async with asyncio.timeout(POOL_WAIT):
                await self._places.acquire()
        except TimeoutError:
            raise NotSent(f"all {POOL_SIZE} isolated connections are in use", retry_after=1.0) from None
        try:
            while self._idle:
                lease = self._idle.pop()
                if lease.generation == self._generation and not lease.connection.closed:
                    return lease
                self.discard(lease.connection)
            return await self._lease()
        except BaseException:
            self._places.release()
            raise

    async def give_back(self, lease: Lease) -> None:
        """Return a leased connection; one that is closed or outdated is given up."""
        if lease.generation == self._generation and not lease.connection.closed:
            self._idle.append(lease)
        else:
            self.discard(lease.connection)
        self._places.release()

    def retire_all(self) -> None:
        """Use none of the connections opened so far for another call; those in use finish theirs."""
        self._generation += 1

    async def drop(self, session_id: str) -> None:
        """Close the connection of one agent's session, if it has one."""
        self._forget(session_id)

    async def drop_all(self) -> None:
        """Close every connection and wait until that is done (each bounds its own closing)."""
        self._generation += 1
        for session_id in list(self._sessions):
            self._forget(session_id)
        for lease in self._idle:
            self.discard(lease.connection)
        self._idle.clear()
        if self._closing:
            await asyncio.wait(self._closing)

    async def _lease(self) -> Lease:
        generation = self._generation
        return Lease(await self._open(), generation)

    def _usable(self, task: asyncio.Task[Lease]) -> bool:
        if task.cancelled() or task.exception() is not None:
            return False
        lease = task.result()
        return lease.generation == self._generation and not lease.connection.closed

    def _forget(self, session_id: str) -> None:
        task = self._sessions.pop(session_id, None)
        if task is None:
            return
        if not task.done():
            task.cancel()
        elif not task.cancelled() and task.exception() is None:
            self.discard(task.result().connection)

    def discard(self, connection: Connection) -> None:
        """Close a connection in the background; `drop_all` waits for it, whoever stopped waiting meanwhile."""
        task = asyncio.create_task(self._close(connection), name="close upstream session")
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def _close(self, connection: Connection) -> None:
        try:
            await connection.close()
        except Exception as error:  # noqa: BLE001 - closing is best effort; the reason is worth a line
            logger.debug("closing an upstream session failed: {}", error)
