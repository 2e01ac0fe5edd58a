"""`subscriptions/listen`: a modern agent's stream of changes (basic/patterns/subscriptions).

A **subscription** puts what it has to say into a mailbox: the acknowledgement first, then one message per changed
list, each carrying the id of the listen request. Changes of single resources are not offered, so the acknowledgement
leaves them out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec
from msgspec import Raw

from gateway_core import jsonrpc
from gateway_core.catalog import Catalog
from gateway_core.downstream.stream import Keep, Mailbox
from gateway_core.errors import INVALID_PARAMS, RpcError
from gateway_core.jsonrpc import Message
from gateway_core.protocol import CHANGING, SUBSCRIPTION_ID_KEY, list_changed, listen_key

_FILTERS: Final = {listen_key(kind): kind for kind in CHANGING}


def _wanted_kinds(params: dict[str, Raw]) -> frozenset[str]:
    """The list kinds that a listen request asks for. Raises `RpcError(INVALID_PARAMS)`."""
    try:
        wanted = msgspec.json.decode(bytes(params.get("notifications", Raw())), type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError):
        raise RpcError.of_gateway(INVALID_PARAMS, "the member 'notifications' must be an object") from None
    return frozenset(kind for name, kind in _FILTERS.items() if wanted.get(name) is True)


class Subscription:
    """One open listen request. `close` is due when its stream ends, whoever ended it."""

    def __init__(
        self,
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
        kinds = _wanted_kinds(params)
        self._id = message.id
        self._mailbox = mailbox
        self._everyone = everyone
        self._ended = ended
        self._meta = {SUBSCRIPTION_ID_KEY: message.id}
        self._changes = {kind: jsonrpc.notification(list_changed(kind), {"_meta": self._meta}) for kind in kinds}
        accepted = {name: True for name, kind in _FILTERS.items() if kind in kinds}
        mailbox.put(
            jsonrpc.notification(
                "notifications/subscriptions/acknowledged", {"_meta": self._meta, "notifications": accepted}
            ),
            Keep.ALWAYS,
        )
        self._forget = catalog.listen(self._changed)
        everyone.add(self)

    def _changed(self, kinds: frozenset[str]) -> None:
        for kind in self._changes.keys() & kinds:
            self._mailbox.put(self._changes[kind], Keep.NOTICE, once=True)

    def close(self) -> None:
        """Stop listening; says nothing."""
        self._forget()
        self._everyone.discard(self)

    def end(self) -> None:
        """End it on the gateway's own initiative, with the final response (Graceful Closure)."""
        self.close()
        result = jsonrpc.encode({"resultType": "complete", "_meta": self._meta})
        self._mailbox.put(jsonrpc.result(self._id, result), Keep.ALWAYS)
        self._ended()
