"""One TCP connection to the server, which serves its requests in order.

The application chooses a handler by the head alone, so that it can reject a request before its body is read. The
handler gets the complete body and returns a `Response`, or a `PendingResponse` that the connection waits for. Meanwhile
the connection reads a bounded part of later requests.
"""

from __future__ import annotations

import asyncio
import math
import socket
import time
from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar, Final, cast

from gateway_core.http1.address import canonical_address
from gateway_core.http1.application import Deferred, Handler, PendingResponse, ServerContext
from gateway_core.http1.body import SLICE_COST
from gateway_core.http1.certificate import ClientCertificate
from gateway_core.http1.flow import DROPPED, MAX_AHEAD, REST, ReadFlow
from gateway_core.http1.head import HttpError, RequestHead
from gateway_core.http1.reader import RequestReader
from gateway_core.http1.response import Response
from gateway_core.http1.writer import ResponseStream, ResponseWriter
from gateway_core.limits.shares import network_of

HEAD_TIMEOUT: Final = 10.0
BODY_TIMEOUT: Final = 30.0
"""Seconds from connecting, or from a request's first byte, to the end of its head; from there to that of its body."""
IDLE_TIMEOUT: Final = 75.0
"""Seconds that a connection may stay open between requests."""
LINGER: Final = 2.0
"""Seconds that a client has to read a last response before the connection is closed."""


class ServerConnection(asyncio.Protocol):
    """One connection from a client."""

    __slots__ = (
        *("_admitted", "_ending", "_flow", "_fresh", "_handler", "_head", "_idle_since", "pending"),
        *("_processing", "_reader", "_server", "_since", "_stream", "_transport", "_writer", "_yielded"),
        *("address", "network"),
    )

    secure: ClassVar[bool] = False  # `handshake.TlsConnection` is the one with TLS

    def __init__(self, server: ServerContext) -> None:
        self._server = server
        self._transport: asyncio.Transport | None = None
        self._reader = RequestReader(partial(server.application.claim, self))
        self._head: RequestHead | None = None
        """The head of the request being read or served."""
        self._handler: Handler | None = None
        """The handler of the request whose body is incomplete."""
        self.pending: PendingResponse | None = None
        self._stream: ResponseStream | None = None
        self._processing = self._admitted = False
        self._flow, self._ending = ReadFlow(), False  # while it ends, input is dropped instead of read as requests
        self._since: float | None = None
        """When the current wait for a head or body, or the lingering, began; None between requests."""
        self._fresh = True
        """Whether a request came since the last poll; otherwise the connection is idle since `_idle_since`."""
        self._idle_since = 0.0
        self._writer: ResponseWriter | None = None
        self._yielded = False
        """Whether buffered requests wait for the next turn of the event loop, or until the client reads responses."""
        self.address = self.network = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        wire = self._transport = cast(asyncio.Transport, transport)  # uvloop's transports have other bases
        self._flow.attach(wire)
        self._writer = ResponseWriter(wire, self._server.heads, partial(self._server.application.keep, self))
        self.address = canonical_address(str(peer[0]) if (peer := wire.get_extra_info("peername")) else "")
        self.network = network_of(self.address)
        if (sock := wire.get_extra_info("socket")) is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self._since = time.monotonic()
        if not self._server.opened(self):
            wire.abort()

    def connection_lost(self, exc: BaseException | None) -> None:
        self._ending = True
        self._transport = self._handler = self._head = self._stream = None
        self._flow.attach(None)
        self._reader.drop()
        self._server.closed(self)
        if self._writer is not None:
            self._writer.lost()
        pending, self.pending = self.pending, None
        if pending is not None:
            pending.lost()

    # -- requests -----------------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        if self._ending:
            self._flow.pause_for(self._server.pause_for(self.network, len(data) // DROPPED))
            return
        self._reader.feed(data)
        if self.pending is None and not self._yielded:
            self._process()
        elif len(self._reader.buffer) > MAX_AHEAD:
            self._flow.pause()
        if self._handler is not None:
            self._flow.pause_for(self._server.pause_for(self._reader.owner or self.network, len(data)))

    def _process(self) -> None:
        """Serve the next buffered request, if it is complete; others, or more of its body, follow after `REST`."""
        if self._processing or self.pending is not None or self._ending:
            return
        self._processing, seconds = True, REST
        try:
            try:
                request = self._read()
            except HttpError as error:
                self._refuse(error)
            except Exception as error:  # noqa: BLE001 - a bug ends its request, with a response
                self._send(self._server.application.failed(error), close=True)
            else:
                if request is not None:
                    self._serve(*request)
                elif self._reader.behind:
                    seconds = max(REST, self._server.pause_for(self._reader.owner or self.network, SLICE_COST))
                else:
                    return
            if self._reader.buffer and self.pending is None and not self._ending:
                self._flow.pause()  # until `_next`
                self._yielded = True
                asyncio.get_running_loop().call_later(seconds, self._next)
        finally:
            self._processing = False

    def _read(self) -> tuple[Handler, RequestHead, bytes] | None:
        """The next request with its handler; None while it is incomplete. Raises `HttpError`."""
        reader, head, handler = self._reader, self._head, self._handler
        if head is None or handler is None:
            head = self._head = reader.head()
            if head is None:
                if self._since is None and reader.buffer:
                    self._since = time.monotonic()
                return None
            handler = self._server.application.route(self, head)
        body = reader.body(head, self._server.max_body)
        if body is not None:
            return handler, head, body
        if self._handler is None:
            self._handler, self._since = handler, time.monotonic()
            if head.expects_continue and self._writer is not None:
                self._writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        return None

    def _serve(self, handler: Handler, head: RequestHead, body: bytes) -> None:
        self._handler, self._fresh, self._since = None, True, None
        application = self._server.application
        try:
            found = handler(self, head, body)
        except HttpError as error:
            found = application.refused(error)
        except Deferred:
            found = self.defer(head, body)
        except Exception as error:  # noqa: BLE001 - a bug ends its request, with a response
            found = application.failed(error)
        if isinstance(found, Response):
            self._send(found)
        else:
            self.pending = found
            found.running.add_done_callback(self._completed)

    def _refuse(self, error: HttpError) -> None:
        """Reject the request being read. The connection stays open if its complete body can be skipped."""
        response, head = self._server.application.refused(error), self._head
        if head is None or error.close or not self._reader.skip(head):
            self._send(response, close=True)
        else:
            self._fresh, self._since = True, None
            self._send(response)

    # -- responses ----------------------------------------------------------------------------------------------

    def _send(self, response: Response, *, close: bool = False) -> None:
        writer, head, self._head = self._usable(), self._head, None
        if self._reader.claimed:
            self._reader.give_back()
        if writer is None:
            self._ending = True
        elif writer.send(response, head, close=close) or self._server.draining:
            self._linger(unread=close)

    def _usable(self) -> ResponseWriter | None:
        """The writer; None if the connection is closing."""
        transport = self._transport
        return None if transport is None or transport.is_closing() else self._writer

    def _completed(self, _: object) -> None:
        """Send the pending response, which is ready."""
        pending = self.pending
        if pending is None:  # the connection is lost
            return
        try:
            found = pending.response()
        except (asyncio.CancelledError, ConnectionError):  # the gateway is stopping, or the client has left
            self.abort()
            return
        except Exception as error:  # noqa: BLE001 - a bug ends its request, with a response
            found = self._server.application.failed(error)
        if isinstance(found, Response) and self._stream is not None:  # a head was sent already
            self.abort()
        elif isinstance(found, Response):
            self.pending = None
            self._send(found)
            if self._yielded or self._reader.buffer or self._flow.paused:
                self._next()
        elif found is None:
            self._end_stream()
        else:
            found.add_done_callback(self._streamed)

    def _streamed(self, task: asyncio.Task[Any]) -> None:
        """End the stream after its writing task."""
        if self.pending is None:
            return
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, ConnectionError):
            self._server.application.failed(error)
        (self.abort if error is not None or task.cancelled() else self._end_stream)()

    def _end_stream(self) -> None:
        writer, stream = self._usable(), self._stream
        self._stream = self.pending = self._head = None
        self._reader.give_back()
        if writer is None or stream is None:
            self.abort()
            return
        stream.end()
        if stream.close or self._server.draining:
            self._linger()
        self._next()

    def _next(self) -> None:
        if self._writer is not None and self._writer.paused:
            return
        self._yielded = False
        self._flow.resume()
        if self._reader.buffer:
            self._process()

    def admit(self) -> bool:
        self._admitted = self._admitted or self._server.admit(self)
        return self._admitted

    def defer(self, head: RequestHead, body: bytes) -> Response | PendingResponse:
        error = HttpError(503, "the gateway is restarting", headers={"Retry-After": "2"}, close=True)
        return self._server.application.refused(error)

    @property
    def certificate(self) -> ClientCertificate | None:
        return None

    async def begin_stream(self, headers: Mapping[str, str]) -> ResponseStream:
        writer, head = self._usable(), self._head
        if writer is None or head is None or self._stream is not None:
            raise ConnectionResetError("the connection is lost")
        self._stream, self._head = writer.begin_stream(headers, head), None  # the head is not kept with the stream
        self._reader.forget()
        return self._stream

    def pause_writing(self) -> None:
        self._yielded = True
        if self._writer is not None:
            self._writer.pause(self._reader.owner)

    def resume_writing(self) -> None:
        if self._writer is not None:
            self._writer.resume()
            self._next()

    def reroute(self) -> None:
        """Route the next request again, and one whose body is incomplete: the application has changed."""
        self._reader.forget()
        if self._handler is not None:
            self._handler = self._server.route_late

    # -- the end ------------------------------------------------------------------------------------------------

    @property
    def idle_since(self) -> float | None:
        """When it became idle (monotonic, to the second), also amid a request; None while one is served or answered."""
        if self.pending is not None or (self._writer is not None and self._writer.unsent):
            return None
        return self._since if self._since is not None else math.inf if self._fresh else self._idle_since

    def poll(self, now: float) -> None:
        """End the connection if it stalls or has been idle for too long; `now` on the monotonic clock."""
        transport, writer, since = self._transport, self._writer, self._since
        if transport is None or writer is None:
            return
        waited = 0.0 if since is None else now - since
        if writer.stalled(now):
            transport.abort()
        elif self.pending is not None:
            self.pending.poll(now)
        elif self._ending:
            if waited > LINGER and not writer.unsent:
                (transport.close if self.secure else transport.abort)()
        elif self._handler is not None:
            if waited > BODY_TIMEOUT:
                self._refuse(HttpError(408, f"the body did not arrive within {BODY_TIMEOUT:g} seconds"))
        elif since is not None:
            if waited > HEAD_TIMEOUT:
                self._refuse(HttpError(408, f"no request arrived within {HEAD_TIMEOUT:g} seconds"))
        elif self._fresh:
            self._fresh = False
            self._idle_since = now
            self._reader.forget()
        elif now - self._idle_since > IDLE_TIMEOUT:
            self.close()

    def _linger(self, *, unread: bool = False) -> None:
        """Close once everything is sent; drop what still arrives (`unread`), so that no reset destroys the response."""
        transport, writer = self._transport, self._writer
        self._reader.drop()
        self._handler, self._ending = None, True
        if transport is None or writer is None or transport.is_closing():
            return
        self._since = time.monotonic()
        if transport.can_write_eof():
            transport.write_eof()
        elif not (unread or writer.unsent):  # TLS has no half-close; otherwise `poll` closes
            transport.close()
            return
        self._flow.resume()

    def close(self) -> None:
        """Close once everything is sent."""
        if self.secure:
            self._linger()
        elif self._transport is not None:
            self._ending = True
            self._transport.close()

    def give_way(self) -> None:
        (self.abort if self.secure else self.close)()  # at once; closing TLS waits for the peer

    def abort(self) -> None:
        """Close without sending the rest."""
        self._ending = True
        if self._transport is not None:
            self._transport.abort()
