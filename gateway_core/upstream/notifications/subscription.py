"""Change notifications on one connection: for lists, and for single resources.

A **watcher** manages these subscriptions for one connection. A legacy server announces list changes unasked, and
resource updates after `resources/subscribe`. A modern server announces only what a `subscriptions/listen` asks for, and
answers that request when it ends (basic/patterns/subscriptions). Each connection has one, which reopens with another
filter when the set of watched resources changes. After a gap, the gateway assumes that everything changed.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import msgspec
from loguru import logger
from msgspec import Raw

from gateway_core.errors import INVALID_PARAMS, DeliveryError, NotSent, RpcError
from gateway_core.internal_errors import where
from gateway_core.mcp import jsonrpc
from gateway_core.mcp.names import CHANGING, SUBSCRIBE, TASK_STATUS, UNSUBSCRIBE, UPDATED, list_changed, listen_key
from gateway_core.upstream.base import ClientContext, ServerInfo
from gateway_core.upstream.notifications.pauses import Pauses
from gateway_core.upstream.request_body import declared, with_meta
from gateway_core.upstream.requests import Reply

ACKNOWLEDGED: Final = "notifications/subscriptions/acknowledged"
LISTENED: Final = frozenset({ACKNOWLEDGED, TASK_STATUS})
"""Notifications that belong to one listen request; all others belong to the connection."""
RESOURCES: Final = "resourceSubscriptions"
"""The member of a filter that names resources."""
ACKNOWLEDGE_TIMEOUT: Final = 5.0
"""Seconds to wait for the acknowledgement; without one, assume that the server announces its lists only."""
AT_ONCE: Final = 16
"""Maximum number of concurrent requests to subscribe."""
ANSWER_TIMEOUT: Final = 4.0
"""Seconds for the answer to one request: less than agents wait, so that one resource does not fail the others."""


def changing_lists(capabilities: Mapping[str, Any]) -> tuple[str, ...]:
    """The lists for which the server declares `listChanged`."""
    return tuple(
        kind
        for kind in CHANGING
        if isinstance(capabilities.get(kind), dict) and capabilities[kind].get("listChanged") is True
    )


def announces_updates(capabilities: Mapping[str, Any]) -> bool:
    """Whether the server declares that it announces updates of single resources (`resources.subscribe`)."""
    found = capabilities.get("resources")
    return isinstance(found, dict) and found.get("subscribe") is True


class _Watching:
    """Base of both kinds of `base.Watcher`: announced lists and resources, and notifications after a gap."""

    def __init__(self, info: ServerInfo, context: ClientContext) -> None:
        self.kinds = changing_lists(info.capabilities)
        self.accepted: frozenset[str] = frozenset()
        """The resources whose updates the server agreed to announce, by the server's URIs."""
        self._context = context

    def missed(self) -> None:
        """Assume that everything changed while the gateway was not listening."""
        self._missed(self.accepted)

    def _missed(self, uris: frozenset[str]) -> None:
        for kind in self.kinds:
            self._context.on_notification(list_changed(kind), jsonrpc.EMPTY_OBJECT, None)
        for uri in uris:
            self._context.on_notification(UPDATED, Raw(jsonrpc.encode({"uri": uri})), None)


class LegacyWatcher(_Watching):
    """Subscribes with `resources/subscribe` and `resources/unsubscribe`, one request per resource."""

    def __init__(
        self,
        info: ServerInfo,
        context: ClientContext,
        request: Callable[[str, Mapping[str, Any]], Awaitable[Reply]],
        ready: asyncio.Event | None = None,
    ) -> None:
        """`ready` is set when notifications can arrive; no subscription is requested before that."""
        super().__init__(info, context)
        self._request = request
        self._ready = ready

    async def watch(self, uris: frozenset[str]) -> Mapping[str, RpcError | NotSent]:
        if self._ready is not None:
            await self._ready.wait()
        slots = asyncio.Semaphore(AT_ONCE)
        refused: dict[str, RpcError | NotSent] = {}

        async def ask(method: str, uri: str) -> None:
            error: RpcError | NotSent | None
            async with slots:
                try:
                    async with asyncio.timeout(ANSWER_TIMEOUT):
                        error = (await self._request(method, {"uri": uri})).error
                except TimeoutError:
                    error = NotSent(f"no answer to the subscription within {ANSWER_TIMEOUT:g} s")
            if method == UNSUBSCRIBE:
                self.accepted -= {uri}  # even if the server refused: its updates are no longer passed on
            elif error is not None:
                refused[uri] = error
            else:
                self.accepted |= {uri}

        outdated, wanted = self.accepted - uris, uris - self.accepted
        requests = [ask(UNSUBSCRIBE, uri) for uri in sorted(outdated)] + [ask(SUBSCRIBE, uri) for uri in sorted(wanted)]
        ends = await asyncio.gather(*requests, return_exceptions=True)
        for end in ends:
            if isinstance(end, BaseException):
                raise end
        return refused

    async def renew(self) -> None:
        """Subscribe again to all accepted resources: a server without sessions may have lost them."""
        uris, self.accepted = self.accepted, frozenset()
        refused = await self.watch(uris)
        self.accepted |= {uri for uri, error in refused.items() if isinstance(error, NotSent)}  # for the next renewal


Take = Callable[[str, Raw], None]
"""Called with method and params of a notification in `LISTENED`."""
Listen = Callable[[Mapping[str, Any], Take], Awaitable[None]]
"""The type of `Connection.listen`."""


class _Stream:
    """One listen request: its filter, its acknowledged URIs, and its task."""

    def __init__(self, uris: frozenset[str], params: Mapping[str, Any], listen: Listen) -> None:
        self.uris = uris
        self.acknowledged: asyncio.Future[frozenset[str]] = asyncio.get_running_loop().create_future()
        self.task = asyncio.ensure_future(listen(params, self._take))
        self.task.add_done_callback(_look_at_end)

    @property
    def agreed(self) -> bool:
        return self.acknowledged.done()

    @property
    def open(self) -> bool:
        return not self.task.done()

    def _take(self, method: str, params: Raw) -> None:
        if method == ACKNOWLEDGED and not self.acknowledged.done():
            self.acknowledged.set_result(acknowledged(params, RESOURCES) & self.uris)

    @property
    def refusal(self) -> RpcError | None:
        """The server's error, if the request ended with one."""
        error = self.task.exception() if self.task.done() and not self.task.cancelled() else None
        return error if isinstance(error, RpcError) else None

    def end(self) -> None:
        self.task.cancel()


class ModernWatcher(_Watching):
    """Subscribes with one `subscriptions/listen`. `run` keeps it open as long as the connection."""

    def __init__(self, info: ServerInfo, context: ClientContext, listen: Listen) -> None:
        super().__init__(info, context)
        self._info = info
        self._listen = listen
        self._wanted: frozenset[str] = frozenset()
        self._changed = asyncio.Event()
        self._waiting: asyncio.Future[Mapping[str, RpcError]] | None = None
        self._pauses = Pauses()
        self._listened = False
        self._gap = False
        self._over = False

    async def watch(self, uris: frozenset[str]) -> Mapping[str, RpcError]:
        if self._over:
            raise NotSent("the gateway has stopped listening to the server")
        self._wanted = uris
        self._changed.set()
        self._waiting = asyncio.get_running_loop().create_future()
        return await self._waiting

    async def run(self) -> None:
        """Keep a listen request open while there are lists or resources to watch, until cancelled."""
        current: _Stream | None = None
        try:
            while True:
                self._changed.clear()
                if not self.kinds and not self._wanted:
                    _ended(current)
                    current = None
                    self._agreed(frozenset())
                    await self._changed.wait()
                    continue
                self._pauses.begin()
                current = await self._opened(current)
                await self._until_changed(current)
                if current is not None and not current.open:
                    current, self._gap = None, self._listened
                    await self._until_changed(None, self._pauses.next())
        finally:
            self._over = True
            _ended(current)
            if self._waiting is not None and not self._waiting.done():
                self._waiting.set_exception(NotSent("the connection was lost"))
                self._waiting.exception()

    async def _opened(self, previous: _Stream | None) -> _Stream | None:
        """Open a stream with the current filter; end `previous` once the server has agreed.

        `previous` stays open until then, so that no notification is missed, and stays if the server refuses the new
        filter. Returns None if the server refuses and no earlier stream is open.
        """
        stream = _Stream(self._wanted, self._params(), self._listen)
        try:
            events: list[asyncio.Future[Any]] = [stream.task, stream.acknowledged]
            await asyncio.wait(events, timeout=ACKNOWLEDGE_TIMEOUT, return_when=asyncio.FIRST_COMPLETED)
        except BaseException:
            stream.end()
            _ended(previous)
            raise
        if stream.refusal is not None and not stream.agreed:
            return await self._refused(stream, previous, stream.refusal)
        _ended(previous)
        if stream.agreed or stream.open:
            self._agreed(stream.acknowledged.result() if stream.agreed else frozenset())
        return stream

    async def _refused(self, stream: _Stream, previous: _Stream | None, error: RpcError) -> _Stream | None:
        """Handle a refused filter: keep the earlier stream, or open one for the lists alone."""
        kept = previous if previous is not None and previous.open else None
        if kept is None:
            self._missed(self.accepted)
            self.accepted = frozenset()
        self._answer(dict.fromkeys(stream.uris - self.accepted, error))
        if not self._changed.is_set():
            self._wanted = self.accepted
        if kept is None and self.kinds and stream.uris and not self._changed.is_set():
            return await self._opened(None)
        return kept

    def _params(self) -> Mapping[str, Any]:
        notifications: dict[str, Any] = {listen_key(kind): True for kind in self.kinds}
        if self._wanted:
            notifications[RESOURCES] = sorted(self._wanted)
        return with_meta({"notifications": notifications}, self._info, declared(None, self._context))

    def _agreed(self, accepted: frozenset[str]) -> None:
        """Record the accepted resources. After a gap, report lists and earlier resources as changed."""
        known, self.accepted = self.accepted, accepted
        self._listened = True
        if self._gap:
            self._gap = False
            self._missed(known)
        error = RpcError.of_gateway(INVALID_PARAMS, "the server does not announce changes of this resource")
        self._answer(dict.fromkeys(self._wanted - accepted, error))

    def _answer(self, refused: Mapping[str, RpcError]) -> None:
        if self._waiting is not None and not self._waiting.done() and not self._changed.is_set():
            self._waiting.set_result(refused)

    async def _until_changed(self, stream: _Stream | None, seconds: float | None = None) -> None:
        """Wait until the filter changes, `stream` ends, or `seconds` pass."""
        changed = asyncio.ensure_future(self._changed.wait())
        events: list[asyncio.Future[Any]] = [changed] if stream is None else [changed, stream.task]
        try:
            await asyncio.wait(events, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            changed.cancel()


def _look_at_end(task: asyncio.Future[None]) -> None:
    error = None if task.cancelled() else task.exception()
    if error is not None and not isinstance(error, RpcError | DeliveryError):
        logger.error("{} while listening to an upstream\n{}", type(error).__name__, where(error))


def _ended(stream: _Stream | None) -> None:
    if stream is not None:
        stream.end()


def acknowledged(params: Raw, what: str) -> frozenset[str]:
    """The strings that an acknowledgement lists in member `what` of its filter; empty if it is unreadable."""
    with contextlib.suppress(RpcError, msgspec.DecodeError, RecursionError):
        accepted = jsonrpc.members(jsonrpc.members(params).get("notifications", Raw()))
        return frozenset(msgspec.json.decode(accepted.get(what, Raw(b"[]")), type=list[str]))
    return frozenset()
