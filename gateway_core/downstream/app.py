"""The HTTP server for agents: checks every request and routes it to a handler.

`/mcp` and `/` serve Streamable HTTP in both eras; `/sse` and `/messages` serve the older transport if it is enabled.
Each path of an endpoint but `/` may be followed by `/p/NAME`, for the agents of a profile.
`/healthz` and `/readyz` are for operators. They and preflights are answered even when the connection limit is reached,
and without credentials, as are the documents below `/.well-known/` and the pages for people.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final
from urllib.parse import urlsplit

from loguru import logger
from msgspec import Raw

from gateway_core.config import ProxyConfig
from gateway_core.downstream.admission import require_supported
from gateway_core.downstream.agents import NO_META, meta_of
from gateway_core.downstream.auth.authentication import Authentication
from gateway_core.downstream.auth.caller import Caller
from gateway_core.downstream.auth.presenting import Presenting
from gateway_core.downstream.auth.profiles import ProfileChoice
from gateway_core.downstream.auth.serving import CallerHandler, CallerHandlers
from gateway_core.downstream.batch import is_batch
from gateway_core.downstream.browsers import cors, page
from gateway_core.downstream.browsers.login_pages import LoginPages
from gateway_core.downstream.browsers.question_page import QuestionPageHttp
from gateway_core.downstream.calls.gate import Gate
from gateway_core.downstream.http_errors import RpcHttpError, busy, response_of
from gateway_core.downstream.legacy_http import LegacyHttp
from gateway_core.downstream.modern import ModernHttp, is_modern
from gateway_core.downstream.post import Post
from gateway_core.downstream.request_headers import VERSION_FIELD, check_json, facts_of
from gateway_core.downstream.sse import MESSAGE_PATH, STREAM_PATH, SseHttp
from gateway_core.errors import RpcError
from gateway_core.http1.application import Client, Deferred, Handler, PendingResponse
from gateway_core.http1.head import HttpError, RequestHead
from gateway_core.http1.hosts import HostGuard
from gateway_core.http1.response import Response
from gateway_core.http1.sse import SSE_HEADERS, event
from gateway_core.internal_errors import internal_error, where
from gateway_core.mcp import jsonrpc
from gateway_core.mcp.decoder import decode_request
from gateway_core.mcp.jsonrpc import Message
from gateway_core.mcp.names import INITIALIZE, MCP_METHOD_HEADER, MODERN_PROTOCOL_VERSIONS
from gateway_core.mcp.profile_address import split_address

MCP_PATHS: Final = frozenset({"/mcp", "/"})
WELL_KNOWN: Final = "/.well-known/"
_ALWAYS_SERVED: Final = frozenset({"/healthz", "/readyz"})
_MCP_METHODS: Final = ("GET", "POST", "DELETE")


class App:
    """Answers HTTP requests; see `http1.application.Application`."""

    def __init__(
        self,
        config: ProxyConfig,
        ready: Callable[[], bool],
        gate: Gate,
        *,
        authentication: Authentication,
        presenting: Presenting,
        credential_headers: Sequence[str],
        documents: Mapping[str, bytes],
        modern: ModernHttp,
        legacy: LegacyHttp,
        sse: SseHttp,
        logins: LoginPages,
        questions: QuestionPageHttp | None = None,
    ) -> None:
        """`ready`: whether `/readyz` answers 200. `gate` counts bodies that are rejected, for which it has no room.
        `sse`: the older transport, if the configuration enables it.

        `credential_headers`: headers that authenticators read, or that upstreams get. `documents`: JSON that every
        client may read, by path below `/.well-known/`. `logins`: the pages of logins of principals.
        """
        self._ready = ready
        self._gate = gate
        self._budget = gate.budget
        profiles = ProfileChoice(config.profiles, authentication.generation)
        self._callers = CallerHandlers(authentication, presenting, profiles, config.max_connections)
        self._modern = modern
        self._legacy = legacy
        self._sse = sse
        self._questions = questions
        self._logins = logins
        self._apply(config, credential_headers, documents)

    def use(
        self,
        config: ProxyConfig,
        *,
        authentication: Authentication,
        presenting: Presenting,
        credential_headers: Sequence[str],
        documents: Mapping[str, bytes],
    ) -> None:
        """Apply another configuration to the requests that are routed from now on. Arguments: see the constructor."""
        profiles = ProfileChoice(config.profiles, authentication.generation)
        self._callers.use(authentication, presenting, profiles, config.max_connections)
        if self._questions is not None:
            self._questions.use(authentication)
        self._logins.use(config, authentication)
        self._apply(config, credential_headers, documents)

    def _apply(self, config: ProxyConfig, credential_headers: Sequence[str], documents: Mapping[str, bytes]) -> None:
        self._profiles = bool(config.profiles)
        self._credential_headers = credential_headers
        self._documents = {f"{WELL_KNOWN}{path}": document for path, document in documents.items()}
        secure = config.tls is not None
        public = filter(None, [urlsplit(config.public_url or "").hostname])
        hosts = (*config.allowed_hosts, *public)
        self._guard = HostGuard(config.host, hosts, config.allowed_origins, secure=secure)
        self._offers_sse = config.transport == "sse"
        older = {STREAM_PATH: ("GET",), MESSAGE_PATH: ("POST",)} if self._offers_sse else {}
        if self._sse.is_in_use:
            older[MESSAGE_PATH] = ("POST",)  # open streams go on when a reload disables the transport
        methods = {
            **dict.fromkeys(MCP_PATHS, _MCP_METHODS),
            **dict.fromkeys(_ALWAYS_SERVED, ("GET", "HEAD")),
            **dict.fromkeys(self._documents, ("GET", "HEAD")),
            **older,
        }
        self._methods = methods | {f"{path}/": methods[path] for path in methods if path != "/"}
        """Path -> its methods besides OPTIONS. A slash at the end makes no difference."""

    def route(self, client: Client, head: RequestHead) -> Handler:
        """The handler of a request, before its body is read. Raises `HttpError`."""
        known: Handler | None = head.route.handler
        if known is not None and time.monotonic() < head.route.until:
            return known
        found, profile = self._place(head)
        origin, methods = head.fields.get("origin"), self._methods_of(found)
        path = found.rstrip("/") or "/" if methods else found
        # Probes of load balancers and of Kubernetes send the address of the container as Host.
        refused = self._guard.judge(head.fields["host"], origin, any_host=path in _ALWAYS_SERVED)
        if refused is not None:
            raise HttpError(*refused)
        if origin is not None:  # allowed
            head.route.add_headers(cors.response_headers(origin))
        public = self._public(client, head, path, methods)
        if public is not None:
            return public
        if path in MCP_PATHS or methods:
            if page.is_for_people(head) and path != MESSAGE_PATH:
                return self._page
            serve = self._mcp(head) if path in MCP_PATHS else self._older(head, path)
        else:
            serve = _not_found
        handler, until = self._callers.handler(client, head, serve, profile)
        if serve == self._post:
            head.route.keep(handler, until)
        return handler

    def _place(self, head: RequestHead) -> tuple[str, str | None]:
        """The path of the endpoint, and the profile that the address names."""
        return split_address(head.path) if self._profiles else (head.path, None)

    def _methods_of(self, path: str) -> Sequence[str]:
        """The methods that a path serves besides OPTIONS; none for an unknown path."""
        if path.startswith(MESSAGE_PATH) and not self._offers_sse and not self._sse.is_in_use:
            return ()  # the last open stream has ended
        return self._methods.get(path, ())

    def _public(self, client: Client, head: RequestHead, path: str, methods: Sequence[str]) -> Handler | None:
        """The handler of a request that needs no credentials; None for any other. Raises `HttpError`."""
        if head.method == "OPTIONS" and (methods or cors.is_preflight(head)):
            return self._options
        if path in _ALWAYS_SERVED:
            _require_method(head, *methods)
            return self._operators
        if path.startswith(WELL_KNOWN) and methods:
            _require_method(head, *methods)
            return self._well_known
        if methods:
            return None
        of_question = None if self._questions is None else self._questions.handler(client, head)
        return of_question or self._logins.handler(client, head, path)

    def _older(self, head: RequestHead, path: str) -> CallerHandler:
        """The handler of a request to HTTP+SSE."""
        _require_method(head, *self._methods[path])
        if path == STREAM_PATH:
            return self._sse.get
        check_json(head)
        return self._sse.post

    def _mcp(self, head: RequestHead) -> CallerHandler:
        if head.method == "POST":
            check_json(head)
            return self._post
        _require_method(head, *_MCP_METHODS)
        if head.once(VERSION_FIELD) in MODERN_PROTOCOL_VERSIONS:  # modern agents have no sessions
            _require_method(head, "POST")
        return self._legacy.get if head.method == "GET" else self._legacy.delete

    def claim(self, client: Client, owner: str, size: int) -> None:
        """Count `size` more bytes of a body against the memory budget, or give them back. Raises `HttpError` (503)."""
        owner = owner or client.network
        if size < 0:
            self._budget.release(owner, -size)
            return
        try:
            self._budget.reserve(owner, size)
        except RpcError as error:
            self._gate.count_rejected()
            raise busy(error, close=True) from None

    def keep(self, client: Client, owner: str, size: int) -> bool:
        """Count `size` more bytes that a client does not read; negative once they are gone. False for no room."""
        owner = owner or client.network
        if size < 0:
            self._budget.drop(owner, -size)
            return True
        try:
            self._budget.keep(owner, size)
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

    def _post(self, caller: Caller, client: Client, head: RequestHead, body: bytes) -> Response | PendingResponse:
        try:
            message = decode_request(body)
        except RpcError as error:
            if is_batch(body):
                return self._legacy.batch(caller, client, head, body)
            return response_of(RpcHttpError(400, error))
        try:
            found = self._serve(caller, client, head, message)
            if isinstance(found, Response) and found.status == 200 and not facts_of(head).accepted.json:
                return Response(event(found.body), headers={**found.headers, **SSE_HEADERS})
        except HttpError as error:
            return response_of(error)
        except Deferred:
            raise
        except Exception as error:  # noqa: BLE001 - the response to a bug carries the request's id, too
            return self.failed(error, message)
        return found

    def _serve(self, caller: Caller, client: Client, head: RequestHead, message: Message) -> Response | PendingResponse:
        """Serve a message in its era. Raises `HttpError`, `RpcError`."""
        meta: Mapping[str, Raw] = NO_META
        if "_meta" in message.members:
            try:
                meta = meta_of(message.members)
            except RpcError as error:
                raise RpcHttpError(400, error, message=message) from None
        post = Post(head, message, client, caller, meta)
        legacy = facts_of(head).is_legacy
        if (legacy and not post.meta) or not _speaks_modern(post, legacy=legacy):
            return self._legacy.post(post)
        return self._modern.post(post)

    def _options(self, client: Client, head: RequestHead, body: bytes) -> Response:
        methods = self._methods_of(self._place(head)[0])
        if cors.is_preflight(head):
            return cors.preflight(head, methods, self._credential_headers)
        return Response(status=204, headers={"Allow": ", ".join((*methods, "OPTIONS"))})

    def _page(self, client: Client, head: RequestHead, body: bytes) -> Response:
        return page.page(head, self._place(head)[1], secure=client.secure, sse=self._offers_sse)

    def _well_known(self, client: Client, head: RequestHead, body: bytes) -> Response:
        return Response(self._documents[head.path.rstrip("/")])

    def _operators(self, client: Client, head: RequestHead, body: bytes) -> Response:
        if head.path.startswith("/healthz"):
            return Response(b'{"status":"ok"}')
        ready = self._ready()
        return Response(b'{"ready":true}' if ready else b'{"ready":false}', 200 if ready else 503)


def _not_found(caller: Caller, client: Client, head: RequestHead, body: bytes) -> Response:
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
