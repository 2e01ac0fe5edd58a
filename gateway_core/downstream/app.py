"""The HTTP server for agents: checks every request and routes it to a handler.

`/mcp` and `/` serve Streamable HTTP in both eras; `/sse` and `/messages` serve the older transport if it is enabled.
`/healthz` and `/readyz` are for operators. They and preflights are answered even when the connection limit is reached.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from typing import Final

from loguru import logger
from msgspec import Raw

from gateway_core.catalog import Catalog
from gateway_core.config import ProxyConfig
from gateway_core.downstream.admission import require_supported
from gateway_core.downstream.agents import NO_META, meta_of
from gateway_core.downstream.batch import is_batch
from gateway_core.downstream.browsers import cors, page
from gateway_core.downstream.calls.gate import Gate
from gateway_core.downstream.http_errors import RpcHttpError, busy, response_of
from gateway_core.downstream.legacy_http import LegacyHttp
from gateway_core.downstream.modern import ModernHttp, is_modern
from gateway_core.downstream.post import Post, message_of
from gateway_core.downstream.request_headers import VERSION_FIELD, accepts, check_json, is_legacy
from gateway_core.downstream.sessions.sessions import Sessions
from gateway_core.downstream.sse import MESSAGE_PATH, STREAM_PATH, SseHttp
from gateway_core.downstream.subscriptions.subscription import Subscriptions
from gateway_core.errors import RpcError
from gateway_core.http1.application import Client, Handler, PendingResponse
from gateway_core.http1.head import HttpError, RequestHead
from gateway_core.http1.hosts import HostGuard
from gateway_core.http1.response import Response
from gateway_core.http1.server import HttpServer
from gateway_core.http1.sse import SSE_HEADERS, event
from gateway_core.internal_errors import internal_error, where
from gateway_core.limits.budget import MemoryBudget
from gateway_core.log.wording import count
from gateway_core.mcp import jsonrpc
from gateway_core.mcp.jsonrpc import Message
from gateway_core.mcp.names import IMPLEMENTATION, INITIALIZE, MCP_METHOD_HEADER, MODERN_PROTOCOL_VERSIONS

HOUSEKEEPING_INTERVAL: Final = 1.0
"""Seconds between two polls for stalled connections and unused sessions."""
MCP_PATHS: Final = frozenset({"/mcp", "/"})
_ALWAYS_SERVED: Final = frozenset({"/healthz", "/readyz"})
_MCP_METHODS: Final = ("GET", "POST", "DELETE")


class App:
    """Answers HTTP requests; see `http1.application.Application`."""

    def __init__(
        self,
        config: ProxyConfig,
        ready: Callable[[], bool],
        budget: MemoryBudget,
        *,
        modern: ModernHttp,
        legacy: LegacyHttp,
        sse: SseHttp | None,
    ) -> None:
        """`ready`: whether `/readyz` answers 200. `sse`: None unless the older transport is enabled."""
        self._config = config
        self._ready = ready
        self._budget = budget
        self._guard = HostGuard(config.host, config.allowed_hosts, config.allowed_origins)
        self._modern = modern
        self._legacy = legacy
        self._sse = sse
        methods = {
            **dict.fromkeys(MCP_PATHS, _MCP_METHODS),
            **dict.fromkeys(_ALWAYS_SERVED, ("GET", "HEAD")),
            **({STREAM_PATH: ("GET",), MESSAGE_PATH: ("POST",)} if sse is not None else {}),
        }
        self._methods = methods | {f"{path}/": methods[path] for path in methods if path != "/"}
        """Path -> its methods besides OPTIONS. A slash at the end makes no difference."""

    def route(self, client: Client, head: RequestHead) -> Handler:
        """The handler of a request, before its body is read. Raises `HttpError`."""
        known: Handler | None = head.route.handler
        if known is not None:
            return known
        origin, methods = head.fields.get("origin"), self._methods.get(head.path, ())
        path = head.path.rstrip("/") or "/" if methods else head.path
        # Probes of load balancers and of Kubernetes send the address of the container as Host.
        refused = self._guard.judge(head.fields["host"], origin, any_host=path in _ALWAYS_SERVED)
        if refused is not None:
            raise HttpError(*refused)
        if origin is not None:  # allowed
            head.route.add_headers(cors.response_headers(origin))
        if head.method == "OPTIONS" and (methods or cors.is_preflight(head)):
            return self._options
        if path in _ALWAYS_SERVED:
            _require_method(head, *methods)
            return self._operators
        if not client.admit():
            limit = self._config.max_connections
            raise busy(f"the limit of {count(limit, 'connection')} is reached", close=True)
        if path in MCP_PATHS:
            return self._page if page.is_for_people(head) else self._mcp(head)
        return self._older(client, head, path) if methods else _not_found

    def _older(self, client: Client, head: RequestHead, path: str) -> Handler:
        """The handler of a request to HTTP+SSE."""
        assert self._sse is not None, "otherwise its paths have no methods"
        _require_method(head, *self._methods[path])
        if path == STREAM_PATH:
            return self._page if page.is_for_people(head) else self._sse.get
        check_json(head)
        self._sse.check(client, head)
        return self._sse.post

    def _mcp(self, head: RequestHead) -> Handler:
        if head.method == "POST":
            check_json(head)
            head.route.keep(self._post)
            return self._post
        _require_method(head, *_MCP_METHODS)
        if head.once(VERSION_FIELD) in MODERN_PROTOCOL_VERSIONS:  # modern agents have no sessions
            _require_method(head, "POST")
        return self._legacy.get if head.method == "GET" else self._legacy.delete

    def claim(self, client: Client, size: int) -> None:
        """Count `size` more bytes of a body against the memory budget, or give them back. Raises `HttpError` (503)."""
        if size < 0:
            self._budget.release(client.network, -size)
            return
        try:
            self._budget.reserve(client.network, size)
        except RpcError as error:
            raise busy(error, close=True) from None

    def keep(self, client: Client, size: int) -> bool:
        """Count `size` more bytes that a client does not read; negative once they are gone. False for no room."""
        if size < 0:
            self._budget.drop(client.network, -size)
            return True
        try:
            self._budget.keep(client.network, size)
        except RpcError:
            return False
        return True

    def refused(self, error: HttpError) -> Response:
        """The response to a request that is refused."""
        return response_of(error)

    def failed(self, error: BaseException, message: Message | None = None) -> Response:
        """The response to a request that failed because of a bug. `message`: the request, if it could be read."""
        if isinstance(error, RpcError):
            return response_of(RpcHttpError.of(error, message))
        logger.error("{} while answering an agent\n{}", type(error).__name__, where(error))
        return response_of(RpcHttpError(500, internal_error(), message=message, close=True))

    def _post(self, client: Client, head: RequestHead, body: bytes) -> Response | PendingResponse:
        message = None
        try:
            message = message_of(body)
            found = self._serve(client, head, message)
            if isinstance(found, Response) and found.status == 200 and not accepts(head).json:
                return Response(event(found.body), headers={**found.headers, **SSE_HEADERS})
        except HttpError as error:
            if message is None and is_batch(body):
                return self._legacy.batch(client, head, body)
            return response_of(error)
        except Exception as error:  # noqa: BLE001 - the response to a bug carries the request's id, too
            return self.failed(error, message)
        return found

    def _serve(self, client: Client, head: RequestHead, message: Message) -> Response | PendingResponse:
        """Serve a message in its era. Raises `HttpError`, `RpcError`."""
        meta: Mapping[str, Raw] = NO_META
        if "_meta" in message.members:
            try:
                meta = meta_of(message.members)
            except RpcError as error:
                raise RpcHttpError(400, error, message=message) from None
        post = Post(head, message, client, meta)
        legacy = is_legacy(head)
        if (legacy and not post.meta) or not _speaks_modern(post, legacy=legacy):
            return self._legacy.post(post)
        return self._modern.post(post)

    def _options(self, client: Client, head: RequestHead, body: bytes) -> Response:
        methods = self._methods.get(head.path, ())
        if cors.is_preflight(head):
            return cors.preflight(head, methods)
        return Response(status=204, headers={"Allow": ", ".join((*methods, "OPTIONS"))})

    def _page(self, client: Client, head: RequestHead, body: bytes) -> Response:
        return page.page(head, secure=client.secure, sse=self._sse is not None)

    def _operators(self, client: Client, head: RequestHead, body: bytes) -> Response:
        if head.path.startswith("/healthz"):
            return Response(b'{"status":"ok"}')
        ready = self._ready()
        return Response(b'{"ready":true}' if ready else b'{"ready":false}', 200 if ready else 503)


def _not_found(*_: object) -> Response:
    return Response(jsonrpc.encode({"error": "not found; the MCP endpoint is /mcp"}), 404)


def _require_method(head: RequestHead, *allowed: str) -> None:
    """Raise `HttpError` (405) for other methods."""
    if head.method not in allowed:
        allow = ", ".join((*allowed, "OPTIONS"))
        raise HttpError(405, f"this address answers {allow}", headers={"Allow": allow})


def _speaks_modern(post: Post, *, legacy: bool) -> bool:
    """Whether a POST is modern: it has modern `_meta` or a modern version header (basic/versioning).

    `initialize` is legacy unless it has a modern version header. Raises `HttpError` (400) outside of a session for a
    version that the gateway does not support.
    """
    fields, message = post.head.fields, post.message
    if message.method == INITIALIZE and fields.get(VERSION_FIELD) not in MODERN_PROTOCOL_VERSIONS:
        return False
    if is_modern(post.meta):
        return True
    if legacy:
        return False
    if MCP_METHOD_HEADER not in fields:
        try:
            require_supported(fields[VERSION_FIELD])
        except RpcError as error:
            raise RpcHttpError(400, error, message=message) from None
    return True


class DataPlane:
    """The listening HTTP server, its housekeeping, and its graceful shutdown."""

    def __init__(
        self,
        app: App,
        config: ProxyConfig,
        *,
        catalog: Catalog,
        gate: Gate,
        sessions: Sessions,
        subscriptions: Subscriptions,
    ) -> None:
        self._catalog = catalog
        self._gate = gate
        self._sessions = sessions
        self._subscriptions = subscriptions
        self.http = HttpServer(
            app,
            name=IMPLEMENTATION["name"],
            max_body=config.limits.request_body,
            max_connections=config.max_connections,
        )
        self._housekeeping: asyncio.Task[None] | None = None
        self._forget_changes: Callable[[], None] = lambda: None

    @property
    def port(self) -> int:
        """The port that the server listens on, once started."""
        return self.http.port

    @property
    def connections(self) -> int:
        """The number of agents' TCP connections, without those above the limit."""
        return self.http.admitted

    async def start(self, host: str, port: int) -> None:
        """Listen; port 0 picks a free port. Raises `OSError` if the address cannot be used."""
        await self.http.start(host, port)
        self._forget_changes = self._catalog.listen(self._sessions.changed)
        self._housekeeping = asyncio.get_running_loop().create_task(self._keep_house())

    async def stop_accepting(self) -> None:
        """Accept no new connections, sessions, streams and requests; work in flight continues.

        Requests that help it finish are still accepted: lists, and later rounds of calls (`calls.gate._finishes`).
        """
        self._gate.close()
        self.http.stop_accepting()

    async def close(self, grace: float) -> None:
        """Wait up to `grace` seconds for requests in flight, end all streams, then close the connections."""
        await self.stop_accepting()
        await self._gate.wait_empty(grace)
        self._forget_changes()
        self._subscriptions.end_all()
        self._sessions.end_all()
        await self.http.drain(1.0)
        await self._sessions.wait_closed(1.0)
        if self._housekeeping is not None:
            self._housekeeping.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._housekeeping

    async def _keep_house(self) -> None:
        while True:
            await asyncio.sleep(HOUSEKEEPING_INTERVAL)
            for chore in (self.http.poll, self._sessions.end_expired):
                try:
                    chore()
                except Exception as error:  # noqa: BLE001 - housekeeping must continue after a bug
                    logger.error("{} while keeping house\n{}", type(error).__name__, where(error))
