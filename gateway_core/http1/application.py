"""What the server asks of the application that it serves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeAlias

from gateway_core.http1.head import HttpError, RequestHead
from gateway_core.http1.response import Response
from gateway_core.http1.writer import ResponseStream


class Client(Protocol):
    """The connection that a request came on."""

    address: str
    """The client's address in its canonical form."""

    def admit(self) -> bool:
        """Count the connection against the limit; False if the limit is reached."""

    async def begin_stream(self, headers: Mapping[str, str]) -> ResponseStream:
        """Begin the response to the current request as a stream with status 200. Raises `ConnectionError`."""


class Completion(Protocol):
    """Something that completes later: a task, or what acts like one."""

    def add_done_callback(self, callback: Callable[[Any], object], /) -> None: ...


class PendingResponse(Protocol):
    """The response to a request, while it is being found."""

    @property
    def running(self) -> Completion:
        """Completes when `response` may be called."""

    def response(self) -> Response | asyncio.Task[Any] | None:
        """The response; or the task that still writes it as a stream; or None if the stream is complete.

        Called once. Raises what the request failed with.
        """

    def poll(self, now: float) -> None:
        """Called about once a second; `now` on the monotonic clock."""

    def lost(self) -> None:
        """The connection is lost; nothing more can be sent on it."""


Handler: TypeAlias = Callable[[Client, RequestHead, bytes], Response | PendingResponse]
"""Serves a request whose body is complete. May raise `HttpError`."""


class Application(Protocol):
    """Gives requests their meaning. No method may block."""

    def route(self, client: Client, head: RequestHead) -> Handler:
        """The handler of a request, before its body is read. Raises `HttpError`."""

    def refused(self, error: HttpError) -> Response:
        """The response to a request that is refused."""

    def failed(self, error: BaseException) -> Response:
        """The response to a request that failed because of a bug, which is logged here."""
