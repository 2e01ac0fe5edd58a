"""The interfaces between the HTTP server, its connections, and its application."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeAlias

from gateway_core.http1.certificate import ClientCertificate
from gateway_core.http1.head import HttpError, RequestHead
from gateway_core.http1.response import Response, ResponseHeads
from gateway_core.http1.writer import ResponseStream


class Deferred(Exception):
    """Raised by a handler: the next process is to serve the request, which had no effect yet."""


class Client(Protocol):
    """The connection that delivered a request."""

    address: str
    """The client's address in its canonical form."""
    network: str
    """The network that its share of every limit counts for, unless a request has another owner (`Route.owner`); see
    `shares.network_of`."""

    @property
    def secure(self) -> bool:
        """Whether the connection uses TLS."""

    @property
    def certificate(self) -> ClientCertificate | None:
        """The client's certificate, which the handshake has verified; None without one."""

    def admit(self) -> bool:
        """Count the connection against the limit; False if the limit is reached."""

    def defer(self, head: RequestHead, body: bytes) -> Response | PendingResponse:
        """Leave a request to the next process, which continues the connection; or the response that refuses it."""

    async def begin_stream(self, headers: Mapping[str, str]) -> ResponseStream:
        """Begin the response to the current request as a stream with status 200. Raises `ConnectionError`."""


class Completion(Protocol):
    """Something that completes later, such as a task."""

    def add_done_callback(self, callback: Callable[[Any], object], /) -> None: ...


class PendingResponse(Protocol):
    """The response to a request that is still being served."""

    @property
    def running(self) -> Completion:
        """Completes when `response` may be called."""

    def response(self) -> Response | asyncio.Task[Any] | None:
        """The response; the task that still streams it; or None if the stream is complete.

        Called once. Raises the error that the request failed with.
        """

    def poll(self, now: float) -> None:
        """Called about once a second; `now` on the monotonic clock."""

    def lost(self) -> None:
        """The connection is lost; nothing more can be sent on it."""


Handler: TypeAlias = Callable[[Client, RequestHead, bytes], Response | PendingResponse]
"""Serves a request whose body is complete. May raise `HttpError`."""


class Application(Protocol):
    """Routes and serves requests. No method may block."""

    def route(self, client: Client, head: RequestHead) -> Handler:
        """The handler of a request, before its body is read. Raises `HttpError`."""

    def claim(self, client: Client, owner: str, size: int) -> None:
        """Count `size` more bytes of a body that arrives in pieces; negative once they are no longer needed.

        `owner`: see `Route.owner`. Raises `HttpError` if there is no room for them.
        """

    def keep(self, client: Client, owner: str, size: int) -> bool:
        """Count `size` more bytes that a client has not read; negative once they are gone. False for no room.

        `owner`: see `Route.owner`.
        """

    def refused(self, error: HttpError) -> Response:
        """The response to a rejected request."""

    def failed(self, error: BaseException) -> Response:
        """Log a bug and return the response to the request that it broke."""


class ServerContext(Protocol):
    """The part of `server.HttpServer` that a connection uses."""

    application: Application
    heads: ResponseHeads
    max_body: int
    draining: bool

    def opened(self, connection: Any) -> bool:
        """Register a new connection; False if there are too many even to refuse it with a response."""

    def admit(self, connection: Any) -> bool:
        """Count a connection against the limit; False if the limit is reached."""

    def pause_for(self, owner: str, size: int) -> float:
        """Count a piece of an incomplete body; returns the seconds for which its connection should not be read."""

    def route_late(self, client: Client, head: RequestHead, body: bytes) -> Response | PendingResponse:
        """A `Handler` that routes a complete request before it serves it."""

    def closed(self, connection: Any) -> None:
        """Forget a connection."""
