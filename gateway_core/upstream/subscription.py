"""How a modern server on a shared channel tells that its lists changed: `subscriptions/listen`, one request that
stays unanswered as long as the server announces changes (basic/patterns/subscriptions).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from gateway_core import jsonrpc
from gateway_core.errors import DeliveryError
from gateway_core.upstream.base import NotificationHandler, Reply
from gateway_core.upstream.listen import list_changed

METHOD: Final = "subscriptions/listen"
ACKNOWLEDGED: Final = "notifications/subscriptions/acknowledged"
AGAIN: Final = 5.0
"""Seconds between the end of a subscription and the next attempt."""


class Subscription:
    """One connection's subscription to changes of the lists `kinds`."""

    def __init__(self, kinds: tuple[str, ...], on_notification: NotificationHandler) -> None:
        self._kinds = kinds
        self._on_notification = on_notification
        self._asked = 0

    async def run(self, ask: Callable[[str, Mapping[str, Any]], Awaitable[Reply]]) -> None:
        """Subscribe, and again whenever the server ends it; returns when it refuses or the connection is lost."""
        wanted = {"notifications": {f"{kind}ListChanged": True for kind in self._kinds}}
        while True:
            self._asked += 1
            try:
                reply = await ask(METHOD, wanted)
            except DeliveryError:
                return
            if reply.error is not None:
                return
            await asyncio.sleep(AGAIN)

    def acknowledged(self) -> None:
        """The server listens to us from now on. What changed since an earlier subscription ended was not told."""
        if self._asked > 1:
            for kind in self._kinds:
                self._on_notification(list_changed(kind), jsonrpc.EMPTY_OBJECT)
