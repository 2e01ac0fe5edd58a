"""The identities at one upstream, and their connections: made on first use, bounded, closed when they are not used.

Nothing is shared between two identities: connections, sessions, cookies, subscriptions, log levels, questions of the
server. What happens to one of them says nothing about the upstream, which the gateway checks as itself.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final

from gateway_core.background import Background
from gateway_core.concealing import HeldSecrets
from gateway_core.config import LimitsConfig, UpstreamConfig
from gateway_core.errors import Busy, DeliveryError, NoIdentity
from gateway_core.exchange.exchange import Agent, Exchange
from gateway_core.limits.accounts import Account
from gateway_core.limits.shares import Shares, holder_of
from gateway_core.mcp.names import ROOTS_CHANGED
from gateway_core.upstream.auth import ExchangedTokens, Logins, PrincipalTokens
from gateway_core.upstream.base import Connection, ServerInfo
from gateway_core.upstream.concealing import Concealer
from gateway_core.upstream.identities.connections import IdentityConnections
from gateway_core.upstream.identities.identity import Identity, IdentityRule
from gateway_core.upstream.identities.user_tokens import UserTokens
from gateway_core.upstream.notifications.announcements import Announcements
from gateway_core.upstream.notifications.follows import Follower, Status
from gateway_core.upstream.notifications.watches import OnUpdate, Release
from gateway_core.upstream.requests import Reply, Request
from gateway_core.upstream.status import UpstreamStatus
from gateway_core.upstream.transports.client import HttpClient, OnBehalf
from gateway_core.upstream.user_logins.login_tool import reply_to_login

MAX_IDENTITIES: Final = 256
"""Identities with connections to one upstream. Beyond this, one without requests is closed."""
SHARE: Final = MAX_IDENTITIES // 4
"""Identities that a verified principal, or a network of unverified ones, may have."""
IDLE: Final = 300.0
"""Seconds without requests and subscriptions after which the connections of an identity are closed."""
SWEEP: Final = 15.0
"""Seconds between two looks for such identities."""


class Identities:
    """The identities at one upstream that have connections."""

    def __init__(
        self,
        config: UpstreamConfig,
        limits: LimitsConfig,
        status: UpstreamStatus,
        *,
        tokens: PrincipalTokens | None,
        own: HttpClient,
        held: HeldSecrets,
        account: Account,
        on_lists_changed: Callable[[str], None],
        on_info: Callable[[ServerInfo], None],
    ) -> None:
        """`tokens`: the access tokens of principals; without them, those of `own`, the gateway's client, are sent.

        `on_lists_changed`: called with the id of a principal to whom the server announced changed lists.
        """
        self._config = config
        self._limits = limits
        self._status = status
        self.tokens: Final = tokens
        self._own = own
        self._held = held
        self._account = account
        self._on_lists_changed = on_lists_changed
        self._on_info = on_info
        self._rule = IdentityRule(config, tokens)
        self._connections: dict[str, IdentityConnections] = {}
        """By the key of the identity, in the order of use, the least recent first."""
        self._shares: Shares[str] = Shares()
        self._closing = Background(f"closing an identity of {config.name}")
        self._sweeping: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        return len(self._connections)

    def __iter__(self) -> Iterator[IdentityConnections]:
        return iter(tuple(self._connections.values()))

    async def deliver(self, exchange: Exchange, request: Request, headers: Mapping[str, str] | None) -> Reply:
        """Send a request in the name of its agent's identity; see `Connection.deliver`. Raises as `of`, too."""
        agent = exchange.agent
        with self.of(agent) as connections:
            if self._config.of_users and (reply := reply_to_login(self._config.name, request)) is not None:
                return reply
            session_id, level, logs = agent.session_id, exchange.log_level, connections.announced.logs
            if session_id is not None and level and logs.level_of(session_id) != level:
                logs.set_level(session_id, level, connections.main)
            return await connections.deliver(exchange, request, headers)

    async def watch(self, agent: Agent, uri: str, on_update: OnUpdate) -> Release:
        """Call `on_update` when a resource is updated; see `Watches.add`."""
        with self.of(agent) as connections:
            return await connections.watch(agent, uri, on_update)

    async def follow(self, agent: Agent, task_ids: frozenset[str], on_status: Status) -> Follower:
        """Subscribe an agent to the status of tasks; see `Follows.add`."""
        with self.of(agent) as connections:
            return await connections.announced.follows.add(agent, task_ids, on_status)

    async def info_for(self, agent: Agent) -> ServerInfo:
        """What the server says of itself to the agent's identity. Raises `DeliveryError`."""
        with self.of(agent) as connections:
            info = (await connections.usable_main()).info
            assert info is not None, "set when a connection is open"
            return info

    @contextlib.contextmanager
    def of(self, agent: Agent) -> Iterator[IdentityConnections]:
        """The connections of the agent's identity, which stay open as long as the context.

        Raises `NoIdentity` if the agent cannot have one, `Busy` if there is no place for one more. Delivery errors that
        leave the context do not show secrets of the identity, which servers quote.
        """
        identity = self._rule.identity(agent)
        found = self._connections.pop(identity.key, None)
        if found is None:
            self._take_place(agent, identity.key)
            found = self._made(identity, agent)
        elif self.tokens is not None and found.http is not None and found.http.tokens is not None:
            self.tokens.used(found.http.tokens, agent)
        self._connections[identity.key] = found  # again at the end: the order of use
        found.begin(agent, self._status.clock.now())
        try:
            yield found
        except DeliveryError as problem:
            problem.conceal(found.hide)
            raise
        finally:
            found.end(self._status.clock.now())
            if found.retired and not found.users:
                self._close(found)

    def hide(self, agent: Agent, text: str) -> str:
        """`text` of the server without the secrets of the agent's identity."""
        try:
            identity = self._rule.identity(agent)
        except NoIdentity:
            return text  # nothing was sent in its name
        found = self._connections.get(identity.key)
        return Concealer(identity.secrets).hide(text) if found is None else found.hide(text)

    def sharing(self) -> Iterator[Connection]:
        """The connections whose calls can keep the server busy."""
        for connections in self:
            yield from connections.sharing()

    # -- sessions of agents ---------------------------------------------------------------------------------------

    def end_session(self, session_id: str) -> None:
        """Close the connections of an agent's session that has ended."""
        for connections in self:
            connections.end_session(session_id)

    def set_log_level(self, session_id: str, level: str) -> None:
        """Set the least severe level of log messages that a legacy agent wants."""
        for connections in self:
            if connections.sessions.has(session_id):
                connections.announced.logs.set_level(session_id, level, connections.main)

    def roots_changed(self, session_id: str) -> None:
        """Notify the connections of a session, if it has any, that a legacy agent's roots changed."""
        for connections in self:
            connections.sessions.notify(session_id, ROOTS_CHANGED)

    def restarted(self) -> None:
        """Use new connections from now on: the server was reached again, and may have lost its sessions."""
        for connections in self:
            connections.restarted()

    # -- the end --------------------------------------------------------------------------------------------------

    def forget(self, principal: str) -> None:
        """Close the connections of a principal, by its id, that has logged out. Calls in flight end first."""
        for connections in self:
            if connections.identity.principal == principal:
                self._retire(connections)

    async def close(self) -> None:
        """Close all connections, and wait for them."""
        if self._sweeping is not None:
            self._sweeping.cancel()
            await asyncio.wait([self._sweeping])
        for connections in self:
            self._remove(connections)
            connections.retire()
            self._close(connections)
        await self._closing.wait()

    def _made(self, identity: Identity, agent: Agent) -> IdentityConnections:
        config = self._config
        access = self._own.access  # holds nothing of an identity
        tokens = self._own.tokens if self.tokens is None else self.tokens.source(agent, access)
        behalf = OnBehalf(identity.headers, access, tokens, owns_tokens=self.tokens is not None)
        http = HttpClient(config, self._limits, self._held, self._account, behalf=behalf)

        async def connect(owner: Agent | None) -> Connection:
            return await made.of(owner)

        announced = Announcements(
            config.name,
            self._held,
            connect,
            lambda: self._on_lists_changed(identity.principal),
            self._account,
            also=None if tokens is None else tokens.clean,
        )
        made = IdentityConnections(
            identity, config, self._limits, self._status, announced, http=http, on_info=self._on_info
        )
        if self._sweeping is None or self._sweeping.done():
            self._sweeping = asyncio.create_task(self._sweep(), name=f"close unused identities of {config.name}")
        return made

    def _take_place(self, agent: Agent, key: str) -> None:
        """Count one more identity. At a limit, one without requests is closed. Raises `Busy` if all have some.

        At its share, the principal or its network loses one; at the limit of all, the one with most of them does.
        """
        holder = network, _ = holder_of(agent.principal)
        own = self._shares.of_network(network)
        if own >= SHARE:
            self._make_room(it for it in self if self._network_of(it) == network)
        elif len(self._shares) >= MAX_IDENTITIES:
            self._make_room(self)
        self._shares.add(holder, key)

    def _network_of(self, connections: IdentityConnections) -> str:
        return self._shares.holder(connections.identity.key)[0]

    def _make_room(self, candidates: Iterable[IdentityConnections]) -> None:
        """Close one that is not in use: of the principal with most of them, the one that was not used for longest."""
        idle = [it for it in candidates if not it.busy]
        if not idle:
            raise Busy("all connections that this client may have are in use", retry_after=1.0)
        self._retire(max(idle, key=lambda it: self._shares.of_network(self._network_of(it))))

    async def _sweep(self) -> None:
        while self._connections:
            await self._status.clock.sleep(SWEEP)
            now = self._status.clock.now()
            for connections in self:
                if not connections.busy and now - connections.used >= IDLE:
                    self._retire(connections)

    def _retire(self, connections: IdentityConnections) -> None:
        self._remove(connections)
        connections.retire()
        if not connections.users:
            self._close(connections)

    def _remove(self, connections: IdentityConnections) -> None:
        self._connections.pop(connections.identity.key, None)
        self._shares.remove(connections.identity.key)

    def _close(self, connections: IdentityConnections) -> None:
        if connections.closes:
            return
        self._closing.run(connections.close)


def identities_of(
    config: UpstreamConfig,
    limits: LimitsConfig,
    status: UpstreamStatus,
    *,
    own: HttpClient,
    logins: Logins,
    held: HeldSecrets,
    account: Account,
    on_lists_changed: Callable[[str], None],
    on_info: Callable[[ServerInfo], None],
) -> Identities | None:
    """The identities at an upstream; None if all requests go out in the name of the gateway. See `Identities`."""
    tokens: PrincipalTokens | None = None
    if config.of_users:
        tokens = UserTokens(config, logins)
    elif config.auth is not None and config.auth.grant == "token_exchange":
        tokens = ExchangedTokens(config)
    if not config.has_identities:
        return None
    return Identities(
        config,
        limits,
        status,
        tokens=tokens,
        own=own,
        held=held,
        account=account,
        on_lists_changed=on_lists_changed,
        on_info=on_info,
    )
