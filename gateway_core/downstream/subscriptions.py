"""`subscriptions/listen`: a modern agent's stream of changes (basic/patterns/subscriptions).

A **subscription** puts what it has to say into a mailbox: the acknowledgement first, then one message per changed list
or updated resource, each carrying the id of the listen request. The acknowledgement names all lists that were asked
for, and those resources whose upstreams have agreed to announce changes; it waits for them to be asked.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

import msgspec
from loguru import logger
from msgspec import Raw

from gateway_core import jsonrpc
from gateway_core.catalog import Catalog
from gateway_core.downstream.resources import MAX_WATCHED, Watched
from gateway_core.downstream.stream import Keep, Mailbox
from gateway_core.errors import INVALID_PARAMS, RpcError
from gateway_core.exchange import Agent
from gateway_core.jsonrpc import Message
from gateway_core.protocol import CHANGING, SUBSCRIPTION_ID_KEY, UPDATED, list_changed, listen_key

_FILTERS: Final = {listen_key(kind): kind for kind in CHANGING}
_RESOURCES: Final = "resourceSubscriptions"


def _wanted(params: dict[str, Raw]) -> tuple[frozenset[str], tuple[str, ...]]:
    """The list kinds and the resources that a listen request asks for. Raises `RpcError(INVALID_PARAMS)`."""
    try:
        wanted = msgspec.json.decode(bytes(params.get("notifications", Raw())), type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError):
        raise RpcError.of_gateway(INVALID_PARAMS, "the member 'notifications' must be an object") from None
    uris = wanted.get(_RESOURCES)
    if uris is None:
        uris = []
    if not isinstance(uris, list) or not all(isinstance(uri, str) for uri in uris):
        raise RpcError.of_gateway(INVALID_PARAMS, f"the member {_RESOURCES!r} must be an array of strings")
    if len(uris) > MAX_WATCHED:
        raise RpcError.of_gateway(INVALID_PARAMS, f"more than {MAX_WATCHED} {_RESOURCES} in one request")
    return frozenset(kind for name, kind in _FILTERS.items() if wanted.get(name) is True), tuple(dict.fromkeys(uris))


class Subscription:
    """One open listen request. `close` is due when its stream ends, whoever ended it."""

    def __init__(
        self,
        agent: Agent,
        message: Message,
        params: dict[str, Raw],
        mailbox: Mailbox,
        *,
        catalog: Catalog,
        everyone: set[Subscription],
        ended: Callable[[], None],
    ) -> None:
        """`everyone`: all that are open. `ended` is called after the gateway itself has ended it and said so.

        Raises `RpcError(INVALID_PARAMS)`.
        """
        self._kinds, uris = _wanted(params)
        self._id = message.id
        self._mailbox = mailbox
        self._everyone = everyone
        self._ended = ended
        self._meta = {SUBSCRIPTION_ID_KEY: message.id}
        self._early: list[bytes] | None = []
        """What is to be said after the acknowledgement; None from then on."""
        self._watched = Watched(catalog, agent, self._updated)
        self._forget = catalog.listen(self._changed)
        everyone.add(self)
        self._beginning: asyncio.Task[None] | None = None
        if uris:
            self._beginning = asyncio.get_running_loop().create_task(self._begin(uris))
        else:
            self._acknowledge([])

    async def _begin(self, uris: tuple[str, ...]) -> None:
        """Ask for all resources at once, and acknowledge those that are announced."""
        ends = await asyncio.gather(*(self._watched.add(uri) for uri in uris), return_exceptions=True)
        for end in ends:
            if isinstance(end, BaseException) and not isinstance(end, RpcError):
                logger.error("{} while subscribing to a resource", type(end).__name__)
        self._acknowledge([uri for uri, end in zip(uris, ends, strict=True) if end is None])

    def _acknowledge(self, uris: list[str]) -> None:
        accepted: dict[str, Any] = {name: True for name, kind in _FILTERS.items() if kind in self._kinds}
        if uris:
            accepted[_RESOURCES] = uris
        self._mailbox.put(
            jsonrpc.notification(
                "notifications/subscriptions/acknowledged", {"_meta": self._meta, "notifications": accepted}
            ),
            Keep.ALWAYS,
        )
        early, self._early = self._early or [], None
        for message in early:
            self._say(message)

    def _say(self, message: bytes) -> None:
        if self._early is None:
            self._mailbox.put(message, Keep.NOTICE, once=True)
        elif message not in self._early:
            self._early.append(message)

    def _changed(self, kinds: frozenset[str]) -> None:
        for kind in CHANGING:
            if kind in kinds & self._kinds:
                self._say(jsonrpc.notification(list_changed(kind), {"_meta": self._meta}))

    def _updated(self, uri: str) -> None:
        if self._early is None or len(self._early) < MAX_WATCHED:
            self._say(jsonrpc.notification(UPDATED, {"_meta": self._meta, "uri": uri}))

    def close(self) -> None:
        """Stop listening; says nothing."""
        self._forget()
        if self._beginning is not None:
            self._beginning.cancel()
        self._watched.close()
        self._everyone.discard(self)

    def end(self) -> None:
        """End it on the gateway's own initiative, with the final response (Graceful Closure)."""
        self.close()
        result = jsonrpc.encode({"resultType": "complete", "_meta": self._meta})
        self._mailbox.put(jsonrpc.result(self._id, result), Keep.ALWAYS)
        self._ended()
