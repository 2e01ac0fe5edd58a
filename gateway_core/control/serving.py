"""Serves endpoints: checks the right, decodes query and body, calls the handler, and writes what it returns."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from typing import Any, Final, Protocol, TypeVar

import msgspec
from aiohttp import web

from gateway_core.control.access import Access
from gateway_core.control.endpoint import AnyEndpoint, Asked, Endpoint, Event, EventStream, Problem, WebPage
from gateway_core.control.responses import json_response, last_on_connection
from gateway_core.http1.media_types import EVENT_STREAM, JSON
from gateway_core.mcp import jsonrpc

T = TypeVar("T")
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Clean = Callable[[bytes], bytes]

MAX_BODY: Final = 2 * 1024 * 1024
"""Bytes of the body of a request. A configuration file of the largest size fits, written as JSON."""
KEEP_ALIVE: Final = 15.0
"""Seconds of silence after which an event stream gets a comment, so that proxies keep it."""
STALL: Final = 10.0
"""Seconds that a reader of an event stream may take nothing before its connection is aborted."""


class Connections(Protocol):
    """What endpoints need from the listener."""

    def give_time(self, request: web.Request, seconds: float) -> None:
        """Let the connection of a request last `seconds` from now."""

    def ended(self, request: web.Request) -> asyncio.Event | None:
        """The event that is set when the connection of a request ends. None if it has ended."""

    def keep(self, request: web.Request) -> asyncio.Event | None:
        """Keep the connection of a request for an event stream. None if too many are open.

        Returns the event that is set when the connection ends.
        """


class Serving:
    """Makes handlers of endpoints."""

    def __init__(self, access: Access, connections: Connections, clean: Clean) -> None:
        """`clean`: removes secrets of the gateway from an encoded answer."""
        self._access = access
        self._connections = connections
        self._clean = clean

    def handler_of(self, endpoint: AnyEndpoint) -> Handler:
        """The handler of an endpoint."""

        async def handler(request: web.Request) -> web.StreamResponse:
            try:
                if isinstance(endpoint, WebPage):
                    return await endpoint.handler(request)
                return await self._serve(request, endpoint)
            except Problem as problem:
                return json_response(problem.body, problem.status, problem.headers, self._clean)

        return handler

    async def _serve(
        self, request: web.Request, endpoint: Endpoint[Any, Any, Any] | EventStream[Any, Any]
    ) -> web.StreamResponse:
        sender = self._access.check(request, endpoint.right)
        asked: Asked[Any, Any] = Asked(
            request.match_info,
            _query(request, endpoint),
            await _body(request, endpoint.body) if isinstance(endpoint, Endpoint) and endpoint.body else None,
            sender.right,
            lambda seconds: self._connections.give_time(request, seconds),
            sender.browser,
            request.headers.get("Last-Event-ID", ""),
        )
        if isinstance(endpoint, EventStream):
            return await self._stream(request, endpoint, asked)
        handling = endpoint.handler(asked)
        answer = await (self._while_connected(request, handling) if endpoint.ends_with_connection else handling)
        return json_response(answer, endpoint.status(answer), clean=self._clean)

    async def _while_connected(self, request: web.Request, handling: Awaitable[T]) -> T:
        """Wait for a handler, and cancel it when the client disconnects. Raises `Problem` then."""
        task = asyncio.ensure_future(handling)
        ended = self._connections.ended(request)
        gone = asyncio.create_task(_wait(ended), name="wait for the end of a connection")
        try:
            await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                return task.result()
        finally:
            gone.cancel()
            if not task.done():
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        raise Problem(499, "the client has disconnected")

    async def _stream(
        self, request: web.Request, endpoint: EventStream[Any, Any], asked: Asked[Any, None]
    ) -> web.StreamResponse:
        """Send events until the handler has no more, or the reader leaves, takes nothing, or may read no longer."""
        ended = self._connections.keep(request)
        if ended is None:
            raise Problem(503, "too many event streams are open; close one", {"Retry-After": "5"})
        events = await endpoint.handler(asked)
        gone = asyncio.create_task(ended.wait(), name="wait for the end of an event stream")
        headers = {"Content-Type": EVENT_STREAM, "X-Accel-Buffering": "no"}
        response = last_on_connection(web.StreamResponse(headers=headers))
        try:
            await response.prepare(request)
            async with contextlib.aclosing(_encoded(events, gone, self._clean)) as pieces:
                async for data in pieces:
                    if self._access.sender_of(request) != (asked.right, asked.browser):
                        break  # the browser has signed out
                    async with asyncio.timeout(STALL):
                        await response.write(data)
        except (TimeoutError, ConnectionError):
            if request.transport is not None:
                request.transport.abort()
        finally:
            gone.cancel()
            if (close := getattr(events, "aclose", None)) is not None:
                await close()
        return response


async def _wait(ended: asyncio.Event | None) -> None:
    """Wait for the end of a connection; None stands for one that has ended."""
    if ended is not None:
        await ended.wait()


def _query(request: web.Request, endpoint: Endpoint[Any, Any, Any] | EventStream[Any, Any]) -> Any:
    """The query of a request; None for an endpoint without one. Raises `Problem`."""
    given, kind = request.query, endpoint.query
    if endpoint.right == "open" and kind is None:
        return None  # probes may have any
    if unknown := given.keys() - set(getattr(kind, "__struct_fields__", ())):
        raise Problem(422, f"the query has an unknown parameter: {min(unknown)[:100]!r}")
    for key in given:
        if len(given.getall(key)) > 1:
            raise Problem(422, f"the query has the parameter {key[:100]!r} more than once")
    try:
        return None if kind is None else msgspec.convert(dict(given), kind, strict=False)
    except msgspec.ValidationError as error:
        raise Problem(422, f"the query is wrong: {error}") from None


async def _body(request: web.Request, kind: type[T]) -> T:
    """The body of a request, which must be JSON. Raises `Problem`."""
    if request.content_type != JSON or "Content-Encoding" in request.headers:
        raise Problem(415, "the body must be JSON, as the header Content-Type: application/json says")
    try:
        data = await request.read()
    except web.HTTPRequestEntityTooLarge:
        raise Problem(413, f"the body is larger than {MAX_BODY} bytes") from None
    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.ValidationError as error:
        raise Problem(422, f"the body is wrong: {error}") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Problem(400, "the body is not JSON") from None


async def _encoded(
    events: AsyncIterator[Event[Any]], gone: asyncio.Task[Any], clean: Clean
) -> AsyncGenerator[bytes, None]:
    """The bytes of a stream: a comment first, so that its reader sees that it is open."""
    yield b": open\n\n"
    following: asyncio.Future[Event[Any]] | None = None
    try:
        while not gone.done():
            following = following or asyncio.ensure_future(anext(events))
            done, _ = await asyncio.wait({following, gone}, timeout=KEEP_ALIVE, return_when=asyncio.FIRST_COMPLETED)
            if not done:
                yield b": alive\n\n"
            elif following in done:
                found, following = following, None
                try:
                    event = found.result()
                except StopAsyncIteration:
                    return
                data = clean(jsonrpc.encode(event.data))
                yield b"id: %b\nevent: %b\ndata: %b\n\n" % (event.id.encode(), event.event.encode(), data)
    finally:
        if following is not None:
            following.cancel()
            await asyncio.wait({following})
