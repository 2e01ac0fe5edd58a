"""Log messages of one upstream: how much of them it is asked for, and whose they are.

A modern server is told with each request what the agent behind it wants. A legacy server has one level a connection:
where agents share it, the gateway sets the lowest that any of them wants, and each agent gets what it asked for. A
message goes to the agent whose call it came with, or whose connection it came on. One that could be several agents' is
**unattributed**: nobody gets it, since it may tell of another's work.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from typing import Final
from weakref import WeakKeyDictionary, WeakValueDictionary

import msgspec
from loguru import logger
from msgspec import Raw

from gateway_core.errors import DeliveryError, RpcError
from gateway_core.exchange.exchange import Agent, Exchange, admits
from gateway_core.mcp import jsonrpc
from gateway_core.mcp.names import ELICITED, LOG_LEVELS, LOG_MESSAGE, SET_LEVEL
from gateway_core.upstream.base import Connection
from gateway_core.upstream.connections.coalescer import Settling

SET_TIMEOUT: Final = 2.0
"""Seconds that setting a level may keep a call."""
RELAX_AFTER: Final = 1.0
"""Seconds until a shared connection's level is raised again after a call that wanted more."""
_OF_ONE_AGENT: Final = frozenset({LOG_MESSAGE, ELICITED})


def whose(method: str, in_flight: Iterable[Exchange]) -> Exchange | None:
    """The exchange that a notification belongs to which came on no request's stream, if there is exactly one agent.

    None for notifications that concern all agents, too.
    """
    if method not in _OF_ONE_AGENT:
        return None
    running = list(in_flight)
    conversations = {exchange.conversation for exchange in running}
    return running[-1] if len(conversations) == 1 else None


class Logs:
    """Levels that are wanted and set, and the way of each message."""

    def __init__(self, upstream: str) -> None:
        self._upstream = upstream
        self._sessions: dict[str, str] = {}
        """Legacy session -> the level that its agent has set."""
        self._calls: Counter[str] = Counter()
        """Level -> calls in flight on the shared connection that want it."""
        self._set: WeakKeyDictionary[Connection, str] = WeakKeyDictionary()
        self._locks: WeakKeyDictionary[Connection, asyncio.Lock] = WeakKeyDictionary()
        self._own: WeakValueDictionary[str, Connection] = WeakValueDictionary()
        """Legacy session -> its own connection, where it has one."""
        self._settling: Settling[tuple[Connection, str]] = Settling(self._settle, "set log level")
        """By connection, and the session whose own it is; that of a shared one is ""."""
        self._relaxing: asyncio.TimerHandle | None = None
        """Until the shared connection's level is set again, when fewer messages are wanted."""
        self.unattributed = 0

    # -- levels -------------------------------------------------------------------------------------------------

    def set_level(self, session_id: str, level: str, shared: Connection | None) -> None:
        """A legacy agent has set its level; `shared`: the connection that it may share with others."""
        self._sessions[session_id] = level
        if shared is not None:
            self._ask(shared)
        own = self._own.get(session_id)
        if own is not None:
            self._ask(own, session_id)

    def opened(self, session_id: str, own: Connection) -> None:
        """A legacy agent's own connection was opened."""
        self._own[session_id] = own
        self._ask(own, session_id)

    def forget(self, session_id: str, shared: Connection | None) -> None:
        """A legacy session has ended."""
        self._own.pop(session_id, None)
        if self._sessions.pop(session_id, None) is not None and shared is not None:
            self._ask(shared)

    @contextlib.asynccontextmanager
    async def heard(self, connection: Connection, exchange: Exchange, shared: Connection | None) -> AsyncIterator[None]:
        """While a call is on `connection`, its agent is heard of what it wants to know."""
        level = exchange.log_level
        if not level or not _levelled(connection):
            yield
            return
        if connection is not shared:
            await self._ensure(connection, level)
            yield
            return
        self._calls[level] += 1
        try:
            await self._ensure(connection, None)
            yield
        finally:
            self._calls[level] -= 1
            if level != self._lowest() and self._relaxing is None:
                self._relaxing = asyncio.get_running_loop().call_later(RELAX_AFTER, self._relax, connection)

    def _lowest(self) -> str:
        """The level that a shared connection has to have; the highest one when nobody wants any."""
        wanted = {level for level, calls in self._calls.items() if calls > 0} | set(self._sessions.values())
        return next((level for level in LOG_LEVELS if level in wanted), LOG_LEVELS[-1])

    async def _ensure(self, connection: Connection, level: str | None) -> None:
        """Set a legacy connection's level, if it is another one; None: the lowest that is wanted at that moment."""
        if not _levelled(connection) or connection.closed:
            return
        async with self._locks.setdefault(connection, asyncio.Lock()):
            wanted = level or self._lowest()
            if self._set.get(connection) == wanted or (not level and connection not in self._set and self._idle):
                return
            self._set[connection] = wanted  # whatever comes of it: a server that refuses is not asked with each call
            try:
                async with asyncio.timeout(SET_TIMEOUT):
                    reply = await connection.request(SET_LEVEL, {"level": wanted})
            except (DeliveryError, TimeoutError):
                return  # the call itself will tell
            if reply.error is not None:
                logger.bind(upstream=self._upstream).debug("the server refused a log level: {}", reply.error.code)

    @property
    def _idle(self) -> bool:
        return not self._sessions and not any(self._calls.values())

    def _relax(self, shared: Connection) -> None:
        self._relaxing = None
        self._ask(shared)

    def _ask(self, connection: Connection, owner: str = "") -> None:
        """Have the level of a connection set in the background."""
        if _levelled(connection):
            self._settling.ask((connection, owner))

    async def _settle(self, asked: tuple[Connection, str]) -> None:
        connection, owner = asked
        level = self._sessions.get(owner)
        if level is not None or not owner:
            await self._ensure(connection, level)

    def connected(self, shared: Connection) -> None:
        """The shared connection was opened anew, and has the server's own level."""
        if not self._idle:
            self._ask(shared)

    def close(self) -> None:
        self._settling.close()
        if self._relaxing is not None:
            self._relaxing.cancel()
        if self.unattributed:
            logger.bind(upstream=self._upstream).debug("{} log messages were nobody's", self.unattributed)

    # -- messages -----------------------------------------------------------------------------------------------

    def told(self, method: str, params: Raw, exchange: Exchange | None, owner: Agent | None) -> None:
        """Pass a message on; `exchange`: the call that it belongs to, `owner`: whose connection it came on."""
        level = _level_of(params) if method == LOG_MESSAGE else ""
        if method == LOG_MESSAGE and exchange is not None:
            exchange.log(level, params)
        elif exchange is not None and exchange.agent.era == "legacy":
            exchange.tell(method, bytes(params))
        elif exchange is None and owner is not None and owner.standing is not None and owner.session_id is not None:
            if method != LOG_MESSAGE or admits(self._sessions.get(owner.session_id, ""), level):
                owner.standing.notify(method, bytes(params))
        elif exchange is None:
            self.unattributed += 1
            if self.unattributed == 1:
                logger.bind(upstream=self._upstream).info(
                    "a {} of the server belongs to no one agent and is dropped; more are only counted", method
                )


def _levelled(connection: Connection) -> bool:
    """Whether the server on it has a level that can be set."""
    info = connection.info
    return info is not None and info.era == "legacy" and "logging" in info.capabilities


def _level_of(params: Raw) -> str:
    try:
        return msgspec.json.decode(jsonrpc.members(params).get("level", Raw(b'""')), type=str)
    except (RpcError, msgspec.DecodeError):
        return ""
