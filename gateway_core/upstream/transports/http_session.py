"""One Streamable HTTP session: its headers, its id, its end, and messages that the server initiates.

`HttpSession` sends single HTTP requests, and handles messages that are not responses to the gateway's requests.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from loguru import logger
from msgspec import Raw

from gateway_core.exchange.exchange import Exchange
from gateway_core.exchange.hops import CONTEXT_KEYS
from gateway_core.http1.client import field_names
from gateway_core.http1.client.response import ClientResponse
from gateway_core.http1.media_types import EVENT_STREAM, JSON
from gateway_core.internal_errors import where
from gateway_core.mcp import jsonrpc
from gateway_core.mcp.header_values import encode_header_value
from gateway_core.mcp.jsonrpc import Message
from gateway_core.mcp.names import (
    CANCELLED_NOTICE,
    MCP_METHOD_HEADER,
    MCP_NAME_HEADER,
    MCP_PARAM_HEADER_PREFIX,
    MCP_PROTOCOL_VERSION_HEADER,
    MCP_SESSION_ID_HEADER,
    MODERN_PROTOCOL_VERSIONS,
    NAME_MEMBERS,
)
from gateway_core.upstream.base import ClientContext, SessionEnded
from gateway_core.upstream.messages.noise import Noisy
from gateway_core.upstream.messages.questions import ServerQuestions
from gateway_core.upstream.messages.sends import FAREWELL, background_sends
from gateway_core.upstream.messages.unexpected import UnexpectedMessages, answer_to
from gateway_core.upstream.network.cookies import Cookies
from gateway_core.upstream.notifications.logs import whose
from gateway_core.upstream.pending import raw_id_in
from gateway_core.upstream.transports.answers import MAX_ERROR_BODY, failure_in, read_body, read_events, reply_to
from gateway_core.upstream.transports.client import HttpClient
from gateway_core.upstream.transports.events import EventParser

_PARAM: Final = MCP_PARAM_HEADER_PREFIX.lower()
LOST: Final = "the server has ended the session"
_SESSION_ID: Final = re.compile(r"[\x21-\x7e]{1,4096}")


class HttpSession:
    """One session's state and its single HTTP requests."""

    def __init__(
        self,
        name: str,
        http: HttpClient,
        context: ClientContext,
        in_flight: Callable[[], Iterable[Exchange]],
        on_end: Callable[[], None],
    ) -> None:
        """`in_flight` returns the calls that were sent on it. `on_end` is called once when it ends."""
        self.version = ""
        """The negotiated protocol version; empty before the negotiation."""
        self.id: str | None = None
        """The session id from a legacy server; None if the server keeps no sessions."""
        self.ended = asyncio.Event()
        self.over = False
        """Whether `ended` is set; read for each request."""
        self.why_ended = ""
        self.cookies: Final = Cookies()
        self.unexpected: Final = UnexpectedMessages(name)
        self._name = name
        self._http = http
        self.context = context
        self._in_flight = in_flight
        self._on_end = on_end
        self._questions = ServerQuestions(name, context, in_flight, self.post)
        self.background: Final = background_sends(name)
        """Sends messages that no caller waits for."""

    @property
    def modern(self) -> bool:
        return self.version in MODERN_PROTOCOL_VERSIONS

    def begin(self, response: ClientResponse) -> None:
        """Take the session id from the response to `initialize` (2025-11-25, Session Management)."""
        session_id = response.headers.get(MCP_SESSION_ID_HEADER, "")
        self.id = session_id if _SESSION_ID.fullmatch(session_id) else None

    def adopt(self, protocol_version: str) -> None:
        """Use this protocol version from now on. A modern one has no session id."""
        self.version = protocol_version
        if self.modern:
            self.id = None

    def end(self, why: str) -> None:
        if not self.over:
            self.over, self.why_ended = True, why
            self.ended.set()
            self._on_end()
            self._questions.end()
            self.unexpected.report(why)

    def listened(self, listener: asyncio.Task[None]) -> None:
        """Called when the task that listens to the server ends.

        If it failed, end the session: otherwise the server would look healthy while its messages get lost.
        """
        error = None if listener.cancelled() else listener.exception()
        if error is not None:
            kind = type(error).__name__
            logger.bind(upstream=self._name).error("{} while listening to the server\n{}", kind, where(error))
            self.end("the gateway failed to read its stream")

    async def close(self) -> None:
        """End the session and wait for background sends, at most `FAREWELL` seconds."""
        if self.id is not None and not self.over:
            self.background.run(self._delete)
        self.end("closed")
        await self.background.close(FAREWELL)

    async def _delete(self) -> None:
        # A server may answer 405; the session then ends when the server expires it.
        (await self.open("DELETE", {})).close()

    async def open(
        self,
        verb: str,
        own: Mapping[str, str],
        body: bytes | None = None,
        *,
        before_send: Callable[[], None] | None = None,
        fresh: bool = False,
        last: bool = False,
    ) -> ClientResponse:
        """Send one HTTP request with this session's headers and `own`.

        `fresh`: send no version and no session id. The caller reads and closes the response, which may have any status.
        Raises `NotSent` and `OutcomeUnknown`.
        """
        headers = self._headers(verb, json=body is not None, fresh=fresh)
        return await self._http.open(
            verb, {**headers, **own}, body=body, before_send=before_send, last=last, cookies=self.cookies
        )

    def _headers(self, verb: str, *, json: bool, fresh: bool = False) -> dict[str, str]:
        headers: dict[str, str] = {field_names.ACCEPT: EVENT_STREAM if verb == "GET" else f"{JSON}, {EVENT_STREAM}"}
        if json:
            headers[field_names.CONTENT_TYPE] = JSON
        if not fresh:
            headers[MCP_PROTOCOL_VERSION_HEADER] = self.version
            if self.id is not None:
                headers[MCP_SESSION_ID_HEADER] = self.id
        return headers

    async def ask(
        self,
        method: str,
        params: Mapping[str, Any],
        own: Mapping[str, str],
        body: bytes,
        before_send: Callable[[], None],
    ) -> ClientResponse:
        """POST a request. Raises `NotSent` and `OutcomeUnknown`.

        `params`: those in `body`. `own`: trace context, and `Mcp-Param-*` headers, which legacy servers do not get.
        """
        headers = self.headers_of(method, params)
        for key, value in own.items():
            if key in CONTEXT_KEYS or (self.modern and key.lower().startswith(_PARAM)):
                headers[key] = value
        return await self._http.open("POST", headers, body=body, before_send=before_send, cookies=self.cookies)

    def headers_of(self, method: str, params: Mapping[str, Any]) -> dict[str, str]:
        """The headers of a request that `ask` sends, without `Mcp-Param-*`.

        A modern request repeats the name of its tool or prompt, or the URI of its resource (Standard Request Headers).
        """
        headers = self._headers("POST", json=True)
        if self.modern:
            headers[MCP_METHOD_HEADER] = method
            member = NAME_MEMBERS.get(method)
            name = params.get(member) if member is not None else None
            if isinstance(name, Raw):
                name = jsonrpc.text(name, member or "")
            if name is not None:
                headers[MCP_NAME_HEADER] = encode_header_value(name)
        return headers

    async def post(self, body: bytes, *, last: bool = False) -> None:
        """POST a message that has no response. Raises `DeliveryError`, or the `RpcError` with which the server refuses.

        `last`: close the connection after this message.
        """
        response = await self.open("POST", {}, body, last=last)
        try:
            if 200 <= response.status <= 299:
                await read_body(response, MAX_ERROR_BODY)
                return
            failure = await failure_in(response, None, in_session=self.id is not None)
            if failure.ends_session and self.id is not None:
                raise SessionEnded(LOST)
            reply = reply_to(response, failure)
            assert reply.error is not None
            raise reply.error
        except SessionEnded as end:
            self.end(end.reason)
            raise
        finally:
            response.close()

    async def events(self, response: ClientResponse, parser: EventParser, take: Callable[[bytes], bool]) -> bool:
        """`read_events`; ends the session if the server is noisy."""
        try:
            return await read_events(response, parser, take, self.unexpected)
        except Noisy as noisy:
            self.end(noisy.reason)
            raise

    def other(self, message: Message, size: int, exchange: Exchange | None = None) -> bool:
        """Handle a message other than awaited responses and progress; `exchange`: the call on whose stream it came.

        `size`: its bytes.

        Returns False, because such a message never ends a stream.
        """
        if message.is_response:
            self.unexpected.noise.weigh(size)
            self.unexpected.note("response to no request")
        elif message.is_request:
            self._asked(message, exchange)
        elif message.method == CANCELLED_NOTICE:
            if not self._questions.cancel(raw_id_in(message.params, "requestId")):
                self.unexpected.note("cancellation of what only the gateway may cancel")
        else:
            self.context.on_notification(
                message.method, message.params, exchange or whose(message.method, self._in_flight())
            )
        return False

    def _asked(self, message: Message, exchange: Exchange | None) -> None:
        if self.modern:
            self.unexpected.note("request from a modern server")  # the modern era has no such requests
        elif (answer := answer_to(message, self._questions, self.unexpected, exchange)) is not None:
            self.background.run(lambda: self.post(answer))
