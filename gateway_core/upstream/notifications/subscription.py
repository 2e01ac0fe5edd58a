"""What a server tells by itself on one connection: that its lists changed, and that single resources did.

A **watcher** is what one connection does about that. A legacy server announces lists unasked, and resources after
`resources/subscribe`. A modern one announces nothing but what a `subscriptions/listen` asks for, a request that stays
unanswered as long as it does (basic/patterns/subscriptions): there is one a connection, which is opened anew with
another filter when another set of resources is watched. Whatever may have been missed counts as changed.
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
from gateway_core.upstream.base import Host, ServerInfo
from gateway_core.upstream.notifications.pauses import Pauses
from gateway_core.upstream.request_body import declared, with_meta
from gateway_core.upstream.requests import Reply

ACKNOWLEDGED: Final = "notifications/subscriptions/acknowledged"
LISTENED: Final = frozenset({ACKNOWLEDGED, TASK_STATUS})
"""Notifications that are of one listen request alone; all others are the connection's."""
RESOURCES: Final = "resourceSubscriptions"
"""The member of a filter that names resources."""
ACKNOWLEDGE_TIMEOUT: Final = 5.0
"""Seconds that a server may take to acknowledge; one that says nothing is taken to announce its lists, and no more."""
AT_ONCE: Final = 16
"""Requests to subscribe that are sent at the same time."""
ANSWER_TIMEOUT: Final = 4.0
"""Seconds for the answer to one of them: less than agents wait, so that one resource does not cost them the others."""


def changing_lists(capabilities: Mapping[str, Any]) -> tuple[str, ...]:
    """The lists whose changes the server says it announces (`listChanged`)."""
    return tuple(
        kind
        for kind in CHANGING
        if isinstance(capabilities.get(kind), dict) and capabilities[kind].get("listChanged") is True
    )


def announces_updates(capabilities: Mapping[str, Any]) -> bool:
    """Whether the server says that it announces changes of single resources (`resources.subscribe`)."""
    found = capabilities.get("resources")
    return isinstance(found, dict) and found.get("subscribe") is True


class _Watching:
    """What both kinds of `base.Watcher` share: what is announced, and what counts as said after a gap."""

    def __init__(self, info: ServerInfo, host: Host) -> None:
        self.kinds = changing_lists(info.capabilities)
        self.accepted: frozenset[str] = frozenset()
        """The resources that the server has agreed to announce changes of, by its own URIs."""
        self._host = host

    def missed(self) -> None:
        """Nobody listened for a while: what the server would have said then counts as said."""
        self._missed(self.accepted)

    def _missed(self, uris: frozenset[str]) -> None:
        for kind in self.kinds:
            self._host.told(list_changed(kind), jsonrpc.EMPTY_OBJECT, None)
        for uri in uris:
            self._host.told(UPDATED, Raw(jsonrpc.encode({"uri": uri})), None)


class LegacyWatcher(_Watching):
    """By `resources/subscribe` and `resources/unsubscribe`, one request a resource."""

    def __init__(
        self,
        info: ServerInfo,
        host: Host,
        request: Callable[[str, Mapping[str, Any]], Awaitable[Reply]],
        ready: asyncio.Event | None = None,
    ) -> None:
        """`ready` is set when what the server says can arrive; nothing is asked for before."""
        super().__init__(info, host)
        self._request = request
        self._ready = ready

    async def watch(self, uris: frozenset[str]) -> Mapping[str, RpcError | NotSent]:
        if self._ready is not None:
            await self._ready.wait()
        places = asyncio.Semaphore(AT_ONCE)
        refused: dict[str, RpcError | NotSent] = {}

        async def ask(method: str, uri: str) -> None:
            error: RpcError | NotSent | None
            async with places:
                try:
                    async with asyncio.timeout(ANSWER_TIMEOUT):
                        error = (await self._request(method, {"uri": uri})).error
                except TimeoutError:
                    error = NotSent(f"no answer to the subscription within {ANSWER_TIMEOUT:g} s")
            if method == UNSUBSCRIBE:
                self.accepted -= {uri}  # one that the server would not let go of is not passed on all the same
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
        """Ask once more for what was agreed on: a server without sessions may have forgotten it."""
        uris, self.accepted = self.accepted, frozenset()
        refused = await self.watch(uris)
        self.accepted |= {uri for uri, error in refused.items() if isinstance(error, NotSent)}  # asked for next time


Take = Callable[[str, Raw], None]
"""Called with method and params of a notification of `LISTENED`."""
Listen = Callable[[Mapping[str, Any], Take], Awaitable[None]]
"""`Connection.listen`."""


class _Stream:
    """One listen request: its filter, what was acknowledged, and the task in which it runs."""

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
        """The server's error, if it ended in one."""
        error = self.task.exception() if self.task.done() and not self.task.cancelled() else None
        return error if isinstance(error, RpcError) else None

    def end(self) -> None:
        self.task.cancel()


class ModernWatcher(_Watching):
    """By one `subscriptions/listen`. `run` keeps it open as long as the connection."""

    def __init__(self, info: ServerInfo, host: Host, listen: Listen) -> None:
        super().__init__(info, host)
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
            raise NotSent("the server is not listened to any more")
        self._wanted = uris
        self._changed.set()
        self._waiting = asyncio.get_running_loop().create_future()
        return await self._waiting

    async def run(self) -> None:
        """Listen while there is anything to listen for, until cancelled."""
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
        """A stream with the filter that is wanted now, once the server has agreed; then `previous` is ended.

        The one before goes on until then, so that nothing is missed, and stays if the server refuses the new one. None
        when the server refuses and there is none before.
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
        """The server refuses the filter: what was agreed on before goes on, at least the lists."""
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
        return with_meta({"notifications": notifications}, self._info, declared(None, self._host))

    def _agreed(self, accepted: frozenset[str]) -> None:
        """The server listens to us from now on. What changed since an earlier stream ended was not told."""
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
        """Wait for another filter to be wanted, or `stream` to end, or `seconds` to pass."""
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
    """What an acknowledgement names in that member of the filter; nothing in one that cannot be read."""
    with contextlib.suppress(RpcError, msgspec.DecodeError, RecursionError):
        accepted = jsonrpc.members(jsonrpc.members(params).get("notifications", Raw()))
        return frozenset(msgspec.json.decode(accepted.get(what, Raw(b"[]")), type=list[str]))
    return frozenset()
