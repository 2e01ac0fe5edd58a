"""Streamable HTTP to an upstream: one MCP session, every message its own POST.

A *modern* request is self-contained: its headers mirror its body, and closing its response stream cancels it. A
*legacy* session has an id, a standalone GET stream for notifications (`listen.py`), and resumable streams.
`answers.py` interprets statuses and bodies, `http_session.py` holds what the messages of a session share, and
`client.py` draws the line between "not sent" and "outcome unknown". Sources: transports/streamable-http of
2026-07-28, transports of 2025-11-25.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any, Final

from msgspec import Raw

from gateway_core.api import Era
from gateway_core.config import LimitsConfig, UpstreamConfig
from gateway_core.errors import UPSTREAM_FAILED, DeliveryError, OutcomeUnknown, RpcError
from gateway_core.exchange.exchange import Exchange
from gateway_core.http1.client import field_names
from gateway_core.http1.client.response import ClientResponse
from gateway_core.http1.media_types import EVENT_STREAM
from gateway_core.inline.driver import in_task
from gateway_core.mcp import jsonrpc
from gateway_core.mcp.names import (
    CANCELLED_NOTICE,
    DISCOVER,
    INITIALIZE,
    LISTEN,
    MCP_METHOD_HEADER,
    PROGRESS,
    TOOLS_CALL,
)
from gateway_core.upstream.base import ClientContext, Connection, NoMcpAnswer, ServerInfo, SessionEnded, SessionGone
from gateway_core.upstream.messages.malformed import request_answered, unreadable
from gateway_core.upstream.messages.unexpected import read
from gateway_core.upstream.notifications.subscription import LISTENED, LegacyWatcher, ModernWatcher, announces_updates
from gateway_core.upstream.pending import Pending, id_in
from gateway_core.upstream.request_body import declared, filling, template, with_meta
from gateway_core.upstream.requests import Reply, Request, Template
from gateway_core.upstream.transports.answers import (
    ANSWERS,
    REFUSALS,
    failure_in,
    read_json,
    reply_in,
    reply_to,
)
from gateway_core.upstream.transports.client import HttpClient
from gateway_core.upstream.transports.events import EventParser
from gateway_core.upstream.transports.http_session import LOST, HttpSession
from gateway_core.upstream.transports.listen import stand_by
from gateway_core.upstream.transports.negotiation import negotiate
from gateway_core.upstream.transports.session_loss import PROBES, speaks_of_session

RESUMPTIONS: Final = 3
"""Consecutive attempts to resume a response stream without a new event id."""
PROBE_TIMEOUT: Final = 2.0
"""Seconds for each request that asks whether the server still knows the session."""
RESUME_DELAY: Final = 1.0
"""Seconds before each attempt, unless the server sent `retry:`."""


class HttpConnection(Connection):
    """One MCP session over Streamable HTTP."""

    def __init__(self, config: UpstreamConfig, limits: LimitsConfig, context: ClientContext, http: HttpClient) -> None:
        self.name = config.name
        self._http = http
        self._limit = limits.response_body
        self._context = context
        self._pending: dict[int, Pending] = {}
        self._session = HttpSession(config.name, http, context, self.in_flight, self._session_over)
        self.unexpected: Final = self._session.unexpected
        self._ids = itertools.count(1)
        self._listener: asyncio.Task[None] | None = None
        self._listening = asyncio.Event()
        """Set once a legacy server's standalone GET stream is open, or is known not to exist."""

    # -- life ---------------------------------------------------------------------------------------------------

    async def open(self, known_era: Era | None) -> ServerInfo:
        info = await negotiate(self, known_era, capabilities=self._context.capabilities)
        self.info = info
        if info.era == "modern":
            modern = self.watcher = ModernWatcher(info, self._context, self.listen)
            self._listen_with(modern.run())
            return info
        legacy = self.watcher = LegacyWatcher(info, self._context, self.request, self._listening)
        # A legacy server may send requests on the GET stream during a call, and wait for the answers.
        if legacy.kinds or self.stateful or announces_updates(info.capabilities):
            self._listen_with(stand_by(self._session, legacy, self._listening, self._is_lost, self._limit))
        else:
            self._listening.set()
        return info

    def _listen_with(self, work: Coroutine[Any, Any, None]) -> None:
        self._listener = asyncio.create_task(work, name=f"listen to {self.name}")
        self._listener.add_done_callback(self._session.listened)

    async def close(self) -> None:
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.cancel()
            await asyncio.wait({listener})
        await self._session.close()

    @property
    def noisy(self) -> bool:
        return self._session.unexpected.noise.given_up

    async def wait_closed(self) -> str:
        await self._session.ended.wait()
        return self._session.why_ended

    # -- requests -----------------------------------------------------------------------------------------------

    def deliver(
        self, request: Request, exchange: Exchange | None = None, headers: Mapping[str, str] | None = None
    ) -> Coroutine[Any, Any, Reply]:
        if self.closed:
            raise SessionGone(self._session.why_ended)
        assert self.info is not None, "open() comes first"
        method, number = request.method, next(self._ids)
        pending = Pending(number, method, exchange)
        cookies = self._session.cookies
        template = None if headers or cookies.any else self.template(request, exchange)
        if template is not None:
            body = template.body % filling(request, number)
            head = b"".join((template.head, b"%d\r\n" % len(body), request.carried.lines, b"\r\n"))
            sending = self._http.send(head, body, pending.mark_sent, cookies=cookies)
        else:
            # Always ask for progress, because it extends the deadline of the call.
            token, level = (None, "") if exchange is None else (number, exchange.log_level)
            capabilities = declared(exchange, self._context)
            params = with_meta(
                request.members, self.info, capabilities, request.complete_meta, token, log_level=level, key=request.key
            )
            body = jsonrpc.request(number, method, params)
            along = {**(headers or {}), **request.carried.headers}
            sending = self._session.ask(method, params, along, body, pending.mark_sent)
        return self._answered(sending, pending)

    def _make_template(self, request: Request, exchange: Exchange) -> Template | None:
        assert self.info is not None, "open() comes first"
        head = self._http.prepared(self._session.headers_of(request.method, request.params))
        body = template(request, self.info, declared(exchange, self._context))
        return None if head is None or body is None else Template(head, body)

    async def send(self, method: str, params: Mapping[str, Any]) -> Reply:
        """Send one request of the negotiation; see `handshakes.Wire`."""
        session, pending = self._session, Pending(next(self._ids), method)
        body = jsonrpc.request(pending.number, method, params)
        if method == INITIALIZE:
            sending = session.open("POST", {}, body, before_send=pending.mark_sent, fresh=True)
        else:
            sending = session.ask(method, params, {}, body, pending.mark_sent)
        return await self._answered(sending, pending)

    def adopt(self, protocol_version: str) -> None:
        """Use this protocol version from now on; see `handshakes.Wire`."""
        self._session.adopt(protocol_version)
        self.stateful = self._session.id is not None

    async def notify(self, method: str, params: Mapping[str, Any] | None = None) -> None:
        try:
            await self._session.post(jsonrpc.notification(method, params))
        except RpcError as error:
            raise NoMcpAnswer(f"it refused {method}: {error.message}") from None

    async def _answered(self, sending: Awaitable[ClientResponse], pending: Pending, *, probes: bool = False) -> Reply:
        """Send a request and return its reply; the request is pending until then.

        `probes`: the request was sent to find out whether the server still knows the session.
        """
        session, starts = self._session, pending.method == INITIALIZE
        self._pending[pending.number] = pending
        try:
            response = await sending
            body = response.body
            if body is not None and response.head.canonical and len(body) <= self._limit and not starts:
                reply = reply_in(body, pending.number, self._context)
            else:
                try:
                    await self._read(response, pending, starts, probes=probes)
                finally:
                    self._finish(response, pending)
                reply = pending.result()
            if reply.error is not None and not (starts or session.modern) and speaks_of_session(reply.error.message):
                await self._suspect(final=pending.method == TOOLS_CALL, probes=probes)
            return reply
        except SessionEnded as end:
            session.end(end.reason)
            raise
        except asyncio.CancelledError:
            # Modern: closing the stream cancels the request. Legacy: it does not, so a notification is needed;
            # `initialize` must not be cancelled.
            self.excuse(pending.exchange if pending.sent and not pending.done else None)
            negotiates = starts or pending.method == DISCOVER  # either may be abandoned once the other is answered
            if pending.sent and not session.modern and not negotiates and not self.closed:
                notice = jsonrpc.notification(CANCELLED_NOTICE, {"requestId": pending.number})
                # Servers built on the official Python SDK reset the connection after a cancellation.
                session.background.run(lambda: session.post(notice, last=True))
            raise
        finally:
            del self._pending[pending.number]

    def in_flight(self) -> list[Exchange]:
        return [it.exchange for it in self._pending.values() if it.exchange is not None and it.sent]

    def _session_over(self) -> None:
        """Take no more requests, and fail the requests that wait for a connection or an access token.

        The server would not know their session.
        """
        self.closed = True
        if self.stateful:
            for pending in self._pending.values():
                if not pending.sent:
                    pending.fail(SessionGone(self._session.why_ended))

    async def _suspect(self, *, final: bool, probes: bool) -> None:
        """Handle an answer that may mean that the session is lost. Raises `SessionEnded` if it is.

        `final`: the answer gives the outcome of the call. It is passed on even if the session is lost.
        """
        if probes or (await self._is_lost() and not final):
            raise SessionEnded(LOST)

    async def _is_lost(self) -> bool:
        """Ask the server whether it still knows the session. If not, the session ends."""
        await in_task()
        for method in PROBES:
            pending = Pending(next(self._ids), method)
            body = jsonrpc.request(pending.number, method, {})
            with contextlib.suppress(DeliveryError, TimeoutError):
                async with asyncio.timeout(PROBE_TIMEOUT):
                    sending = self._session.ask(method, {}, {}, body, pending.mark_sent)
                    await self._answered(sending, pending, probes=True)
            if self._session.over:
                return True
        return False

    async def _read(self, response: ClientResponse, pending: Pending, starts: bool, *, probes: bool) -> None:
        """Complete `pending` with the response. `starts`: the request was `initialize`."""
        session = self._session
        if response.status not in ANSWERS:
            in_session = not (starts or session.modern)
            failure = await failure_in(response, pending.number, in_session=in_session)
            if in_session and session.id is not None and failure.ends_session:
                raise SessionEnded(LOST)
            if in_session and failure.is_suspicious:
                final = failure.status in REFUSALS or (failure.ours and pending.method == TOOLS_CALL)
                await self._suspect(final=final, probes=probes)
            pending.complete(reply_to(response, failure))
            return
        if starts:
            session.begin(response)
            self.stateful = session.id is not None
        if response.is_json:
            await read_json(response, pending, self._context, self._limit)
        elif response.content_type == EVENT_STREAM:
            parser = EventParser(self._limit, self._context.account)
            if not await self._session.events(response, parser, lambda data: self._heard(data, pending)):
                await self._resume(parser, pending)
        else:
            raise NoMcpAnswer(f"HTTP {response.status}, but neither JSON nor an event stream")

    async def _resume(self, parser: EventParser, pending: Pending) -> None:
        """Resume a response stream that ended without the response (2025-11-25, Resumability and Redelivery).

        A legacy server may close the connection deliberately; resuming executes nothing again. Raises `OutcomeUnknown`.
        """
        last_id, retry, attempts = parser.last_id, parser.retry, 0
        while not self._session.modern and last_id and attempts < RESUMPTIONS:
            attempts += 1
            await asyncio.sleep(RESUME_DELAY if retry is None else max(0.01, retry / 1000))
            parser = EventParser(self._limit, self._context.account)
            try:
                response = await self._session.open("GET", {field_names.LAST_EVENT_ID: last_id})
            except DeliveryError:
                continue
            try:
                if response.status != 200 or response.content_type != EVENT_STREAM:
                    raise OutcomeUnknown(f"its answer's stream ended and cannot be resumed: HTTP {response.status}")
                if await self._session.events(response, parser, lambda data: self._heard(data, pending)):
                    return
            finally:
                response.close()
            if parser.last_id and parser.last_id != last_id:
                last_id, attempts = parser.last_id, 0
            retry = retry if parser.retry is None else parser.retry
        raise OutcomeUnknown("its answer's stream ended without the answer")

    def _finish(self, response: ClientResponse, pending: Pending) -> None:
        """Release the connection. Read the rest of the stream if the reply has arrived, else close it."""
        (response.spend if pending.done and not response.at_eof else response.close)()

    # -- what the server says -----------------------------------------------------------------------------------

    def _heard(self, data: bytes, pending: Pending) -> bool:
        """Handle one message of a request's stream; True for the response, which completes the request."""
        message = read(data, self._context, self._session.unexpected)
        if message is None:
            if request_answered(data) != pending.number:
                return False
            pending.fail(unreadable(data))
            return True
        if pending.is_answered_by(message):
            pending.resolve(message)
            return True
        if message.method != PROGRESS or not message.is_notification:
            return self._session.other(message, len(data), pending.exchange)
        if id_in(message.params, "progressToken") != pending.number or not pending.progress(message.params):
            self._session.unexpected.note("progress of no request")
        return False

    async def listen(self, params: Mapping[str, Any], take: Callable[[str, Raw], None]) -> None:
        session = self._session
        number = next(self._ids)
        body = jsonrpc.request(number, LISTEN, params)
        response = await session.open("POST", {MCP_METHOD_HEADER: LISTEN}, body)

        def heard(data: bytes) -> bool:
            message = read(data, self._context, session.unexpected)
            if message is None:
                return False
            if message.is_notification and message.method in LISTENED:
                take(message.method, message.params)
            elif not message.is_response:
                return session.other(message, len(data))
            elif message.failed:
                raise jsonrpc.error_of(message.error)
            return message.is_response  # the graceful end (basic/patterns/subscriptions)

        try:
            if response.status >= 500 or response.status in {401, 429}:
                raise OutcomeUnknown(f"HTTP {response.status}")
            if response.status != 200 or response.content_type != EVENT_STREAM:
                raise RpcError.of_gateway(UPSTREAM_FAILED, f"it has no such stream: HTTP {response.status}")
            await session.events(response, EventParser(self._limit, self._context.account), heard)
        finally:
            response.close()
