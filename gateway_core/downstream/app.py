"""The HTTP server that agents talk to: which request goes where, after the checks that every request passes.

`/mcp` and `/` are Streamable HTTP in both eras, `/sse` and `/messages` the older transport where it is switched on,
`/healthz` and `/readyz` are for operators and answer even when agents' connections are used up.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Final

from aiohttp import web
from loguru import logger

from gateway_core import jsonrpc
from gateway_core.bugs import internal_error, where
from gateway_core.downstream import sse
from gateway_core.downstream.agents import meta_of
from gateway_core.downstream.answer import Answer, Refusal
from gateway_core.downstream.connections import AgentServer
from gateway_core.downstream.head import MCP_PATHS, VERSION_HEADER, Head, HeadReader
from gateway_core.downstream.intake import Post, check_coding, check_header_size, message_of, read_message, target
from gateway_core.downstream.ladder import require_supported
from gateway_core.downstream.legacy_http import LegacyHttp
from gateway_core.downstream.long_way import LongWay
from gateway_core.downstream.modern import ModernHttp, is_modern
from gateway_core.downstream.security import canonical_address
from gateway_core.downstream.services import Services
from gateway_core.downstream.serving import Serving, Streaming
from gateway_core.downstream.short_way import AgentConnection
from gateway_core.downstream.stream import Accepts, Reply, Writer, event_stream
from gateway_core.errors import RpcError
from gateway_core.hosts import HostGuard
from gateway_core.jsonrpc import Message
from gateway_core.protocol import (
    INITIALIZE,
    LISTEN,
    MCP_METHOD_HEADER,
    MODERN_PROTOCOL_VERSIONS,
)

SHORT_BODY: Final = 256 * 1024
"""Bytes of a body up to which the short way waits for it to be complete."""
CHORES_EVERY: Final = 1.0
"""Seconds between two looks at what stalls or is unused."""
_ALWAYS_SERVED: Final = frozenset({"/healthz", "/readyz"})


class App:
    """Answers HTTP requests: those that aiohttp has read (`handle`), and those that came the short way (`begin`)."""

    def __init__(self, services: Services) -> None:
        config = services.config
        self._services = services
        self._guard = HostGuard(config.host, config.allowed_hosts, config.allowed_origins)
        self._modern = ModernHttp(services)
        self._legacy = LegacyHttp(services)
        self._sse = sse.SseHttp(services) if config.transport == "sse" else None
        heads = HeadReader(self._guard, min(SHORT_BODY, config.limits.request_body))
        self.connections = AgentServer(self.handle, heads, self.begin, _failed, config.max_connections)

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request, whatever it is."""
        connection = request.protocol
        assert isinstance(connection, LongWay)
        connection.waiting_since = None
        connection.serving = True
        try:
            found = await self._checked(request, connection)
            return found.response() if isinstance(found, Answer) else found
        except Refusal as refusal:
            return refusal.answer().response()
        except RpcError as error:
            return Refusal.of(error).answer().response()
        except ConnectionError:
            raise
        except Exception as error:  # noqa: BLE001 - aiohttp's own answer to a bug would quote the request
            failed = _failed(error)
            if request.writer.output_size:
                raise ConnectionAbortedError("an answer has begun that cannot be finished") from None
            return failed.answer().response()
        finally:
            connection.served()

    def begin(self, connection: AgentConnection, head: Head, body: bytes) -> Answer | Serving | Streaming | None:
        """Begin to serve a POST or a GET to the MCP endpoint; None sends it the long way. Never raises."""
        message = None
        try:
            if not connection.admitted:
                self._admit(connection)
            if not head.posts:
                return Streaming(self._legacy.get(head, connection.address, connection.begin_stream))
            message = message_of(body)
            return self._begin(Post(head, message, connection.address, connection.begin_stream, swept=True))
        except Refusal as refusal:
            return refusal.answer()
        except RpcError as error:
            return Refusal.of(error).answer()
        except Exception as error:  # noqa: BLE001 - one request's bug must not end the connection without a word
            return _failed(error, message).answer()

    def _admit(self, connection: AgentConnection | LongWay) -> None:
        if not self.connections.admit(connection):
            limit = self._services.config.max_connections
            refusal = Refusal.busy(f"{limit} connections are open, which is the limit")
            refusal.close = True
            raise refusal

    async def _checked(self, request: web.BaseRequest, connection: LongWay) -> Answer | web.StreamResponse:
        check_header_size(request)
        check_coding(request)
        authority, path = target(request)
        refused = self._guard.check(request.headers, authority)
        if refused is not None:
            raise Refusal(*refused)
        head = Head(request.headers)
        if path in _ALWAYS_SERVED:
            return self._operators(request, path)
        self._admit(connection)
        return await self._agents(request, head, path)

    async def _agents(self, request: web.BaseRequest, head: Head, path: str) -> Answer | web.StreamResponse:
        address = canonical_address(request.remote or "")
        if path in MCP_PATHS:
            if request.method == "POST":
                return await self._post(request, head, address)
            if request.method in {"GET", "DELETE"}:
                if head.once(VERSION_HEADER) in MODERN_PROTOCOL_VERSIONS:  # a session id means nothing to them
                    raise _wrong_method("POST")
                if request.method == "GET":
                    return await self._legacy.get(head, address, _stream_of(request))
                return self._legacy.delete(head, address)
            raise _wrong_method("GET, POST, DELETE")
        if self._sse is not None and path == sse.STREAM_PATH:
            if request.method != "GET":
                raise _wrong_method("GET")
            return await self._sse.get(request, head, address)
        if self._sse is not None and path == sse.MESSAGE_PATH:
            if request.method != "POST":
                raise _wrong_method("POST")
            return await self._sse.post(request, head, address)
        return Answer(jsonrpc.encode({"error": "nothing is here; the MCP endpoint is /mcp"}), 404)

    async def _post(self, request: web.BaseRequest, head: Head, address: str) -> Answer | web.StreamResponse:
        message = await read_message(request, head, self._services.config.limits.request_body)

        begin_stream = _stream_of(request)
        try:
            post = Post(head, message, address, begin_stream)
            found = self._begin(post)
            if found is None:
                return await self._modern.listen(request, post)
            if isinstance(found, Answer):
                accepts_json = not message.is_request or found.status != 200 or head.accepts().json
                return found if accepts_json else await _as_stream(found, begin_stream)
            return await _answered(found)
        except (Refusal, RpcError, ConnectionError):
            raise
        except Exception as error:  # noqa: BLE001 - the answer to a bug carries the request's id, too
            refusal = _failed(error, message)
            if request.writer.output_size:
                raise ConnectionAbortedError("an answer has begun that cannot be finished") from None
            raise refusal from None

    def _begin(self, post: Post) -> Answer | Serving | None:
        """Begin to serve a message; None for one that is answered by a stream of its own: `ModernHttp.listen` is due.

        Raises `Refusal`, `RpcError`.
        """
        message = post.message
        if "_meta" in message.members:
            try:
                post.meta = meta_of(message.members)
            except RpcError as error:
                raise Refusal(400, error, message=message) from None
        if (post.head.legacy and not post.meta) or not _speaks_modern(post):
            return self._legacy.post(post)
        if message.method == LISTEN and message.is_request:
            return None
        return self._modern.post(post)

    def _operators(self, request: web.BaseRequest, path: str) -> Answer:
        if request.method not in {"GET", "HEAD"}:
            raise _wrong_method("GET, HEAD")
        if path == "/healthz":
            return Answer(b'{"status":"ok"}')
        ready = self._services.ready()
        return Answer(b'{"ready":true}' if ready else b'{"ready":false}', 200 if ready else 503)


def _stream_of(request: web.BaseRequest) -> Callable[[], Awaitable[web.StreamResponse]]:
    """What begins the answer to a request as a stream of events. Raises `ConnectionError`."""

    async def begin_stream() -> web.StreamResponse:
        response = event_stream()
        await response.prepare(request)
        return response

    return begin_stream


async def _answered(serving: Serving) -> Answer | web.StreamResponse:
    """The answer on the long way, as the request's task and its stream give it. Raises `ConnectionError`."""
    try:
        answer = await serving.wait()
        if serving.reply.is_plain(answer):
            return answer
        serving.reply.conclude(answer.body)
        assert serving.reply.writer is not None
        return _begun(await serving.reply.writer)
    except BaseException:  # the agent has gone, or a bug: on this connection nothing more can be said
        serving.lost()
        raise


async def _as_stream(answer: Answer, begin_stream: Callable[[], Awaitable[Writer]]) -> web.StreamResponse:
    """An answer for an agent that accepts streams only."""
    reply = Reply(begin_stream, Accepts(json=False))
    reply.conclude(answer.body)
    assert reply.writer is not None
    return _begun(await reply.writer)


def _begun(writer: Writer | None) -> web.StreamResponse:
    if writer is None:
        raise ConnectionResetError("the agent left before its answer")
    assert isinstance(writer, web.StreamResponse), "the one that begin_stream made"
    return writer


def _failed(error: BaseException, message: Message | None = None) -> Refusal:
    """The answer to a request after a bug."""
    logger.error("{} while answering an agent\n{}", type(error).__name__, where(error))
    return Refusal(500, internal_error(), message=message, close=True)


def _wrong_method(allow: str) -> Refusal:
    return Refusal(405, f"this address answers {allow}", headers={"Allow": allow})


def _speaks_modern(post: Post) -> bool:
    """Which era a POST is of: modern `_meta` or a modern version header, else legacy (basic/versioning).

    `initialize` is legacy unless a modern version header is on it. Raises `Refusal` (400) for a version that is
    neither, outside a session.
    """
    head, message = post.head, post.message
    if message.method == INITIALIZE and head.headers.get(VERSION_HEADER) not in MODERN_PROTOCOL_VERSIONS:
        return False
    if is_modern(post.meta):
        return True
    if head.legacy:
        return False
    if MCP_METHOD_HEADER not in head.headers:
        try:
            require_supported(head.headers[VERSION_HEADER])
        except RpcError as error:
            raise Refusal(400, error, message=message) from None
    return True


class Server:
    """The listening socket, the agents on it, and their orderly end."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._app = App(services)
        self._listener: asyncio.Server | None = None
        self._chores: asyncio.Task[None] | None = None
        self._forget_changes: Callable[[], None] = lambda: None
        self.port = 0
        """The port that is listened on, once started."""

    @property
    def connections(self) -> int:
        """Agents' TCP connections, those above the limit not counted."""
        return self._app.connections.admitted

    async def start(self, host: str, port: int) -> None:
        """Listen; port 0 takes a free one. Raises `OSError` when the address cannot be used."""
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_server(self._app.connections, host, port, reuse_address=True, backlog=1024)
        self.port = self._listener.sockets[0].getsockname()[1]
        self._forget_changes = self._services.catalog.listen(self._changed)
        self._chores = loop.create_task(self._keep_house())

    async def stop_accepting(self) -> None:
        """Take no new connections, sessions, streams and requests (but lists); what is under way goes on."""
        self._services.gate.closing = True
        if self._listener is not None:
            self._listener.close()

    async def close(self, grace: float) -> None:
        """Wait up to `grace` seconds for requests in flight, end all streams with their last message, hang up."""
        await self.stop_accepting()
        await self._services.gate.wait_empty(grace)
        self._forget_changes()
        for subscription in list(self._services.subscriptions):
            subscription.end()
        for session in self._services.sessions:
            self._services.end_session(session)
        self._app.connections.pre_shutdown()
        await self._app.connections.shutdown(1.0)
        await self._services.settle(1.0)
        if self._chores is not None:
            self._chores.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._chores

    def _changed(self, kinds: frozenset[str]) -> None:
        for session in self._services.sessions:
            session.changed(kinds)

    async def _keep_house(self) -> None:
        while True:
            await asyncio.sleep(CHORES_EVERY)
            for chore in (self._app.connections.sweep, self._expire):
                try:
                    chore()
                except Exception as error:  # noqa: BLE001 - without these chores connections and sessions pile up
                    logger.error("{} while keeping house\n{}", type(error).__name__, where(error))

    def _expire(self) -> None:
        for session in self._services.sessions.expire():
            logger.debug("session of {} ended: unused for too long", session.owner)
            self._services.end_session(session)
