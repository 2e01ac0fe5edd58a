"""One configured MCP server: its connections, its concurrency limiter, its state and counters.

A shared *main* connection serves discovery, health checks, modern agents and, by default, all others. A legacy server
that opens sessions gets one more connection per agent session; `isolation` adds connections per agent or per call.
A caller that asks for a connection gets an open one, or `NotSent`.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Final

from gateway_core.api import UpstreamFacts, UpstreamState, UpstreamView
from gateway_core.config import ProxyConfig, UpstreamConfig
from gateway_core.errors import (
    HEADER_MISMATCH,
    INVALID_PARAMS,
    METHOD_NOT_FOUND,
    Busy,
    DeliveryError,
    NotSent,
    RpcError,
)
from gateway_core.exchange.exchange import Agent, Exchange
from gateway_core.inline.driver import in_task
from gateway_core.mcp.names import LISTS, ROOTS_CHANGED, TOOLS_CALL
from gateway_core.upstream.base import ANSWERED, Connection, ServerInfo
from gateway_core.upstream.capabilities import EVERYTHING
from gateway_core.upstream.connections.isolation import each_call, has_own
from gateway_core.upstream.connections.limiter import ConcurrencyLimiter
from gateway_core.upstream.connections.sessions import SessionConnections
from gateway_core.upstream.ejection import TIMED_OUT
from gateway_core.upstream.lists.fetched_lists import FetchedLists
from gateway_core.upstream.lists.published_lists import PublishedLists
from gateway_core.upstream.notifications.announcements import Announcements
from gateway_core.upstream.notifications.watches import OnUpdate, Release
from gateway_core.upstream.process.early import EarlyChildren
from gateway_core.upstream.requests import Reply, Request
from gateway_core.upstream.transports.client import HttpClient
from gateway_core.upstream.transports.opening import connection_to, open_session

RECONNECT_WAIT: Final = 2.0
"""Seconds that a call waits for a lost connection to be reopened."""


class Upstream:
    """One MCP server behind the gateway."""

    def __init__(
        self, config: UpstreamConfig, proxy: ProxyConfig, order: int, early: EarlyChildren | None = None
    ) -> None:
        self.config = config
        self.name: Final = config.name
        self._early = early
        self.timeout = config.timeout or proxy.timeout
        self.facts = UpstreamFacts(config.name, config.transport, config.url, config.priority, config.group, order)
        self.view = UpstreamView(self.facts)
        self.info: ServerInfo | None = None
        """What the server said about itself at the last handshake."""
        self.calls = 0
        self.errors = 0
        self.last_error: str | None = None
        """The reason of the last failure, in a form that agents may see."""
        self.last_words = ""
        """The last line on stderr of the connection closed last: for operators only."""
        self.died = False
        """Whether the process of the connection closed last had exited by itself."""
        self._deaths = 0
        self.retry_at: float | None = None
        """Loop time of the next attempt to reach the server, while it is down or ejected."""
        self.on_transport: Callable[[str | None, bool], None] = lambda failure, sent: None
        """Called after every answer (with None) and every transport failure (with its reason), and with whether a byte
        may have been sent."""
        self.on_list_changed: Callable[[Upstream], None] = lambda upstream: None
        """Called on `list_changed` from the server, and when the lists may be out of date."""
        self.on_refreshed: Callable[[Upstream], None] = lambda upstream: None
        """Called when a call or a late list has updated `fetched`."""
        self.published = PublishedLists(config, lambda exchange, *what: self.request(exchange, Request(*what)))
        self.published.on_late = lambda: self.on_refreshed(self)
        self._limits = proxy.limits
        self._http = HttpClient(config, proxy.limits) if config.transport != "stdio" else None
        self.connection: Connection | None = None
        """The main connection, if there is one."""
        self._isolates = config.isolation in {"agent", "call"}
        self.limiter = ConcurrencyLimiter(config.max_in_flight or (32 if config.transport == "stdio" else 128))
        self._connected = asyncio.Event()
        self.own: Final = SessionConnections(self._open_session)
        self._announced = Announcements(config.name, self._watching_connection, self._lists_changed)
        self.follow: Final = self._announced.follows.add
        """Subscribe an agent to the status of tasks, by this upstream's ids."""

    @property
    def fetched(self) -> FetchedLists | None:
        """The lists fetched last. An upstream that is down keeps its place in the catalog."""
        return self.published.fetched

    @property
    def reachable(self) -> bool:
        """Whether the main connection is open."""
        return self.connection is not None and not self.connection.closed

    @property
    def capabilities(self) -> Mapping[str, Any]:
        """The server's `ServerCapabilities`; empty until the first handshake."""
        return self.info.capabilities if self.info is not None else {}

    @property
    def instructions(self) -> str | None:
        """The server's `instructions` for agents."""
        return self.info.instructions if self.info is not None else None

    # -- life ---------------------------------------------------------------------------------------------------

    async def connect(self) -> None:
        """Open the main connection and fetch the lists.

        Raises `DeliveryError` or `RpcError` with the reason, and closes what was opened.
        """
        connection = connection_to(
            self.config, self._limits, self._announced.shared(EVERYTHING), self._http, self._early
        )
        connection.deaths = self._deaths
        try:
            async with asyncio.timeout(self.config.start_timeout):
                await connection.open(self.facts.era)
            await self.published.fetch(connection)
        except BaseException as problem:
            self._give_up(connection)
            self._deaths = self._deaths + 1 if self.died else 0
            if isinstance(problem, TimeoutError):
                raise NotSent(f"no answer to the handshake within {self.config.start_timeout:g} s") from None
            raise
        assert connection.info is not None
        self._deaths = 0
        lost, self.connection = self.connection, connection
        self._connected.set()
        if lost is not None:
            self._give_up(lost)
        if self._http is not None:
            # A server that is reachable again was usually restarted, and has lost its old sessions.
            self.own.retire_all()
        self.published.changes += 1
        self.info = connection.info
        self.facts.era = connection.info.era
        self.enter(UpstreamState.HEALTHY)
        self._announced.connected(connection)

    def enter(self, state: UpstreamState, *, reason: str | None = None, retry_at: float | None = None) -> None:
        """Set the state, its reason, and the time of the next attempt (loop time)."""
        self.facts.state = state
        self.retry_at = retry_at
        if reason is not None or state is UpstreamState.HEALTHY:
            self.last_error = reason

    def _give_up(self, connection: Connection) -> None:
        self.last_words, self.died = connection.last_words, connection.died
        self.own.discard(connection)

    def abandon(self) -> None:
        """Close the main connection at once, and each agent's connection when its last call ends."""
        main, self.connection = self.connection, None
        if main is not None:
            self._give_up(main)
        self.own.retire_all()

    async def disconnect(self) -> None:
        """`abandon`, and wait until all connections being closed are closed; bounded in time."""
        self.abandon()
        await self.own.closed()

    async def close(self) -> None:
        """`disconnect`, and release all that outlives a connection: subscriptions, lists, the HTTP client."""
        self.enter(UpstreamState.STOPPED)
        self._announced.close()
        await self.published.close()
        await self.disconnect()
        if self._http is not None:
            await self._http.close()

    def suspect_sessions(self) -> None:
        """Retire the agents' connections of a server that seems down, so that no call fails on a dead session."""
        self.own.retire_all()

    def end_session(self, session_id: str) -> None:
        """Close the connection of an agent's session that has ended."""
        self._announced.session_ended(session_id, self.connection)
        self.own.retire(session_id)

    async def refresh(self) -> None:
        """Fetch the lists again. Raises `DeliveryError`, `RpcError` or `TimeoutError`; the last lists then stay."""
        if self.connection is None:
            raise NotSent("not connected")
        async with asyncio.timeout(self.config.start_timeout):
            await self.published.fetch(self.connection, again=True)

    def refresh_if_expired(self) -> None:
        """Request a background fetch of the lists if they have expired (server/utilities/caching)."""
        if self.connection is not None and self.published.expired:
            self.on_list_changed(self)

    def _lists_changed(self) -> None:
        """Called on `list_changed` from the server, on any connection."""
        self.published.changes += 1
        self.on_list_changed(self)

    # -- notifications for agents -------------------------------------------------------------------------------

    async def watch(self, agent: Agent, uri: str, on_update: OnUpdate) -> Release:
        """Call `on_update` when a resource is updated. `uri` is this upstream's own; see `Watches.add`."""
        own = has_own(self.config, self.facts.era, agent, await self._open_main())
        return await self._announced.watches.add(agent if own else None, uri, on_update)

    async def _watching_connection(self, owner: Agent | None) -> Connection:
        main = await self._open_main()
        if owner is None:
            return main
        async with self.own.of_session(owner) as connection:
            return connection

    def roots_changed(self, session_id: str) -> None:
        """Notify the session's connection, if any, that a legacy agent's roots changed."""
        self.own.tell(session_id, ROOTS_CHANGED)

    def set_log_level(self, session_id: str, level: str) -> None:
        """Set the least severe level of log messages that a legacy agent wants."""
        self._announced.logs.set_level(session_id, level, self.connection)

    # -- requests -----------------------------------------------------------------------------------------------

    async def request(self, exchange: Exchange, request: Request) -> Reply:
        """Deliver one request of an agent; see `Connection.deliver` for the outcomes."""
        facts, limiter, method = self.facts, self.limiter, request.method
        self.calls += method not in LISTS  # the gateway itself requests lists, in an agent's name
        facts.in_flight += 1
        try:
            if not limiter.acquire_now():
                await limiter.acquire()
            exchange.hold(limiter)
            try:
                started = time.monotonic()
                reply = await self._once(exchange, request)
                if reply.error is not None and reply.error.code == HEADER_MISMATCH and facts.era == "modern":
                    reply = await self._corrected(exchange, request, reply)
                facts.took(time.monotonic() - started - exchange.waited)
            finally:
                exchange.let_go(limiter)
        except DeliveryError as problem:
            if not isinstance(problem, Busy):
                answered, sent = isinstance(problem, ANSWERED), not isinstance(problem, NotSent)
                self._failed(problem.reason, transport=not answered, sent=sent)
            raise
        except asyncio.CancelledError:
            if exchange.deadline is not None and exchange.deadline.passed and exchange.sent:
                self._failed(TIMED_OUT, transport=True, sent=True)
            raise
        finally:
            facts.in_flight -= 1
        if reply.error is not None:
            self.errors += 1
            if reply.error.code in {METHOD_NOT_FOUND, INVALID_PARAMS} and not method.startswith("tasks/"):
                self.on_list_changed(self)  # a listed entry may have been removed
        self.on_transport(None, True)
        return reply

    def _failed(self, reason: str, *, transport: bool, sent: bool) -> None:
        self.errors += 1
        self.last_error = reason
        if transport:
            self.on_transport(reason, sent)

    async def _corrected(self, exchange: Exchange, request: Request, refusal: Reply) -> Reply:
        """Refresh the lists and resend a refused call. It did not run, because the known headers of its tool were out
        of date (rule R8, Client Behavior)."""
        await in_task()
        try:
            await self.refresh()
            if "tool" in self.published.private:
                await self.published.renew(exchange.agent)
        except (DeliveryError, RpcError, TimeoutError):
            return refusal
        self.on_refreshed(self)
        request.templates = None  # made from the old definition
        return await self._once(exchange, request)

    def _once(self, exchange: Exchange, request: Request) -> Coroutine[Any, Any, Reply]:
        """Send the request on the connection for this exchange."""
        headers, main = None, self.connection
        if self._http is not None and request.method == TOOLS_CALL and (request.templates is None or exchange.headers):
            headers = self.published.param_headers(exchange, request)  # no tool with a call plan mirrors arguments
        if main is None or main.closed or exchange.log_level or (self._isolates or main.stateful):
            return self._isolated(exchange, request, headers)
        return main.deliver(request, exchange, headers)

    async def _isolated(self, exchange: Exchange, request: Request, headers: Mapping[str, str] | None) -> Reply:
        """Send the request on an isolated or reopened connection, after setting the agent's log level."""
        agent, era = exchange.agent, self.facts.era
        if era == "legacy" and each_call(self.config, era, agent):
            async with self.own.borrow(exchange) as connection:
                return await self._on(connection, exchange, request, headers)
        main = await self._open_main()
        if not has_own(self.config, era, agent, main):
            return await self._on(main, exchange, request, headers)
        lease = await self.own.lease_of(agent)
        try:
            return await self._on(lease.connection, exchange, request, headers)
        finally:
            self.own.left(lease)

    async def _on(
        self, connection: Connection, exchange: Exchange, request: Request, headers: Mapping[str, str] | None
    ) -> Reply:
        if not exchange.log_level:
            return await connection.deliver(request, exchange, headers)
        await in_task()
        async with self._announced.logs.heard(connection, exchange, self.connection):
            return await connection.deliver(request, exchange, headers)

    async def _open_main(self) -> Connection:
        """The main connection, or its replacement within `RECONNECT_WAIT` if it was just lost. Raises `Busy`."""
        lost = self.connection
        if lost is not None and not lost.closed:
            return lost
        if self.facts.state is UpstreamState.HEALTHY:
            await in_task()
            self._connected.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(RECONNECT_WAIT):
                    await self._connected.wait()
        if self.connection is None or self.connection.closed:
            raise Busy("not connected", retry_after=self.retry_in())
        return self.connection

    # -- connections --------------------------------------------------------------------------------------------

    async def _open_session(self, declared: Mapping[str, Any], agent: Agent | None) -> Connection:
        """Open one more connection, for `agent` alone if given. Raises `NotSent` for every failure."""
        context = self._announced.own(declared, agent)
        connection = connection_to(self.config, self._limits, context, self._http, None)
        await open_session(connection, self.config, self.facts.era, self.own.discard)
        if agent is not None and agent.session_id is not None:
            self._announced.logs.opened(agent.session_id, connection)
        return connection

    def retry_in(self) -> float | None:
        """Seconds until the next attempt to reach this upstream; None if unknown."""
        return None if self.retry_at is None else max(0.0, self.retry_at - asyncio.get_running_loop().time())
