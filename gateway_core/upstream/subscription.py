"""How a modern server tells that its lists changed: `subscriptions/listen`, one request that stays unanswered as
long as the server announces changes (basic/patterns/subscriptions).

`Subscription` keeps one alive on a shared channel; over Streamable HTTP it is a stream, which `listen.py` keeps.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from gateway_core import jsonrpc
from gateway_core.errors import DeliveryError
from gateway_core.protocol import CHANGING, LISTEN, list_changed, listen_key
from gateway_core.upstream.base import Host, Reply, ServerInfo
from gateway_core.upstream.era import declared, with_meta

ACKNOWLEDGED: Final = "notifications/subscriptions/acknowledged"
AGAIN: Final = 5.0
"""Seconds between the end of a subscription and the next attempt."""


def changing_lists(capabilities: Mapping[str, Any]) -> tuple[str, ...]:
    """The lists whose changes the server says it announces (`listChanged`)."""
    return tuple(
        kind
        for kind in CHANGING
        if isinstance(capabilities.get(kind), dict) and capabilities[kind].get("listChanged") is True
    )


def listen_params(kinds: tuple[str, ...], info: ServerInfo, host: Host) -> Mapping[str, Any]:
    """The params of a `subscriptions/listen` for changes of those lists, complete with `_meta`."""
    return with_meta({"notifications": {listen_key(kind): True for kind in kinds}}, info, declared(None, host))


def assume_changed(kinds: tuple[str, ...], host: Host) -> None:
    """Nobody listened for a while: what the server would have said then counts as said."""
    for kind in kinds:
        host.told(list_changed(kind), jsonrpc.EMPTY_OBJECT, None)


class Subscription:
    """One connection's subscription to changes of the lists `kinds`."""

    def __init__(self, kinds: tuple[str, ...], info: ServerInfo, host: Host) -> None:
        self._kinds = kinds
        self._info = info
        self._host = host
        self._asked = 0

    async def run(self, ask: Callable[[str, Mapping[str, Any]], Awaitable[Reply]]) -> None:
        """Subscribe, and again whenever the server ends it; returns when it refuses or the connection is lost."""
        params = listen_params(self._kinds, self._info, self._host)
        while True:
            self._asked += 1
            try:
                reply = await ask(LISTEN, params)
            except DeliveryError:
                return
            if reply.error is not None:
                return
            await asyncio.sleep(AGAIN)

    def acknowledged(self) -> None:
        """The server listens to us from now on. What changed since an earlier subscription ended was not told."""
        if self._asked > 1:
            assume_changed(self._kinds, self._host)
