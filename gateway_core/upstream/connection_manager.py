"""The connections of one upstream: the main one, and those of agent sessions and of calls.

A shared *main* connection serves discovery, health checks, modern agents and, by default, all others. A legacy server
that opens sessions gets one more connection per agent session; `isolation` adds connections per agent or per call.
A caller that asks for a connection gets an open one, or `NotSent`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine, Iterator, Mapping
from typing import Any, Final

from gateway_core.api import Era, UpstreamState
from gateway_core.config import LimitsConfig, UpstreamConfig
from gateway_core.errors import Busy, Idle, NotSent
from gateway_core.exchange.exchange import Agent, Exchange
from gateway_core.inline.driver import in_task
from gateway_core.supervised import run_all
from gateway_core.upstream.auth import LoginTokens
from gateway_core.upstream.base import Connection, SessionGone
from gateway_core.upstream.capabilities import EVERYTHING
from gateway_core.upstream.connections.demand import Demand
from gateway_core.upstream.connections.isolation import each_call, has_own
from gateway_core.upstream.connections.sessions import SessionConnections
from gateway_core.upstream.notifications.announcements import Announcements
from gateway_core.upstream.notifications.watches import OnUpdate, Release
from gateway_core.upstream.process.early import EarlyChildren
from gateway_core.upstream.requests import Reply, Request
from gateway_core.upstream.status import UpstreamStatus
from gateway_core.upstream.transports.client import HttpClient
from gateway_core.upstream.transports.opening import connection_to, open_session

RECONNECT_WAIT: Final = 2.0
"""Seconds that a call waits for a lost connection to be reopened."""
CLOSING: Final = 10.0
"""Seconds for the end of an earlier process of the server, which a new one waits for."""


class ConnectionManager:
    """Opens, replaces and closes the connections of one upstream."""

    def __init__(
        self,
        config: UpstreamConfig,
        limits: LimitsConfig,
        status: UpstreamStatus,
        announced: Announcements,
        early: EarlyChildren | None = None,
        *,
        http: HttpClient | None,
    ) -> None:
        """`announced` receives the notifications from all connections. `early` may hold the first child process.

        `http` sends the requests; None for stdio. It is closed with the connections.
        """
        self._config = config
        self._limits = limits
        self._status = status
        self.announced: Final = announced
        self._early = early
        self.http: Final = http
        self.isolates: Final = config.isolation in {"agent", "call"}
        """Whether legacy agents or calls do not share the main connection."""
        self.main: Connection | None = None
        """The main connection, if there is one. It may be closed."""
        self.sessions: Final = SessionConnections(self._open_session, status.clock, backoff=self.http is None)
        self.demand: Final = Demand(status.clock)
        """What waits for a server that does not run, or needs one that does."""
        self.died = False
        """Whether the process of the last closed connection had exited on its own."""
        self._deaths = 0
        """Number of consecutive handshakes in which the server's process exited."""
        self._opened = asyncio.Event()
        self._era: Era | None = None
        """The era of the last handshake of this process. A server may have been updated since an earlier process."""

    @property
    def reachable(self) -> bool:
        """Whether the main connection is open."""
        return self.main is not None and not self.main.closed

    @property
    def login(self) -> LoginTokens | None:
        """The tokens of the operator's login, if the upstream needs one."""
        return None if self.http is None else self.http.login

    @property
    def stale_files(self) -> str:
        """Why changed TLS files do not count yet, for operators; usually empty."""
        return "" if self.http is None else self.http.access.trust.problem

    async def look_at_files(self) -> None:
        """Read changed TLS files again; new connections use them."""
        if self.http is not None:
            await self.http.access.trust.look()

    def sharing(self) -> Iterator[Connection]:
        """The connections whose calls can keep the server of the main connection busy."""
        if self.main is not None:
            yield self.main
        if self.http is not None:
            yield from self.sessions.connections()

    # -- the main connection --------------------------------------------------------------------------------------

    async def open(self) -> Connection:
        """Open a new main connection and complete the handshake. It serves calls only after `adopt`.

        Raises `DeliveryError` or `RpcError` with the reason, and closes what was opened.
        """
        config = self._config
        context = self.announced.shared(EVERYTHING)
        connection = connection_to(config, self._limits, context, self.http, self._early, deaths=self._deaths)
        try:
            async with asyncio.timeout(config.start_timeout):
                await connection.open(self._era)
        except BaseException as problem:
            self.give_up(connection)
            self._deaths = self._deaths + 1 if self.died else 0
            if isinstance(problem, TimeoutError):
                raise NotSent(f"no answer to the handshake within {config.start_timeout:g} s") from None
            raise
        self._deaths = 0
        assert connection.info is not None
        self._era = connection.info.era
        self._status.facts.negotiated(self._era)
        return connection

    def adopt(self, connection: Connection) -> None:
        """Make this the main connection, in place of the previous one."""
        previous, self.main = self.main, connection
        self._opened.set()
        if previous is not None:
            self.give_up(previous)
        if self.http is not None:
            # A server that is reachable again was usually restarted, and has lost its old sessions.
            self.sessions.retire_all()

    async def usable_main(self) -> Connection:
        """The main connection, or its replacement within `RECONNECT_WAIT` if it was just lost. Raises `Busy`.

        Starts a server that is idle.
        """
        main = self.main
        if main is not None and not main.closed:
            return main
        await in_task()  # meanwhile, the server may have come up
        lost = self.main is None or self.main.closed
        if lost and self._status.state is UpstreamState.HEALTHY:
            self._opened.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(RECONNECT_WAIT):
                    await self._opened.wait()
        if self._status.facts.state is UpstreamState.IDLE:
            await self.demand.attempt()
        if self.main is None or self.main.closed:
            raise Busy("not connected", retry_after=self._status.retry_in())
        return self.main

    @property
    def start_limit(self) -> float:
        """Seconds that the start of an idle server takes at most; 0 if it is not idle."""
        is_idle = self._status.facts.state is UpstreamState.IDLE
        return 2 * self._config.start_timeout + CLOSING if is_idle else 0.0

    async def start_for(self, exchange: Exchange) -> NotSent | None:
        """Start an idle server for a call. Returns why it does not run; None if the call may be sent now.

        The time counts against neither the deadline nor the hard limit of the call: `start_timeout` bounds it.
        """
        if self.start_limit:
            await in_task()
        if not self.start_limit:  # also if the server has come up meanwhile, when nothing would end an attempt
            return self._not_running()
        deadline, started = exchange.deadline, self._status.clock.now()
        if deadline is not None:
            deadline.suspend(self.start_limit)
        try:
            attempt, hops = self.demand.attempt(), exchange.hops
            await (attempt if hops is None else hops.wait(self._config.name, "start", attempt))
        finally:
            if deadline is not None:
                deadline.resume(self._status.clock.now() - started)
        return self._not_running()

    def _require_running(self) -> None:
        """Raise `Idle` if the server does not run: it may speak another era when it does, so the call begins again."""
        if self._status.facts.state is UpstreamState.IDLE:
            raise Idle("the server does not run")

    def _not_running(self) -> NotSent | None:
        status = self._status
        if status.facts.state in {UpstreamState.HEALTHY, UpstreamState.IDLE}:
            return None
        return NotSent(f"{status.facts.state} ({status.last_error or 'not started'})", retry_after=status.retry_in())

    def rest(self) -> None:
        """Close all connections in the background: the server is not used. The next call starts it again."""
        self.abandon()
        self._status.rest()
        self._opened.set()  # waiters must not wait for the next call

    @property
    def wanted(self) -> bool:
        """Whether the server must go on, although it has no call: for subscriptions, tasks, or sessions of agents."""
        return self.announced.active or self.sessions.kept or self.demand.exists

    def give_up(self, connection: Connection) -> None:
        """Close a connection in the background, and keep how its server ended."""
        self.died = connection.died
        self._status.ended(connection.last_words, connection.last_lines)
        self.sessions.discard(connection)

    @property
    def last_lines(self) -> list[str]:
        """The last lines that the server's process wrote to stderr; those of the process before it come first."""
        current = () if self.main is None or self.main.closed else self.main.last_lines
        return [*self._status.last_lines, *current]

    # -- requests -------------------------------------------------------------------------------------------------

    def deliver(
        self, exchange: Exchange, request: Request, headers: Mapping[str, str] | None
    ) -> Coroutine[Any, Any, Reply]:
        """Send a request on the connection for its exchange; see `Connection.deliver`."""
        main = self.main
        if main is None or main.closed or exchange.log_level or self.isolates or main.stateful:
            return self._isolated(exchange, request, headers)
        return main.deliver(request, exchange, headers)

    async def _isolated(self, exchange: Exchange, request: Request, headers: Mapping[str, str] | None) -> Reply:
        """Send a request on an isolated or reopened connection, after setting the agent's log level."""
        agent, era = exchange.agent, self._status.facts.era
        if era == "legacy" and each_call(self._config, era, agent):
            if self.main is None:
                self._require_running()
            async with self.sessions.borrow(exchange) as connection:
                return await self._on(connection, exchange, request, headers)
        is_last = False
        while True:
            main, lease = self.main, None
            if main is None or main.closed:
                self._require_running()
                main = await self.usable_main()
            try:
                if not has_own(self._config, self._status.facts.era, agent, main):
                    return await self._on(main, exchange, request, headers)
                lease = await self.sessions.lease_of(agent)
                return await self._on(lease.connection, exchange, request, headers)
            except SessionGone:
                if is_last:
                    raise
                is_last = True  # the next attempt opens a new session
            finally:
                if lease is not None:
                    self.sessions.left(lease)

    async def _on(
        self, connection: Connection, exchange: Exchange, request: Request, headers: Mapping[str, str] | None
    ) -> Reply:
        if not exchange.log_level:
            return await connection.deliver(request, exchange, headers)
        await in_task()
        async with self.announced.logs.heard(connection, exchange, self.main):
            return await connection.deliver(request, exchange, headers)

    async def watch(self, agent: Agent, uri: str, on_update: OnUpdate) -> Release:
        """Call `on_update` when a resource is updated; see `Watches.add`."""
        own = has_own(self._config, self._status.facts.era, agent, await self.usable_main())
        return await self.announced.watches.add(agent if own else None, uri, on_update, agent.principal)

    def end_session(self, session_id: str) -> None:
        """Close the connection of an agent's session that has ended."""
        self.announced.session_ended(session_id, self.main)
        self.sessions.retire(session_id)

    # -- the other connections ------------------------------------------------------------------------------------

    async def of(self, owner: Agent | None) -> Connection:
        """The connection of an agent's session; None: the main one."""
        main = await self.usable_main()
        if owner is None:
            return main
        async with self.sessions.of_session(owner) as connection:
            return connection

    async def _open_session(self, declared: Mapping[str, Any], agent: Agent | None) -> Connection:
        """Open one more connection, for `agent` alone if given. Raises `NotSent` for every failure."""
        context = self.announced.own(declared, agent)
        connection = connection_to(self._config, self._limits, context, self.http, None)
        await open_session(connection, self._config, self._status.facts.era, self.sessions.discard)
        if agent is not None and agent.session_id is not None:
            self.announced.logs.opened(agent.session_id, connection)
        return connection

    # -- the end --------------------------------------------------------------------------------------------------

    def abandon(self) -> None:
        """Close the main connection at once, and each agent's connection when its last call ends."""
        main, self.main = self.main, None
        if main is not None:
            self.give_up(main)
        self.sessions.retire_all()

    async def disconnect(self) -> None:
        """`abandon`, and wait until all connections being closed are closed; bounded in time."""
        self.abandon()
        await self.sessions.closed()

    async def close(self) -> None:
        """`disconnect`, and close the HTTP client."""
        await run_all(
            f"closing the connections of upstream {self._config.name}",
            self.demand.close,
            self.disconnect,
            lambda: None if self.http is None else self.http.close(),
        )
