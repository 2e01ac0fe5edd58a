"""Connections on which all messages of both directions share one channel: stdio and HTTP+SSE.

The subclass moves messages (`_connect`, `_transmit`, `_release`); everything that gives them meaning is here. Each
request gets an id of the connection's own, which is its progress token too, and is **pending** until its response
comes; what comes under no pending id is an *oddity*: counted, warned about once, never acted on. When the channel
is **lost**, every pending request ends at once: `NotSent` if its first byte never left, else `OutcomeUnknown`.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from abc import abstractmethod
from collections import Counter
from collections.abc import Coroutine, Mapping
from typing import Any, Final

from loguru import logger
from msgspec import Raw

from gateway_core import jsonrpc
from gateway_core.config import LimitsConfig, UpstreamConfig
from gateway_core.errors import METHOD_NOT_FOUND, PARSE_ERROR, DeliveryError, NotSent, OutcomeUnknown, RpcError
from gateway_core.exchange import Exchange
from gateway_core.types import Era
from gateway_core.upstream import subscription
from gateway_core.upstream.base import Connection, NotificationHandler, Reply, ServerInfo
from gateway_core.upstream.era import negotiate, with_meta
from gateway_core.upstream.listen import changing_lists
from gateway_core.upstream.pending import Pending, own_id

MAX_BACKGROUND: Final = 64
"""Cancellations and answers to the server that may wait for the channel at a time; more are dropped."""
BACKGROUND_TIMEOUT: Final = 10.0
"""Seconds until one of them is given up."""


class DuplexConnection(Connection):
    """A `Connection` over one shared channel. It is a `Wire`, too, for the time of the negotiation."""

    modern_possible = True
    """Whether servers of the modern era use this transport."""

    def __init__(self, config: UpstreamConfig, limits: LimitsConfig, on_notification: NotificationHandler) -> None:
        self._config = config
        self._limits = limits
        self._on_notification = on_notification
        self._ids = itertools.count(1)
        self._last_id = 0
        self._pending: dict[int, Pending] = {}
        self._background: set[asyncio.Task[None]] = set()
        self._ended = asyncio.Event()
        self._reason = ""
        self._subscription: subscription.Subscription | None = None
        self._releasing: asyncio.Task[None] | None = None
        self._heard = False
        self.oddities: Counter[str] = Counter()
        """What the server sent that it should not have: kind -> how often. Logged when the connection ends."""

    # What a transport implements

    @abstractmethod
    async def _connect(self) -> None:
        """Set up the channel; raises `NotSent`."""

    @abstractmethod
    async def _transmit(self, data: bytes, pending: Pending | None = None) -> None:
        """Send one message, `pending.mark_sent()` right before its first byte may leave. Raises `DeliveryError`.

        Cancelled before that, it leaves nothing on the channel; afterwards the message still goes out whole, or
        the connection is lost.
        """

    @abstractmethod
    async def _release(self) -> None:
        """Free what the channel holds, in a bounded time. Runs once, when the connection is lost."""

    # Connection

    async def open(self, known_era: Era | None) -> ServerInfo:
        try:
            await self._connect()
            self.info = await negotiate(self, known_era, modern_possible=self.modern_possible)
        except OutcomeUnknown as error:
            self._lost(f"could not be opened: {error.reason}")
            if self._heard:
                raise
            raise NotSent(error.reason) from None  # it never spoke: the transport was not really there
        except BaseException as error:
            self._lost(f"could not be opened: {error or 'the attempt was given up'}")
            raise
        if self.info.era == "modern" and (kinds := changing_lists(self.info.capabilities)):
            self._subscribe(kinds, self.info)
        return self.info

    async def request(
        self,
        method: str,
        params: Mapping[str, Any],
        *,
        meta: Mapping[str, Any] | None = None,
        exchange: Exchange | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        self._check_open()
        if self.info is None:
            raise NotSent("the connection is not open yet")
        number = self._next_id()
        token = None if exchange is None else number
        pending = Pending(number, method, asyncio.get_running_loop().create_future(), exchange)
        try:
            return await self._carry(with_meta(params, self.info, meta, token), pending)
        except asyncio.CancelledError:
            # Only what the server knows and works on may be cancelled (basic/patterns/cancellation). Being cancelled
            # while waiting for the answer has cancelled the future, too.
            if pending.sent and (pending.answer.cancelled() or not pending.answer.done()):
                reason = {"requestId": number, "reason": "the request was cancelled or timed out"}
                self._in_background(jsonrpc.notification("notifications/cancelled", reason))
            raise

    async def notify(self, method: str, params: Mapping[str, Any] | None = None) -> None:
        self._check_open()
        await self._transmit(_one_line(jsonrpc.notification(method, params)))

    async def close(self) -> None:
        self._lost("was closed by the gateway")
        if self._releasing is not None:
            await asyncio.shield(self._releasing)

    @property
    def closed(self) -> bool:
        return self._ended.is_set()

    async def wait_closed(self) -> str:
        await self._ended.wait()
        return self._reason

    # Wire

    async def send(self, method: str, params: Mapping[str, Any]) -> Reply:
        """One request of the connection's own. Giving it up is not told: `initialize` must never be cancelled."""
        self._check_open()
        pending = Pending(self._next_id(), method, asyncio.get_running_loop().create_future())
        return await self._carry(params, pending)

    def adopt(self, protocol_version: str) -> None:
        """The messages themselves say all there is to say about the version: there are no headers."""

    # Outgoing

    def _next_id(self) -> int:
        self._last_id = next(self._ids)
        return self._last_id

    async def _carry(self, params: Mapping[str, Any], pending: Pending) -> Reply:
        data = _one_line(jsonrpc.request(pending.number, pending.method, params))
        self._pending[pending.number] = pending
        try:
            await self._transmit(data, pending)
            return await pending.answer
        finally:
            del self._pending[pending.number]

    def _check_open(self) -> None:
        if self.closed:
            raise NotSent(f"the server {self._reason}")

    def _in_background(self, data: bytes) -> None:
        """Send a message that nobody waits for; it is dropped where too many wait already."""
        if not self.closed and len(self._background) < MAX_BACKGROUND:
            self._keep(self._send_quietly(data))

    async def _send_quietly(self, data: bytes) -> None:
        # A failure is noticed elsewhere: by those who wait for answers, and by the loss of the connection.
        with contextlib.suppress(DeliveryError, TimeoutError):
            async with asyncio.timeout(BACKGROUND_TIMEOUT):
                await self._transmit(data)

    def _subscribe(self, kinds: tuple[str, ...], info: ServerInfo) -> None:
        self._subscription = subscription.Subscription(kinds, self._on_notification)
        self._keep(
            self._subscription.run(lambda method, params: self.send(method, with_meta(params, info, None, None)))
        )

    def _keep(self, work: Coroutine[Any, Any, None]) -> None:
        """Run something beside the requests; it is cancelled when the connection is lost."""
        task = asyncio.get_running_loop().create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    # Incoming

    def _receive(self, data: bytes) -> None:
        """Take one message off the channel. Never raises: what cannot be used is counted."""
        if self.closed:
            return
        if data.lstrip()[:1] != b"{":
            self._odd("malformed message", "not JSON-RPC")  # a child that prints pages of text costs little
            return
        try:
            message = jsonrpc.decode(data)
            self._heard = True
            if message.is_response:
                self._answered(message)
            elif message.is_request:
                self._asked(message)
            else:
                self._told(message.method, message.params)
        except RpcError as error:
            self._odd("malformed message", "not valid JSON" if error.code == PARSE_ERROR else "not JSON-RPC")

    def _answered(self, message: jsonrpc.Message) -> None:
        number = own_id(message.id)
        pending = self._pending.get(number)
        if pending is None or not pending.sent:
            issued = 0 < number <= self._last_id and pending is None
            self._odd("late or repeated response" if issued else "response to no request")
        elif pending.answer.done():
            self._odd("late or repeated response")
        elif bytes(message.error) not in (b"", b"null"):
            pending.answer.set_result(Reply(error=jsonrpc.error_of(message.error)))
        elif bytes(message.result)[:1] == b"{":
            pending.answer.set_result(Reply(bytes(message.result)))
        else:
            self._odd("malformed message", "the result is not an object")
            pending.fail(OutcomeUnknown("the server answered with a result that is not an object"))

    def _told(self, method: str, params: Raw) -> None:
        if method == "notifications/progress":
            pending = self._pending.get(own_id(jsonrpc.members(params).get("progressToken", Raw())))
            if pending is None or pending.exchange is None or pending.answer.done():
                self._odd("progress of no request")
            else:
                pending.exchange.progress(params)
        elif method == "notifications/cancelled":
            pending = self._pending.get(own_id(jsonrpc.members(params).get("requestId", Raw())))
            if pending is None or pending.method != subscription.METHOD or pending.answer.done():
                self._odd("cancellation of what only the gateway may cancel")
            else:
                pending.answer.set_result(Reply(b"{}"))
        elif method == subscription.ACKNOWLEDGED:
            if self._subscription is not None:
                self._subscription.acknowledged()
        elif method != "notifications/message":  # the gateway asks for no log messages
            self._on_notification(method, params)

    def _asked(self, message: jsonrpc.Message) -> None:
        """Answer a request of the server. The gateway declares no capability, so all it may ask is `ping`.

        A question for the agent would go to `back.ask` of the exchange that is pending here; the modern era has
        no requests from servers (transports/stdio), and forbids to answer them.
        """
        if self.info is not None and self.info.era == "modern":
            self._odd("request from a modern server")
            return
        if message.method == "ping":
            answer = jsonrpc.result(message.id, jsonrpc.EMPTY_OBJECT)
        else:
            self._odd("request that the gateway did not offer to answer")
            refusal = RpcError.of_gateway(METHOD_NOT_FOUND, "the gateway declared no capability for this request")
            answer = jsonrpc.error(message.id, refusal)
        self._in_background(_one_line(answer))

    def _odd(self, kind: str, detail: str = "") -> None:
        """Count an oddity; the first of its kind is a warning, which never holds what was sent."""
        self.oddities[kind] += 1
        if self.oddities[kind] == 1:
            logger.bind(upstream=self._config.name, kind=kind, detail=detail).warning(
                "the server sent something odd; more of this kind is only counted"
            )

    # The end

    def _lost(self, reason: str) -> None:
        """The channel carries nothing any more. `reason` continues a sentence: "the server …"."""
        if self.closed:
            return
        self._reason = reason
        self._ended.set()
        for pending in self._pending.values():
            text = f"the server {reason}"
            pending.fail(OutcomeUnknown(text) if pending.sent else NotSent(text))
        for task in self._background:
            task.cancel()
        self._releasing = asyncio.get_running_loop().create_task(self._release())
        logger.bind(upstream=self._config.name, reason=reason, **self.oddities).debug("connection ended")


def _one_line(data: bytes) -> bytes:
    """JSON allows a line break only between tokens; on a channel of lines it would be the end of the message."""
    if b"\n" in data or b"\r" in data:
        return data.replace(b"\n", b" ").replace(b"\r", b" ")
    return data
