"""Log messages of one upstream: which level the gateway sets, and which agent gets each message.

A modern server gets the log level of the agent with each request. A legacy server has one level per connection. On a
shared connection, the gateway sets the lowest level that an agent wants, and filters for each agent. A message goes to
the agent of the call or of the connection that it came with. A message that could belong to several agents is
**unattributed**: the gateway drops it, since it may contain data of another agent.
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
from gateway_core.mcp.reserved import without_reserved
from gateway_core.upstream.base import Connection
from gateway_core.upstream.connections.coalescer import Coalescer

SET_TIMEOUT: Final = 2.0
"""Seconds that setting a level may delay a call."""
RELAX_AFTER: Final = 1.0
"""Seconds after a call with a lower level until the level of a shared connection is raised again."""
_OF_ONE_AGENT: Final = frozenset({LOG_MESSAGE, ELICITED})


def whose(method: str, in_flight: Iterable[Exchange]) -> Exchange | None:
    """The exchange of a notification outside of a request's stream, if exactly one agent has calls in flight.

    None also for notifications that concern all agents.
    """
    if method not in _OF_ONE_AGENT:
        return None
    running = list(in_flight)
    conversations = {exchange.conversation for exchange in running}
    return running[-1] if len(conversations) == 1 else None


class Logs:
    """Tracks the requested and the set log levels, and dispatches each message."""

    def __init__(self, upstream: str) -> None:
        self._upstream = upstream
        self._sessions: dict[str, str] = {}
        """Legacy session -> the level that its agent set."""
        self._calls: Counter[str] = Counter()
        """Level -> calls in flight on the shared connection that want it."""
        self._set: WeakKeyDictionary[Connection, str] = WeakKeyDictionary()
        self._locks: WeakKeyDictionary[Connection, asyncio.Lock] = WeakKeyDictionary()
        self._own: WeakValueDictionary[str, Connection] = WeakValueDictionary()
        """Legacy session -> its own connection, if it has one."""
        self._setting: Coalescer[tuple[Connection, str]] = Coalescer(self._set_level, f"setting a level of {upstream}")
        """Keys: connection, and the session that owns it; "" for a shared connection."""
        self._relaxing: asyncio.TimerHandle | None = None
        """Timer that raises the level of the shared connection when agents want fewer messages."""
        self.unattributed = 0

    # -- levels -------------------------------------------------------------------------------------------------

    def set_level(self, session_id: str, level: str, shared: Connection | None) -> None:
        """Called when a legacy agent set its level; `shared`: the connection that it may share with others."""
        self._sessions[session_id] = level
        if shared is not None:
            self._ask(shared)
        own = self._own.get(session_id)
        if own is not None:
            self._ask(own, session_id)

    def level_of(self, session_id: str) -> str:
        """The level that a legacy agent has set, as far as it is known here; empty if it is not."""
        return self._sessions.get(session_id, "")

    def opened(self, session_id: str, own: Connection) -> None:
        """Called when a legacy agent's own connection was opened."""
        self._own[session_id] = own
        self._ask(own, session_id)

    def forget(self, session_id: str, shared: Connection | None) -> None:
        """Drop the level of a legacy session that ended."""
        self._own.pop(session_id, None)
        if self._sessions.pop(session_id, None) is not None and shared is not None:
            self._ask(shared)

    @contextlib.asynccontextmanager
    async def heard(self, connection: Connection, exchange: Exchange, shared: Connection | None) -> AsyncIterator[None]:
        """While a call runs on `connection`, the server logs at least at the level that the agent asked for."""
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
        """The level that a shared connection needs; the highest level if no agent wants messages."""
        wanted = {level for level, calls in self._calls.items() if calls > 0} | set(self._sessions.values())
        return next((level for level in LOG_LEVELS if level in wanted), LOG_LEVELS[-1])

    async def _ensure(self, connection: Connection, level: str | None) -> None:
        """Set the level of a legacy connection if it differs; None: the lowest level that agents want now."""
        if not _levelled(connection) or connection.closed:
            return
        async with self._locks.setdefault(connection, asyncio.Lock()):
            wanted = level or self._lowest()
            if self._set.get(connection) == wanted or (not level and connection not in self._set and self._idle):
                return
            self._set[connection] = wanted  # even if it fails: no retry with each call
            try:
                async with asyncio.timeout(SET_TIMEOUT):
                    reply = await connection.request(SET_LEVEL, {"level": wanted})
            except (DeliveryError, TimeoutError):
                return  # the call itself reports the failure
            if reply.error is not None:
                logger.bind(upstream=self._upstream).debug("the server refused a log level: {}", reply.error.code)

    @property
    def _idle(self) -> bool:
        return not self._sessions and not any(self._calls.values())

    def _relax(self, shared: Connection) -> None:
        self._relaxing = None
        self._ask(shared)

    def _ask(self, connection: Connection, owner: str = "") -> None:
        """Set the level of a connection in the background."""
        if _levelled(connection):
            self._setting.ask((connection, owner))

    async def _set_level(self, key: tuple[Connection, str]) -> None:
        connection, owner = key
        level = self._sessions.get(owner)
        if level is not None or not owner:
            await self._ensure(connection, level)

    def connected(self, shared: Connection) -> None:
        """Called when the shared connection was opened; a new connection starts at the server's default level."""
        if not self._idle:
            self._ask(shared)

    def close(self) -> None:
        self._setting.close()
        if self._relaxing is not None:
            self._relaxing.cancel()
        if self.unattributed:
            logger.bind(upstream=self._upstream).debug(
                "{} log messages could not be attributed to an agent", self.unattributed
            )

    # -- messages -----------------------------------------------------------------------------------------------

    def on_notification(self, method: str, params: Raw, exchange: Exchange | None, owner: Agent | None) -> None:
        """Pass a message on; `exchange`: the call that it belongs to, `owner`: the only agent on its connection."""
        level = _level_of(params) if method == LOG_MESSAGE else ""
        params = Raw(without_reserved(bytes(params)))
        if method == LOG_MESSAGE and exchange is not None:
            exchange.log(level, params)
        elif exchange is not None and exchange.agent.era == "legacy":
            exchange.tell(method, bytes(params))
        elif exchange is None and owner is not None and owner.standalone is not None and owner.session_id is not None:
            if method != LOG_MESSAGE or admits(self._sessions.get(owner.session_id, ""), level):
                owner.standalone.notify(method, bytes(params))
        elif exchange is None:
            self.unattributed += 1
            if self.unattributed == 1:
                logger.bind(upstream=self._upstream).info(
                    "a {} of the server belongs to no one agent and is dropped; more are only counted", method
                )


def _levelled(connection: Connection) -> bool:
    """Whether the server on this connection supports `logging/setLevel`."""
    info = connection.info
    return info is not None and info.era == "legacy" and "logging" in info.capabilities


def _level_of(params: Raw) -> str:
    try:
        return msgspec.json.decode(jsonrpc.members(params).get("level", Raw(b'""')), type=str)
    except (RpcError, msgspec.DecodeError):
        return ""
