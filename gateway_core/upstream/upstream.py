"""One configured MCP server: delivers agents' requests to it, and keeps its lists and subscriptions."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Coroutine, Iterator, Mapping
from dataclasses import replace
from functools import partial
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
    Idle,
    NoIdentity,
    NotSent,
    RpcError,
)
from gateway_core.exchange.exchange import Agent, Exchange
from gateway_core.inline.driver import in_task
from gateway_core.limits.accounts import Account
from gateway_core.limits.budget import MemoryBudget
from gateway_core.mcp.names import LISTS, ROOTS_CHANGED, TOOLS_CALL
from gateway_core.supervised import run_all
from gateway_core.upstream.auth import Logins
from gateway_core.upstream.base import ANSWERED, Connection, ServerInfo
from gateway_core.upstream.connection_manager import ConnectionManager
from gateway_core.upstream.connections.limiter import ConcurrencyLimiter
from gateway_core.upstream.ejection import TIMED_OUT
from gateway_core.upstream.identities.identities import identities_of
from gateway_core.upstream.lists.fetched_lists import FetchedLists
from gateway_core.upstream.lists.kept_lists import NOTHING_KEPT, KeptLists
from gateway_core.upstream.lists.private_lists import PrivateLists
from gateway_core.upstream.lists.published_lists import PublishedLists
from gateway_core.upstream.liveness import Liveness
from gateway_core.upstream.notifications.announcements import Announcements
from gateway_core.upstream.notifications.follows import Follower, Status
from gateway_core.upstream.notifications.watches import OnUpdate, Release
from gateway_core.upstream.process.early import EarlyChildren
from gateway_core.upstream.requests import Reply, Request
from gateway_core.upstream.signals import Signals
from gateway_core.upstream.status import NO_EVENTS, SYSTEM_CLOCK, Clock, UpstreamEvents, UpstreamStatus
from gateway_core.upstream.transports.client import HttpClient
from gateway_core.upstream.user_logins.login_tool import lists_without_login


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
        kept: KeptLists = NOTHING_KEPT,
    ) -> None:
        """`order`: the position in the configuration. `early` may hold its first child process. `held`: the secrets to
        hide in what the server sends. `budget` counts its large messages and its lists. `logins`: the operator's logins
        at upstreams. `kept`: the last known lists."""
        account = Account(budget, f"upstream {config.name}")
        self.config = config
        self.name: Final = config.name
        self.timeout: Final = config.timeout
        """Seconds for one call; None: those of the gateway."""
        self.clock: Final = clock
        self._events = events
        self.status: Final = UpstreamStatus(config, order, clock, events)
        self.facts: Final = self.status.facts
        self.view: Final = self.status.view
        self.published = PublishedLists(config, events, clock, account, kept)
        self.info: ServerInfo | None = self.published.info
        """What the server said about itself at the last handshake, which an earlier process may have completed."""
        if self.info is not None:
            self.facts.negotiated(self.info.era)
        self.calls, self.errors = 0, 0
        self.private_lists: Final = PrivateLists(
            config,
            self.published,
            self.request,
            events,
            account,
            info_for=self._info_for,
            without_login=partial(lists_without_login, config.name),
            hide=lambda agent, text: text if self.identities is None else self.identities.hide(agent, text),
        )
        self.without_own = False
        """Whether the server refuses the gateway itself and serves only agents' identities."""
        self.limiter = ConcurrencyLimiter(config.max_in_flight or (32 if config.transport == "stdio" else 128))
        self._announced = Announcements(
            config.name, held or HeldSecrets(), self._connection_of, self._lists_changed, account
        )
        has_client = config.transport != "stdio" and not config.misconfigured
        http = HttpClient(config, proxy.limits, self._announced.held, account, logins) if has_client else None
        self.connections: Final = ConnectionManager(
            config, proxy.limits, self.status, self._announced, early, http=http
        )
        """The connections of the gateway itself, which all agents share unless the upstream has `identities`."""
        self.identities: Final = (
            None
            if http is None
            else identities_of(
                config,
                proxy.limits,
                self.status,
                own=http,
                logins=logins or Logins(held=held),
                held=self._announced.held,
                account=account,
                on_lists_changed=self.private_lists.outdated,
                on_info=self._learned,
            )
        )
        """Those of the agents' identities, if requests go out in their names."""
        # Not `or`: without any connection yet, `identities` is false.
        self._deliver: Final = (self.connections if self.identities is None else self.identities).deliver
        self.liveness: Final = Liveness(self._sharing, lambda: self.published.fatal.skipped)
        self.signals: Final = Signals(self.status, self.liveness, clock, random.Random())  # noqa: S311 - jitter

    @property
    def fetched(self) -> FetchedLists | None:
        """The lists fetched last. An upstream that is down keeps its place in the catalog."""
        return self.published.fetched

    @property
    def reachable(self) -> bool:
        """Whether the main connection is open, or the server serves the agents' identities without it."""
        return self.connections.reachable or self.without_own

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
        self.without_own = False
        if self.identities is not None:
            self.identities.restarted()
        self.published.changed()
        self.info = connection.info
        self.status.connected()
        self._announced.connected(connection)

    async def close(self) -> None:
        """Close all connections, subscriptions and fetches."""
        await run_all(
            f"closing upstream {self.name}",
            partial(self.status.enter, UpstreamState.STOPPED),
            *(self._announced.close, self.published.close, self.private_lists.close),
            *(() if self.identities is None else (self.identities.close,)),
            self.connections.close,
        )

    def end_session(self, session_id: str) -> None:
        """Close the connection of an agent's session that has ended."""
        self.connections.end_session(session_id)
        if self.identities is not None:
            self.identities.end_session(session_id)

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
        if self.identities is None:
            return await self.connections.watch(agent, uri, on_update)
        return await self.identities.watch(agent, uri, on_update)

    async def follow(self, agent: Agent, task_ids: frozenset[str], on_status: Status) -> Follower:
        """Subscribe an agent to the status of tasks, by this upstream's ids; see `Follows.add`."""
        if self.identities is None:
            return await self._announced.follows.add(agent, task_ids, on_status)
        return await self.identities.follow(agent, task_ids, on_status)

    def _sharing(self) -> Iterator[Connection]:
        """The connections whose calls can keep the server busy."""
        yield from self.connections.sharing()
        if self.identities is not None:
            yield from self.identities.sharing()

    async def _connection_of(self, owner: Agent | None) -> Connection:
        return await self.connections.of(owner)

    def roots_changed(self, session_id: str) -> None:
        """Notify the session's connection, if any, that a legacy agent's roots changed."""
        self.connections.sessions.notify(session_id, ROOTS_CHANGED)
        if self.identities is not None:
            self.identities.roots_changed(session_id)

    def set_log_level(self, session_id: str, level: str) -> None:
        """Set the least severe level of log messages that a legacy agent wants."""
        self._announced.logs.set_level(session_id, level, self.connections.main)
        if self.identities is not None:
            self.identities.set_log_level(session_id, level)

    # -- requests -----------------------------------------------------------------------------------------------

    async def request(self, exchange: Exchange, request: Request) -> Reply:
        """Deliver one request of an agent; see `Connection.deliver` for the outcomes."""
        facts, limiter, method = self.facts, self.limiter, request.method
        self.calls += method not in LISTS  # the gateway itself requests lists, in an agent's name
        facts.in_flight += 1
        try:
            if not limiter.acquire_now():
                turn = limiter.acquire(exchange.agent.principal)
                await (turn if exchange.hops is None else exchange.hops.wait(self.name, "place", turn))
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
            self.calls -= isinstance(problem, Idle) and method not in LISTS  # it is sent again once the server runs
            if not isinstance(problem, Busy | NoIdentity):
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
        if self.identities is not None:
            # What happens to one identity says nothing about the server. The gateway's own check does.
            if transport:
                self.signals.doubt()
            return
        self.status.failed(reason)
        if transport:
            self.signals.failed(reason, sent=sent)

    async def _corrected(self, exchange: Exchange, request: Request, refusal: Reply) -> Reply:
        """Refresh the lists and resend a refused call: it did not run, its headers were out of date (rule R8)."""
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
        # No tool with a call plan mirrors arguments.
        planned = request.templates is not None and not exchange.headers
        headers = None if planned else self._param_headers(exchange, request)
        if exchange.hops is not None:
            return exchange.hops.hop(self.view, request, partial(self._deliver, exchange, headers=headers))
        return self._deliver(exchange, request, headers)

    def _param_headers(self, exchange: Exchange, request: Request) -> dict[str, str] | None:
        """The `Mcp-Param-*` headers of a request."""
        if self.connections.http is None or request.method != TOOLS_CALL:
            return None
        return self.private_lists.param_headers(exchange, request)

    # -- identities ---------------------------------------------------------------------------------------------

    async def _info_for(self, agent: Agent) -> ServerInfo:
        """What the server says of itself to an agent. Raises `DeliveryError`."""
        if self.identities is not None:
            return await self.identities.info_for(agent)
        assert self.published.info is not None, "only lists that are known can be private"
        return self.published.info

    def serve_users_alone(self) -> None:
        """Serve the agents, although the server refuses the gateway itself: all lists are those of principals."""
        self.published.per_principal()
        self.without_own = True
        if self.status.state is not UpstreamState.HEALTHY:
            self.status.connected()

    def login_changed(self, principal: str) -> None:
        """Forget what was obtained in the name of a principal, by its id, that has logged in or out."""
        if self.identities is not None:
            self.identities.forget(principal)
        self.private_lists.forget(principal)

    def _learned(self, info: ServerInfo) -> None:
        """Take from an identity what the gateway must know of the server, if the server refuses the gateway itself."""
        if self.info is None:
            self.info = replace(info, instructions=None)
