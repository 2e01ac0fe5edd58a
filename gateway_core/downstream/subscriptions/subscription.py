"""`subscriptions/listen`: a modern agent's stream of changes (basic/patterns/subscriptions).

A **subscription** puts its messages into a mailbox: the acknowledgement first, then one message per changed list,
updated resource or task status, each with the id of the listen request. The acknowledgement waits until the upstreams
were asked. It names all requested lists, and the resources and tasks whose upstreams have agreed to announce changes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from functools import partial
from typing import Any, Final

import msgspec
from loguru import logger
from msgspec import Raw

from gateway_core.catalog.current import CurrentCatalog
from gateway_core.downstream.streams.stream import Keep, Mailbox
from gateway_core.downstream.subscriptions.asking import Ask
from gateway_core.downstream.subscriptions.resources import MAX_WATCHED, Watched
from gateway_core.downstream.subscriptions.tasks import MAX_FOLLOWED, Followed
from gateway_core.errors import INVALID_PARAMS, RpcError
from gateway_core.exchange.exchange import Agent
from gateway_core.log.sparing import Sparing
from gateway_core.mcp import jsonrpc
from gateway_core.mcp.jsonrpc import Message
from gateway_core.mcp.names import (
    CHANGING,
    SUBSCRIPTION_ID_KEY,
    TASK_IDS,
    TASK_STATUS,
    UPDATED,
    list_changed,
    listen_key,
)
from gateway_core.supervised import run_each
from gateway_core.upstream.notifications.subscription import ACKNOWLEDGED, RESOURCES
from gateway_core.upstream.upstream import Upstream

_FILTERS: Final = {listen_key(kind): kind for kind in CHANGING}


class _Filter(msgspec.Struct, frozen=True):
    """The changes that one listen request asks for."""

    kinds: frozenset[str]
    uris: tuple[str, ...]
    task_ids: tuple[str, ...]


def _wanted(params: dict[str, Raw]) -> _Filter:
    """Decode the filter of a listen request. Raises `RpcError(INVALID_PARAMS)`."""
    try:
        wanted = msgspec.json.decode(bytes(params.get("notifications", Raw())), type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError):
        raise RpcError.of_gateway(INVALID_PARAMS, "the member 'notifications' must be an object") from None
    kinds = frozenset(kind for name, kind in _FILTERS.items() if wanted.get(name) is True)
    return _Filter(kinds, _named(wanted, RESOURCES, MAX_WATCHED), _named(wanted, TASK_IDS, MAX_FOLLOWED))


def _named(wanted: dict[str, Any], member: str, limit: int) -> tuple[str, ...]:
    """The strings in a member of the filter, without duplicates. Raises `RpcError(INVALID_PARAMS)`."""
    names = wanted.get(member)
    if names is None:
        return ()
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise RpcError.of_gateway(INVALID_PARAMS, f"the member {member!r} must be an array of strings")
    if len(names) > limit:
        raise RpcError.of_gateway(INVALID_PARAMS, f"more than {limit} {member} in one request")
    return tuple(dict.fromkeys(names))


class Subscription:
    """One open listen request. The owner must call `close` when its stream ends."""

    def __init__(
        self,
        agent: Agent,
        message: Message,
        params: dict[str, Raw],
        mailbox: Mailbox,
        *,
        catalog: CurrentCatalog,
        call: Ask,
        everyone: set[Subscription],
        ended: Callable[[], None],
    ) -> None:
        """`call`: see `Calls.call`. `everyone`: all open subscriptions. `ended` is called after `end` has queued
        the final response.

        Raises `RpcError(INVALID_PARAMS)`.
        """
        wanted = _wanted(params)
        self._kinds = wanted.kinds
        self._principal = agent.principal.id
        self._id = message.id
        self._mailbox = mailbox
        self._everyone = everyone
        self._ended = ended
        self._meta = {SUBSCRIPTION_ID_KEY: message.id}
        self._early: list[bytes] | None = []
        """Messages that wait for the acknowledgement; None once it is queued."""
        self._watched = Watched(catalog, agent, call, self._updated)
        self._followed = Followed(catalog, agent, call, self._told)
        self._visible = partial(catalog.changed_in, agent.principal.profile)
        self._forget = catalog.listen(self._changed)
        everyone.add(self)
        self._beginning: asyncio.Task[None] | None = None
        if wanted.uris or wanted.task_ids:
            self._beginning = asyncio.get_running_loop().create_task(self._begin(wanted))
        else:
            self._acknowledge([], [])

    async def _begin(self, wanted: _Filter) -> None:
        """Subscribe to all resources and tasks concurrently, then acknowledge the accepted ones."""
        uris, task_ids = await asyncio.gather(self._watch(wanted.uris), self._followed.add(wanted.task_ids))
        self._acknowledge(uris, task_ids)

    async def _watch(self, uris: tuple[str, ...]) -> list[str]:
        ends = await asyncio.gather(*(self._watched.add(uri) for uri in uris), return_exceptions=True)
        for end in ends:
            if isinstance(end, BaseException) and not isinstance(end, RpcError):
                logger.error("{} while subscribing to a resource", type(end).__name__)
        return [uri for uri, end in zip(uris, ends, strict=True) if end is None]

    def _acknowledge(self, uris: list[str], task_ids: list[str]) -> None:
        accepted: dict[str, Any] = {name: True for name, kind in _FILTERS.items() if kind in self._kinds}
        if uris:
            accepted[RESOURCES] = uris
        if task_ids:
            accepted[TASK_IDS] = task_ids
        self._mailbox.put(
            jsonrpc.notification(ACKNOWLEDGED, {"_meta": self._meta, "notifications": accepted}), Keep.ALWAYS
        )
        early, self._early = self._early or [], None
        for message in early:
            self._say(message)
        self._followed.begin()

    def _say(self, message: bytes) -> None:
        if self._early is None:
            self._mailbox.put(message, Keep.NOTICE, once=True)
        elif message not in self._early:
            self._early.append(message)

    def _changed(self, kinds: frozenset[str], principal: str = "") -> None:
        if principal not in ("", self._principal):
            return
        visible = kinds if principal else self._visible(kinds)
        for kind in CHANGING:
            if kind in visible & self._kinds:
                self._say(jsonrpc.notification(list_changed(kind), {"_meta": self._meta}))

    def _updated(self, uri: str) -> None:
        if self._early is None or len(self._early) < MAX_WATCHED:
            self._say(jsonrpc.notification(UPDATED, {"_meta": self._meta, "uri": uri}))

    def _told(self, task: dict[str, Raw]) -> None:
        meta = {**jsonrpc.members(task.get("_meta", Raw(b"{}"))), **self._meta}
        params = {key: value for key, value in task.items() if key != "resultType"}
        self._say(jsonrpc.notification(TASK_STATUS, {**params, "_meta": meta}))

    def reconsider(self, gone: Collection[Upstream]) -> None:
        """See `Watched.reconsider` and `Followed.reconsider`."""
        self._watched.reconsider(gone)
        self._followed.reconsider(gone)

    def close(self) -> None:
        """Stop listening, without a final response."""
        self._forget()
        if self._beginning is not None:
            self._beginning.cancel()
        self._watched.close()
        self._followed.close()
        self._everyone.discard(self)

    def end(self) -> None:
        """End it from the gateway's side, with the final response (Graceful Closure)."""
        self.close()
        result = jsonrpc.encode({"resultType": "complete", "_meta": self._meta})
        self._mailbox.put(jsonrpc.result(self._id, result), Keep.ALWAYS)
        self._ended()


class Subscriptions:
    """All open subscriptions of modern agents."""

    def __init__(self, catalog: CurrentCatalog, call: Ask, check_open: Callable[[], None]) -> None:
        """`call`: see `Calls.call`. `check_open` raises `RpcError` while no subscription may begin."""
        self._catalog = catalog
        self._call = call
        self._check_open = check_open
        self._open: set[Subscription] = set()
        self._spoken = Sparing()

    def open(self, agent: Agent, message: Message, mailbox: Mailbox, ended: Callable[[], None]) -> Subscription:
        """Begin a subscription; see `Subscription`.

        Raises `RpcError`: `INVALID_PARAMS`, or `OVERLOADED` if the gateway is stopping.
        """
        self._check_open()
        return Subscription(
            agent,
            message,
            message.members,
            mailbox,
            catalog=self._catalog,
            call=self._call,
            everyone=self._open,
            ended=ended,
        )

    def reconsider(self, gone: Collection[Upstream]) -> None:
        """After a change of the configuration: see `Sessions.reconsider`."""
        during = "applying another configuration to a subscription"
        run_each(during, self._spoken, list(self._open), lambda subscription: subscription.reconsider(gone))

    def end_all(self) -> None:
        """End all subscriptions, each with its final response."""
        run_each("ending a subscription", self._spoken, list(self._open), lambda subscription: subscription.end())

    def __len__(self) -> int:
        return len(self._open)
