"""Connections on which all messages in both directions share one channel: stdio and HTTP+SSE.

Subclasses transport messages (`_connect`, `_transmit`, `_release`); this module interprets them. Each request gets an
id that is unique on the connection, also used as its progress token. It is **pending** until its response comes; a
response without a pending id is *unexpected* (`unexpected.py`). When the channel is **lost**, every pending request
fails at once: with `NotSent` if its first byte never left, else with `OutcomeUnknown`.
"""

from __future__ import annotations

import asyncio
import itertools
from abc import abstractmethod
from collections import deque
from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from typing import Any, Final

from loguru import logger
from msgspec import Raw

from gateway_core.api import Era
from gateway_core.config import LimitsConfig, UpstreamConfig
from gateway_core.errors import NotSent, OutcomeUnknown
from gateway_core.exchange.exchange import Exchange
from gateway_core.exchange.unanswered import UnansweredRequests
from gateway_core.internal_errors import where
from gateway_core.mcp import jsonrpc
from gateway_core.mcp.names import CANCELLED_NOTICE, LISTEN, PROGRESS
from gateway_core.upstream.base import ClientContext, Connection, ServerInfo
from gateway_core.upstream.messages.malformed import request_answered, unreadable
from gateway_core.upstream.messages.questions import ServerQuestions
from gateway_core.upstream.messages.sends import FAREWELL, background_sends
from gateway_core.upstream.messages.unexpected import UnexpectedMessages, answer_to, read
from gateway_core.upstream.notifications.logs import whose
from gateway_core.upstream.notifications.subscription import LISTENED, LegacyWatcher, ModernWatcher
from gateway_core.upstream.pending import Pending, id_in, listen_id, own_id, raw_id_in
from gateway_core.upstream.request_body import declared, filling, template, with_meta
from gateway_core.upstream.requests import Reply, Request, Template
from gateway_core.upstream.transports.negotiation import negotiate

MAX_GIVEN_UP: Final = 64
"""Cancelled requests of the gateway itself that are remembered."""


class DuplexConnection(Connection):
    """A `Connection` over one shared channel. It also serves as the `Wire` of the negotiation."""

    modern_possible = True
    """Whether servers of the modern era use this transport."""

    def __init__(self, config: UpstreamConfig, limits: LimitsConfig, context: ClientContext) -> None:
        self._config = config
        self.name = config.name
        self._limits = limits
        self._context = context
        self._ids = itertools.count(1)
        self._last_id = 0
        self._pending: dict[int, Pending] = {}
        self._given_up: deque[int] = deque(maxlen=MAX_GIVEN_UP)
        """Cancelled requests of the gateway itself; a late response to one is expected."""
        self._unanswered = UnansweredRequests()
        self._background = background_sends(config.name)
        self._listener: asyncio.Task[None] | None = None
        """Keeps the subscription of a modern connection."""
        self._ended = asyncio.Event()
        self._reason = ""
        self._listening: dict[int, Callable[[str, Raw], None]] = {}
        self._releasing: asyncio.Task[None] | None = None
        self._heard = False
        self.unexpected: Final = UnexpectedMessages(config.name)
        self._questions = ServerQuestions(config.name, context, self.in_flight, self._transmit)

    # What a transport implements

    @abstractmethod
    async def _connect(self) -> None:
        """Set up the channel; raises `NotSent`."""

    @abstractmethod
    async def _transmit(self, data: bytes, pending: Pending | None = None) -> None:
        """Send one message; call `pending.mark_sent()` just before the first byte may leave. Raises `DeliveryError`.

        Cancellation before that leaves nothing on the channel. After that, the whole message is sent, or the
        connection is lost.
        """

    @abstractmethod
    async def _release(self) -> None:
        """Free the resources of the channel, in a bounded time. Runs once, when the connection is lost."""

    # Connection

    async def open(self, known_era: Era | None) -> ServerInfo:
        try:
            await self._connect()
            self.info = await negotiate(
                self, known_era, capabilities=self._context.capabilities, modern_possible=self.modern_possible
            )
        except OutcomeUnknown as error:
            self._lost(f"could not be opened: {error.reason}")
            if self._heard:
                raise
            raise NotSent(error.reason) from None  # no message ever came: treat the transport as not set up
        except BaseException as error:
            self._lost(f"could not be opened: {error or 'the attempt was given up'}")
            raise
        if self.info.era == "modern":
            self.watcher = watcher = ModernWatcher(self.info, self._context, self.listen)
            self._listener = asyncio.get_running_loop().create_task(watcher.run(), name=f"listen to {self.name}")
            self._listener.add_done_callback(self._listened)
        else:
            self.watcher = LegacyWatcher(self.info, self._context, self.request)
        return self.info

    def deliver(
        self, request: Request, exchange: Exchange | None = None, headers: Mapping[str, str] | None = None
    ) -> Coroutine[Any, Any, Reply]:
        self._check_open()
        if self.info is None:
            raise NotSent("the connection is not open yet")
        method, number = request.method, self._next_id()
        template = self.template(request, exchange)
        if template is not None:
            data = template.body % filling(request, number)
        else:
            token, level = (None, "") if exchange is None else (number, exchange.log_level)
            capabilities = declared(exchange, self._context)
            params = with_meta(
                request.members, self.info, capabilities, request.complete_meta, token, log_level=level, key=request.key
            )
            data = jsonrpc.request(number, method, params)
        return self._cancellable(data, Pending(number, method, exchange))

    def _make_template(self, request: Request, exchange: Exchange) -> Template | None:
        assert self.info is not None, "open() comes first"
        body = template(request, self.info, declared(exchange, self._context))
        return None if body is None else Template(b"", body)

    async def notify(self, method: str, params: Mapping[str, Any] | None = None) -> None:
        self._check_open()
        await self._transmit(jsonrpc.one_line(jsonrpc.notification(method, params)))

    async def close(self) -> None:
        if not self.closed:
            await self._background.wait(FAREWELL)
        self._lost("was closed by the gateway")
        if self._releasing is not None:
            await asyncio.shield(self._releasing)

    async def wait_closed(self) -> str:
        await self._ended.wait()
        return self._reason

    @property
    def noisy(self) -> bool:
        return self.unexpected.noise.given_up

    # Wire

    async def send(self, method: str, params: Mapping[str, Any]) -> Reply:
        """Send one request of the gateway. Sends no cancellation: `initialize` must never be cancelled."""
        self._check_open()
        pending = Pending(self._next_id(), method)
        return await self._carry(jsonrpc.request(pending.number, method, params), pending)

    def adopt(self, protocol_version: str) -> None:
        """Do nothing: these transports have no version header."""

    # Outgoing

    def _next_id(self) -> int:
        self._last_id = next(self._ids)
        return self._last_id

    async def _carry(self, data: bytes, pending: Pending) -> Reply:
        self._pending[pending.number] = pending
        try:
            await self._transmit(jsonrpc.one_line(data), pending)
            return await pending
        except asyncio.CancelledError:
            if pending.exchange is None and pending.sent:
                self._given_up.append(pending.number)
            raise
        finally:
            del self._pending[pending.number]

    async def _cancellable(self, data: bytes, pending: Pending) -> Reply:
        try:
            return await self._carry(data, pending)
        except asyncio.CancelledError:
            # Only a request that was sent and is in flight may be cancelled (basic/patterns/cancellation).
            if pending.sent and not pending.done:
                self._tell_cancelled(pending)
            raise

    def _tell_cancelled(self, pending: Pending) -> None:
        self._unanswered.add(pending.number, self.excuse(pending.exchange))
        reason = {"requestId": pending.number, "reason": "the request was cancelled or timed out"}
        self._in_background(jsonrpc.notification(CANCELLED_NOTICE, reason))

    async def listen(self, params: Mapping[str, Any], take: Callable[[str, Raw], None]) -> None:
        self._check_open()
        number = self._next_id()
        self._listening[number] = take
        try:
            reply = await self._cancellable(jsonrpc.request(number, LISTEN, params), Pending(number, LISTEN))
        finally:
            del self._listening[number]
        if reply.error is not None:
            raise reply.error

    def _check_open(self) -> None:
        if self.closed:
            raise NotSent(f"the server {self._reason}")

    def _in_background(self, data: bytes) -> None:
        if not self.closed:
            self._background.run(partial(self._transmit, data))

    # Incoming

    def _receive(self, data: bytes) -> None:
        """Handle one message from the channel. Never raises; unusable messages are counted as unexpected."""
        if self.closed:
            return
        try:
            self._act_on(data)
        except Exception as error:  # noqa: BLE001 - one message must not fail the ones after it
            self._failed_at(error)

    def _listened(self, listener: asyncio.Task[None]) -> None:
        """End the connection if the task that listens to the server failed: its messages would get lost."""
        error = None if listener.cancelled() else listener.exception()
        if error is not None:
            self._failed_at(error)
            self._lost("sent something that the gateway failed to read")

    def _failed_at(self, error: BaseException) -> None:
        """Log an internal error that occurred while the gateway read a message."""
        self.unexpected.note("message that the gateway failed to read", kind := type(error).__name__)
        logger.bind(upstream=self._config.name).error("{} while reading a message\n{}", kind, where(error))

    def _act_on(self, data: bytes) -> None:
        message = read(data, self._context, self.unexpected)
        if message is None:
            self._unreadable(data)
            return
        self._heard = True
        if message.is_response:
            if not self._answered(message):
                self.unexpected.noise.weigh(len(data), useful=True)
        elif message.is_request:
            self._asked(message)
        else:
            self._told(message.method, message.params)

    def _asked(self, message: jsonrpc.Message) -> None:
        if self.info is not None and self.info.era == "modern":
            self.unexpected.note("request from a modern server")  # the era has none, and forbids answering them
            return
        answer = answer_to(message, self._questions, self.unexpected)
        if answer is not None:
            self._in_background(jsonrpc.one_line(answer))

    def in_flight(self) -> list[Exchange]:
        return [it.exchange for it in self._pending.values() if it.exchange is not None and it.sent]

    def _unreadable(self, data: bytes) -> None:
        """Fail the pending request whose id an invalid message carries, if there is one."""
        pending = self._pending.get(request_answered(data))
        if pending is not None and pending.sent:
            pending.fail(unreadable(data))

    def _answered(self, message: jsonrpc.Message) -> bool:
        """Handle a response. Returns whether it completed a request."""
        number = message.number or own_id(message.id)
        pending = self._pending.get(number)
        self._unanswered.answered(number)
        if number in self._given_up:
            self._given_up.remove(number)
        elif pending is None or not pending.sent:
            issued = 0 < number <= self._last_id and pending is None
            self.unexpected.note("late or repeated response" if issued else "response to no request")
        elif pending.done:
            self.unexpected.note("late or repeated response")
        else:
            pending.resolve(message)
            return True
        return False

    def _told(self, method: str, params: Raw) -> None:
        if method == PROGRESS:
            pending = self._pending.get(id_in(params, "progressToken"))
            if pending is None or not pending.progress(params):
                self.unexpected.note("progress of no request")
        elif method == CANCELLED_NOTICE:
            pending = self._pending.get(id_in(params, "requestId"))
            if self._questions.cancel(raw_id_in(params, "requestId")):
                return
            if pending is None or pending.method != LISTEN or pending.done:
                self.unexpected.note("cancellation of what only the gateway may cancel")
            else:
                pending.complete(Reply(b"{}"))
        elif method in LISTENED:
            take = self._listening.get(listen_id(params))
            if take is not None:
                take(method, params)
        else:
            self._context.on_notification(method, params, whose(method, self.in_flight()))

    # The end

    def _lost(self, reason: str) -> None:
        """End the connection after the loss of its channel. `reason` continues "the server …"."""
        if self.closed:
            return
        self.closed, self._reason = True, reason
        self._ended.set()
        self._releasing = asyncio.get_running_loop().create_task(self._release())
        for pending in list(self._pending.values()):  # a copy: a request that fails removes itself
            text = f"the server {reason}"
            pending.fail(OutcomeUnknown(text) if pending.sent else NotSent(text))
        self._unanswered.lost()
        self._questions.end()
        self._background.cancel()
        if self._listener is not None:
            self._listener.cancel()
        self.unexpected.report(reason)
