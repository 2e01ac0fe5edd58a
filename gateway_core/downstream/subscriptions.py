"""`subscriptions/listen`: a modern agent's stream of changes (basic/patterns/subscriptions).

A subscription puts what it has to say into a mailbox: the acknowledgement first, then one message per changed list,
each carrying the id of the listen request. Changes of single resources are not offered, so the acknowledgement
leaves them out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec
from mcp.shared.subscriptions import SUBSCRIPTION_ID_META_KEY
from msgspec import Raw

from gateway_core import jsonrpc
from gateway_core.downstream.services import Services
from gateway_core.downstream.stream import Keep, Mailbox
from gateway_core.errors import INVALID_PARAMS, RpcError
from gateway_core.jsonrpc import Message

_FILTERS: Final = {
    "toolsListChanged": "tools",
    "resourcesListChanged": "resources",
    "promptsListChanged": "prompts",
}


def wanted_kinds(params: dict[str, Raw]) -> frozenset[str]:
    """The list kinds that a listen request asks for. Raises `RpcError(INVALID_PARAMS)`."""
    try:
        wanted = msgspec.json.decode(bytes(params.get("notifications", Raw())), type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError):
        raise RpcError.of_gateway(INVALID_PARAMS, "the member 'notifications' must be an object") from None
    return frozenset(kind for name, kind in _FILTERS.items() if wanted.get(name) is True)


class Subscription:
    """One open listen request. `close` is due when its stream ends, whoever ended it."""

    def __init__(
        self, services: Services, message: Message, kinds: frozenset[str], mailbox: Mailbox, ended: Callable[[], None]
    ) -> None:
        """`ended` is called after the gateway itself has ended the subscription and said so."""
        self._services = services
        self._message = message
        self._mailbox = mailbox
        self._ended = ended
        self._meta = {SUBSCRIPTION_ID_META_KEY: message.id}
        self._changes = {
            kind: jsonrpc.notification(f"notifications/{kind}/list_changed", {"_meta": self._meta}) for kind in kinds
        }
        accepted = {name: True for name, kind in _FILTERS.items() if kind in kinds}
        mailbox.put(
            jsonrpc.notification(
                "notifications/subscriptions/acknowledged", {"_meta": self._meta, "notifications": accepted}
            ),
            Keep.ALWAYS,
        )
        self._forget = services.catalog.listen(self._changed)
        services.subscriptions.add(self)

    def _changed(self, kinds: frozenset[str]) -> None:
        for kind in self._changes.keys() & kinds:
            self._mailbox.put(self._changes[kind], Keep.NOTICE, once=True)

    def close(self) -> None:
        """Stop listening; says nothing."""
        self._forget()
        self._services.subscriptions.discard(self)

    def end(self) -> None:
        """End it on the gateway's own initiative, with the final response (Graceful Closure)."""
        self.close()
        result = jsonrpc.encode({"resultType": "complete", "_meta": self._meta})
        self._mailbox.put(jsonrpc.result(self._message.id, result), Keep.ALWAYS)
        self._ended()
