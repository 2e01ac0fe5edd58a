"""One configured MCP server: delivers agents' requests to it, and keeps its lists and subscriptions.

Its connections are in `connection_manager.py`, its state in `status.py`, what its calls say about its health in
`signals.py`.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Coroutine, Mapping
from typing import Any, Final

from gateway_core.api import UpstreamState
from gateway_core.concealing import HeldSecrets
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
from gateway_core.limits.accounts import Account
from gateway_core.limits.budget import MemoryBudget
from gateway_core.mcp.names import LISTS, ROOTS_CHANGED, TOOLS_CALL
from gateway_core.upstream.auth import Logins
from gateway_core.upstream.base import ANSWERED, Connection, ServerInfo
from gateway_core.upstream.connection_manager import ConnectionManager
from gateway_core.upstream.connections.isolation import each_call, has_own
from gateway_core.upstream.connections.limiter import ConcurrencyLimiter
from gateway_core.upstream.ejection import TIMED_OUT
from gateway_core.upstream.lists.fetched_lists import FetchedLists
from gateway_core.upstream.lists.private_lists import PrivateLists
from gateway_core.upstream.lists.published_lists import PublishedLists
from gateway_core.upstream.liveness import Liveness
from gateway_core.upstream.notifications.announcements import Announcements
from gateway_core.upstream.notifications.watches import OnUpdate, Release
from gateway_core.upstream.process.early import EarlyChildren
from gateway_core.upstream.requests import Reply, Request
from gateway_core.upstream.signals import Signals
from gateway_core.upstream.status import NO_EVENTS, SYSTEM_CLOCK, Clock, UpstreamEvents, UpstreamStatus


class Upstream:
    """One MCP server behind the gateway."""

    def __init__(
        self,
        config: UpstreamConfig,
        proxy: ProxyConfig,
        order: int,
        early: EarlyChildren | None = None,
        *,
        events: UpstreamEvents = NO_EVENTS,
        clock: Clock = SYSTEM_CLOCK,
        held: HeldSecrets | None = None,
        budget: MemoryBudget | None = None,
        logins: Logins | None = None,
    ) -> None:
        """`order`: the position in the configuration. `early` may hold its first child process.

        `held`: the secrets to hide in what the server sends. `budget` counts its large messages and its lists.
        `logins`: the operator's logins at upstreams.
        """
        account = Account(budget, f"upstream {config.name}")
        self.config = config
        self.name: Final = config.name
        self.timeout: Final = config.timeout
        """Seconds for one call; None: those of the gateway."""
        self.clock: Final = clock
        self._events = events
        self.status: Final = UpstreamStatus(config, order, clock)
        self.facts: Final = self.status.facts
        self.view: Final = self.status.view
        self.info: ServerInfo | None = None
        """What the server said about itself at the last handshake."""
        self.calls = 0
        self.errors = 0
        self.published = PublishedLists(config, events, clock, account)
        self.private_lists: Final = PrivateLists(config, self.published, self.request, events, account)
        self.limiter = ConcurrencyLimiter(config.max_in_flight or (32 if config.transport == "stdio" else 128))
        self._announced = Announcements(
            config.name, held or HeldSecrets(), self._connection_of, self._lists_changed, account
        )
        self.connections: Final = ConnectionManager(
            config, proxy.limits, self.status, self._announced, early, logins=logins
        )
        self.liveness: Final = Liveness(self.connections.sharing, lambda: self.published.fatal.skipped)
        self.signals: Final = Signals(self.status, self.liveness, clock, random.Random())  # noqa: S311 - jitter
        self.follow: Final = self._announced.follows.add
        """Subscribe an agent to the status of tasks, by this upstream's ids."""

    @property
    def fetched(self) -> FetchedLists | None:
        """The lists fetched last. An upstream that is down keeps its place in the catalog."""
        return self.published.fetched

    @property
    def reachable(self) -> bool:
        """Whether the main connection is open."""
        return self.connections.reachable

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
        connection = await self.connections.open()
        self.signals.refreshing()
        try:
            await self.published.fetch(connection)
        except BaseException:
            self.connections.give_up(connection)
            raise
        self.connections.adopt(connection)
        self.published.changed()
        self.info = connection.info
        self.status.connected()
        self._announced.connected(connection)

    async def close(self) -> None:
        """Close all connections, subscriptions and fetches."""
        self.status.enter(UpstreamState.STOPPED)
        self._announced.close()
        await self.published.close()
        await self.private_lists.close()
        await self.connections.close()

    def end_session(self, session_id: str) -> None:
        """Close the connection of an agent's session that has ended."""
        self._announced.session_ended(session_id, self.connections.main)
        self.connections.sessions.retire(session_id)

    async def refresh(self) -> None:
        """Fetch the lists again. Raises `DeliveryError` or `RpcError`; the last lists then stay."""
        if self.connections.main is None:
            raise NotSent("not connected")
        await self.published.fetch(self.connections.main, again=True)

    def refresh_if_expired(self) -> None:
        """Request a background fetch of the lists if they have expired (server/utilities/caching)."""
        if self.connections.main is not None and self.published.expired:
            self.signals.lists_changed()

    def _lists_changed(self) -> None:
        """Called on `list_changed` from the server, on any connection."""
        self.published.changed()
        self.signals.lists_changed()

    # -- notifications for agents -------------------------------------------------------------------------------

    async def watch(self, agent: Agent, uri: str, on_update: OnUpdate) -> Release:
        """Call `on_update` when a resource is updated. `uri` is this upstream's own; see `Watches.add`."""
        own = has_own(self.config, self.facts.era, agent, await self.connections.usable_main())
        return await self._announced.watches.add(agent if own else None, uri, on_update, agent.principal)

    async def _connection_of(self, owner: Agent | None) -> Connection:
        return await self.connections.of(owner)

    def roots_changed(self, session_id: str) -> None:
        """Notify the session's connection, if any, that a legacy agent's roots changed."""
        self.connections.sessions.tell(session_id, ROOTS_CHANGED)

    def set_log_level(self, session_id: str, level: str) -> None:
        """Set the least severe level of log messages that a legacy agent wants."""
        self._announced.logs.set_level(session_id, level, self.connections.main)

    # -- requests -----------------------------------------------------------------------------------------------

    async def request(self, exchange: Exchange, request: Request) -> Reply:
        """Deliver one request of an agent; see `Connection.deliver` for the outcomes."""
        facts, limiter, method = self.facts, self.limiter, request.method
        self.calls += method not in LISTS  # the gateway itself requests lists, in an agent's name
        facts.in_flight += 1
        try:
            if not limiter.acquire_now():
                await limiter.acquire(exchange.agent.principal)
            exchange.hold(limiter)
            try:
                started = time.monotonic()
                reply = await self._once(exchange, request)
                if reply.error is not None and reply.error.code == HEADER_MISMATCH and facts.era == "modern":
                    reply = await self._corrected(exchange, request, reply)
                facts.took(time.monotonic() - started - exchange.waited)
            except asyncio.CancelledError:
                limiter.keep(exchange)
                raise
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
                self.signals.lists_changed()  # a listed entry may have been removed
        self.signals.answered()
        return reply

    def _failed(self, reason: str, *, transport: bool, sent: bool) -> None:
        self.errors += 1
        self.status.failed(reason)
        if transport:
            self.signals.failed(reason, sent=sent)

    async def _corrected(self, exchange: Exchange, request: Request, refusal: Reply) -> Reply:
        """Refresh the lists and resend a refused call. It did not run, because the known headers of its tool were out
        of date (rule R8, Client Behavior)."""
        await in_task()
        try:
            await self.refresh()
            if "tool" in self.published.private:
                await self.private_lists.renew(exchange.agent)
        except (DeliveryError, RpcError):
            return refusal
        self._events.lists_changed()
        request.outdated()
        return await self._once(exchange, request)

    def _once(self, exchange: Exchange, request: Request) -> Coroutine[Any, Any, Reply]:
        """Send the request on the connection for this exchange."""
        connections = self.connections
        headers, main = None, connections.main
        if (
            connections.http is not None
            and request.method == TOOLS_CALL
            and (request.templates is None or exchange.headers)
        ):
            headers = self.private_lists.param_headers(exchange, request)  # no tool with a call plan mirrors arguments
        if main is None or main.closed or exchange.log_level or (connections.isolates or main.stateful):
            return self._isolated(exchange, request, headers)
        return main.deliver(request, exchange, headers)

    async def _isolated(self, exchange: Exchange, request: Request, headers: Mapping[str, str] | None) -> Reply:
        """Send the request on an isolated or reopened connection, after setting the agent's log level."""
        agent, era, connections = exchange.agent, self.facts.era, self.connections
        if era == "legacy" and each_call(self.config, era, agent):
            async with connections.sessions.borrow(exchange) as connection:
                return await self._on(connection, exchange, request, headers)
        main = await connections.usable_main()
        if not has_own(self.config, era, agent, main):
            return await self._on(main, exchange, request, headers)
        lease = await connections.sessions.lease_of(agent)
        try:
            return await self._on(lease.connection, exchange, request, headers)
        finally:
            connections.sessions.left(lease)

    async def _on(
        self, connection: Connection, exchange: Exchange, request: Request, headers: Mapping[str, str] | None
    ) -> Reply:
        if not exchange.log_level:
            return await connection.deliver(request, exchange, headers)
        await in_task()
        async with self._announced.logs.heard(connection, exchange, self.connections.main):
            return await connection.deliver(request, exchange, headers)
