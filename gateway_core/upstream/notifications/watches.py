"""Resource subscriptions of agents at one upstream.

A **conversation** is the shared connection to the upstream, or one agent's own, with its successors. Each has one
keeper, a task that maintains the connection's subscriptions. Agents that watch the same resource share one
subscription, which ends with the last of them. On a new connection the keeper subscribes again, and notifies the agents
that their resources were updated, since an update may have been missed.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator, Mapping
from functools import partial
from typing import Final

from loguru import logger
from msgspec import Raw

from gateway_core.api import Principal
from gateway_core.errors import DeliveryError, NotSent, RpcError, overloaded
from gateway_core.exchange.exchange import Agent
from gateway_core.limits.shares import Holder, Shares, holder_of
from gateway_core.mcp import jsonrpc
from gateway_core.upstream.base import Connection
from gateway_core.upstream.notifications.pauses import Pauses, agreement

SUBSCRIBE_TIMEOUT: Final = 5.0
"""Seconds that an agent waits for the upstream to agree to a subscription."""
KEEP_TIMEOUT: Final = 30.0
"""Seconds for one update of the subscriptions of a connection."""
ASK_AGAIN: Final = 30.0
"""Seconds until the keeper asks again, if a server that had agreed does not answer on a new connection."""
MAX_WATCHED: Final = 4096
"""Maximum number of watched resources of one upstream; a resource counts once for each connection."""
SHARE: Final = MAX_WATCHED // 4
"""Subscriptions that a principal may have at one upstream."""
NETWORK_SHARE: Final = MAX_WATCHED * 3 // 4
"""Those that a network may have while more than half of `MAX_WATCHED` are in use."""
MAX_LEVELS: Final = 64
"""Maximum number of parent URIs of an updated resource that are searched for subscriptions."""

OnUpdate = Callable[[str], None]
"""Called with the URI that the upstream names: the watched URI, or one below it."""
Release = Callable[[], None]


class _Watch:
    """One watched resource in one conversation."""

    def __init__(self) -> None:
        self.listeners: dict[object, OnUpdate] = {}
        self.agreed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.connection: Connection | None = None
        """The connection on which the server agreed."""

    def tell(self, uri: str) -> None:
        for on_update in list(self.listeners.values()):
            on_update(uri)

    def agree(self, connection: Connection) -> None:
        """Record that the server agreed on `connection`."""
        self.connection = connection
        if not self.agreed.done():
            self.agreed.set_result(None)

    def refuse(self, error: Exception) -> None:
        if not self.agreed.done():
            self.agreed.set_exception(error)
            self.agreed.exception()  # the waiting call may have been cancelled; avoids a warning


class _Conversation:
    """The watched resources on one connection and its successors."""

    def __init__(
        self, upstream: str, connect: Callable[[], Awaitable[Connection]], on_end: Callable[[_Conversation], None]
    ) -> None:
        """`on_end` is called when no resource is watched any more."""
        self.wanted: dict[str, _Watch] = {}
        self.keeper: asyncio.Task[None] | None = None
        self.changed = asyncio.Event()
        self._upstream = upstream
        self._connect = connect
        self._on_end = on_end

    def start(self) -> None:
        """Make the keeper apply the wanted set; start the keeper if it does not run."""
        self.changed.set()
        if self.keeper is None or self.keeper.done():
            self.keeper = asyncio.get_running_loop().create_task(self._keep(), name=f"watch for {self._upstream}")

    async def _keep(self) -> None:
        pauses = Pauses()
        while self.wanted:
            pauses.begin()
            try:
                await self._keep_on(await self._connect())
            except (DeliveryError, TimeoutError) as problem:
                reason = str(problem) or "no answer to the subscription in time"
                for uri in [uri for uri, watch in self.wanted.items() if not watch.agreed.done()]:
                    self.wanted.pop(uri).refuse(NotSent(reason))
                self.changed.clear()
            if self.wanted:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(pauses.next()):
                        await self.changed.wait()
        self._on_end(self)

    async def _keep_on(self, connection: Connection) -> None:
        """Maintain the subscriptions until the connection closes or no resource is watched any more."""
        closed = asyncio.ensure_future(connection.wait_closed())
        agreed: frozenset[str] | None = None
        try:
            while not connection.closed:
                self.changed.clear()
                uris = frozenset(self.wanted)
                refused: Mapping[str, RpcError | NotSent] = {}
                if uris != agreed:
                    async with asyncio.timeout(KEEP_TIMEOUT):
                        refused = await connection.watch(uris)
                self._settle(connection, uris, refused)
                agreed = uris - refused.keys()
                if not self.wanted and not agreed:
                    return  # only now: resources released during `watch` still had subscriptions
                changed = asyncio.ensure_future(self.changed.wait())
                again = ASK_AGAIN if self.wanted.keys() - agreed else None
                try:
                    await asyncio.wait([changed, closed], timeout=again, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    changed.cancel()
        finally:
            closed.cancel()

    def _settle(self, connection: Connection, uris: frozenset[str], refused: Mapping[str, RpcError | NotSent]) -> None:
        for uri in uris & self.wanted.keys():
            watch = self.wanted[uri]
            missed = watch.connection is not None and watch.connection is not connection
            error = refused.get(uri)
            if missed and isinstance(error, NotSent):
                continue
            if error is not None:
                del self.wanted[uri]
                watch.refuse(error)
                if watch.connection is not None:
                    logger.bind(upstream=self._upstream).warning(
                        "the server does not announce changes of a resource any more: {}", error
                    )
                    watch.tell(uri)  # agents that read it again see its current state
                continue
            watch.agree(connection)
            if missed:
                watch.tell(uri)

    def stop(self) -> None:
        if self.keeper is not None:
            self.keeper.cancel()
        for watch in self.wanted.values():
            watch.refuse(NotSent("its session has ended"))
        self.wanted.clear()


class Watches:
    """All conversations of one upstream, by the id of the legacy session that owns it; "" for the shared one."""

    def __init__(self, upstream: str, connect: Callable[[Agent | None], Awaitable[Connection]]) -> None:
        """`connect` returns the agent's own connection, or, for None, the shared one; raises `DeliveryError`."""
        self._upstream = upstream
        self._connect = connect
        self._conversations: dict[str, _Conversation] = {}
        self._shares: Shares[object] = Shares()
        """The listeners of all watched resources, by their agents."""

    async def add(self, owner: Agent | None, uri: str, on_update: OnUpdate, principal: Principal) -> Release:
        """Call `on_update` when a resource is updated; `owner`: the agent whose own connection is used, if any.

        `principal`: whom the subscription counts for. Returns a function that ends the subscription. Raises `RpcError`
        if the upstream refuses or a limit is reached, `NotSent` if it cannot be reached in time.
        """
        holder = holder_of(principal)
        self._check_share(holder)
        key = owner.session_id or "" if owner is not None else ""
        conversation = self._conversations.get(key)
        if conversation is None or uri not in conversation.wanted:
            self._check_limit()
        if conversation is None:
            conversation = _Conversation(self._upstream, lambda: self._connect(owner), partial(self._forget, key))
            self._conversations[key] = conversation
        watch = conversation.wanted.setdefault(uri, _Watch())
        mark = object()
        watch.listeners[mark] = on_update
        self._shares.add(holder, mark)
        conversation.start()

        def release() -> None:
            watch.listeners.pop(mark, None)
            self._shares.remove(mark)
            if not watch.listeners and conversation.wanted.get(uri) is watch:
                del conversation.wanted[uri]
                conversation.changed.set()

        try:
            await agreement(watch.agreed, SUBSCRIBE_TIMEOUT)
        except BaseException:
            release()
            raise
        return release

    def updated(self, key: str | None, params: Raw) -> None:
        """Handle `notifications/resources/updated`; `key`: the conversation that it came on, if any.

        The URI may be below a watched resource (schema, ResourceUpdatedNotification). Updates of unwatched resources
        are dropped.
        """
        conversation = self._conversations.get(key) if key is not None else None
        if conversation is None:
            return
        try:
            uri = jsonrpc.text(jsonrpc.members(params).get("uri", Raw()), "uri")
        except RpcError:
            return
        for watched in _upwards(uri):
            watch = conversation.wanted.get(watched)
            if watch is not None:
                watch.tell(uri)

    @property
    def active(self) -> bool:
        """Whether an agent has subscribed to a resource."""
        return bool(self._conversations)

    def reconnected(self) -> None:
        """Make all keepers retry at once; called when the upstream was reached."""
        for conversation in self._conversations.values():
            conversation.changed.set()

    def end(self, session_id: str) -> None:
        """Stop the conversation of a legacy session that ended."""
        conversation = self._conversations.pop(session_id, None)
        if conversation is not None:
            conversation.stop()

    def close(self) -> None:
        """Stop all conversations; called when the upstream is closed."""
        for conversation in self._conversations.values():
            conversation.stop()
        self._conversations.clear()

    def _check_limit(self) -> None:
        if sum(len(conversation.wanted) for conversation in self._conversations.values()) >= MAX_WATCHED:
            raise overloaded(f"{MAX_WATCHED} resources of upstream {self._upstream} are watched, which is the limit")

    def _check_share(self, holder: Holder) -> None:
        """Raise `RpcError` if the principal has its share, or if its network has while more than half is in use."""
        network, name = holder
        held, own = self._shares.of_network(network), len(self._shares.of(holder))
        if own >= SHARE:
            raise overloaded(f"{name} has {own} subscriptions at upstream {self._upstream}, which is its share", None)
        if len(self._shares) * 2 > MAX_WATCHED and held >= NETWORK_SHARE:
            raise overloaded(f"{network} has {held} subscriptions at upstream {self._upstream}, its share", None)

    def _forget(self, key: str, conversation: _Conversation) -> None:
        if self._conversations.get(key) is conversation:
            del self._conversations[key]


def _upwards(uri: str) -> Iterator[str]:
    """A URI and its parents, the closest first."""
    yield uri
    end = len(uri)
    for _ in range(MAX_LEVELS):
        end = max(uri.rfind(mark, 0, end) for mark in "/?#")
        if end < 0:
            return
        if end + 1 < len(uri):
            yield uri[: end + 1]
        yield uri[:end]
