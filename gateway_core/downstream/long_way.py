"""The long way: connections that aiohttp serves, as the sweep over all connections sees them.

Parse errors are answered without quoting what could not be parsed.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, cast

from aiohttp import StreamReader, web
from aiohttp.http_exceptions import LineTooLong
from aiohttp.streams import EMPTY_PAYLOAD

from gateway_core.downstream import short_way
from gateway_core.downstream.answer import Refusal
from gateway_core.downstream.head import MAX_HEADERS
from gateway_core.downstream.outflow import Outflow


class LongWay(web.RequestHandler):
    """One TCP connection that aiohttp serves."""

    def __init__(self, server: web.Server, farewell: Callable[[LongWay], None], **options: Any) -> None:
        """`farewell` is told when the connection is gone; `options` are aiohttp's."""
        super().__init__(server, **options)
        self._farewell = farewell
        self._wire: asyncio.Transport | None = None
        self._outflow = Outflow()
        self.admitted = False
        self.waiting_since: float | None = None
        """When the request began whose headers are not complete yet; None when there is none."""
        self.serving = False
        self._newest: StreamReader = EMPTY_PAYLOAD
        self._partial = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._wire = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._wire = None
        self._farewell(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.waiting_since is None and not self.serving:
            self.waiting_since = time.monotonic()
        # aiohttp's parser does not tell whether it holds half a header. The last byte does: a message ends with it,
        # or it is in a body, or else more of a header is to come.
        if len(data) > 1:
            self._parse(data[:-1])
        ended = self._parse(data[-1:])
        if data or ended:  # without data: aiohttp goes on with what it had put off
            self._partial = not ended and self._newest.is_eof()

    def _parse(self, data: bytes) -> bool:
        """Hand `data` to the parser; whether a message became complete."""
        count, in_body = self._request_count, not self._newest.is_eof()
        super().data_received(data)
        if self._request_count > count and self._messages:
            self._newest = self._messages[-1][1]
            in_body = True
        return in_body and self._newest.is_eof()

    def served(self) -> None:
        """A handler has ended; if half a header came meanwhile, its clock starts now."""
        self.serving = False
        if self._partial and not self._messages:
            self.waiting_since = time.monotonic()

    def sweep(self, now: float) -> None:
        """End the connection if it stalls."""
        wire = self._wire
        if wire is None:
            return
        if self.waiting_since is not None and now - self.waiting_since > short_way.HEADER_TIMEOUT:
            self.waiting_since = None
            if not wire.is_closing():
                wire.write(short_way.TIMED_OUT)
            self.force_close()
        if self._outflow.stalls(wire, now):
            wire.abort()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what is not HTTP; neither the answer nor the log quotes it."""
        del request, message
        if isinstance(exc, LineTooLong):
            return Refusal(431, "the request line or a header is too long", close=True).answer().response()
        if exc is not None and "Too many headers" in str(exc):
            return Refusal(431, f"more than {MAX_HEADERS} headers", close=True).answer().response()
        if status < 500:
            return Refusal(400, "this is not a valid HTTP request", close=True).answer().response()
        return Refusal(status, "the gateway failed to serve this request", close=True).answer().response()
