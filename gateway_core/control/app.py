"""The aiohttp application of the control plane: its routes, and the checks on every request."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, Protocol

from aiohttp import web
from loguru import logger

from gateway_core.errors import ConfigError, PluginError, ReloadRefused, UnknownProfile, parts_of
from gateway_core.hooks.pages import PluginPage
from gateway_core.http1.hosts import HostGuard
from gateway_core.internal_errors import where
from gateway_core.mcp import jsonrpc
from gateway_core.mcp.names import IMPLEMENTATION

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

HEALTH: Final = "/healthz"
READINESS: Final = "/readyz"
STATUS: Final = "/admin/status"
TOOLS: Final = "/admin/tools"
TOOL: Final = "/admin/tool"
CALLS: Final = "/admin/calls"
SESSIONS: Final = "/admin/sessions"
UPSTREAMS: Final = "/admin/upstreams"
RELOAD: Final = "/admin/reload"
DIFF: Final = "/admin/diff"
RELOAD_TIME: Final = 120.0
"""Seconds that a reload may take: plugins start, and new upstreams connect."""
_CHALLENGE: Final = {"WWW-Authenticate": "Bearer"}
_ADDRESSES: Final = ", ".join((STATUS, TOOLS, f"{TOOL}?name=NAME", CALLS, SESSIONS, DIFF, RELOAD, HEALTH, READINESS))


class Report(Protocol):
    """The result of a reload, or what one would do."""

    def as_json(self) -> dict[str, Any]: ...


class Sessions(Protocol):
    """What the control plane needs from the sessions of agents."""

    def listing(self) -> list[dict[str, Any]]: ...
    def end_by_key(self, key: str) -> bool:
        """End a session. Returns whether there is one with this key."""


class Calls(Protocol):
    """What the control plane needs from the calls in flight."""

    def listing(self) -> list[dict[str, Any]]: ...
    def cancel(self, exchange_id: str) -> bool:
        """End a call. Returns whether there is one with this id."""


class Operations(Protocol):
    """What the control plane needs from the gateway; a protocol, because the gateway imports this package."""

    @property
    def ready(self) -> bool: ...
    def status(self) -> dict[str, Any]: ...
    def tools(self, profile: str = "") -> dict[str, Any]: ...
    def tool(self, name: str, profile: str = "") -> dict[str, Any]: ...
    async def reload(self) -> Report:
        """Put the configuration of the file in force. Raises `ConfigError`, `PluginError`, `ReloadRefused`."""

    async def compare(self) -> Report:
        """What `reload` would change. Raises as `reload`."""

    def reconnect(self, name: str) -> bool:
        """Connect to an upstream again. Returns whether there is one with this name."""

    @property
    def sessions(self) -> Sessions: ...
    @property
    def live(self) -> Calls: ...
    @property
    def pages(self) -> Mapping[str, PluginPage]:
        """The pages of plugins, by path."""

    def clean(self, data: bytes) -> bytes:
        """JSON without secrets of the gateway."""


class _PluginPages:
    """Answers with the pages of plugins, each rendered once at a time, so that one that hangs takes one thread."""

    def __init__(self, operations: Operations, token: str) -> None:
        self._operations = operations
        self._token = token
        self._rendered: dict[str, asyncio.Future[bytes]] = {}
        """The pages that are being rendered, by path."""

    async def respond(self, request: web.Request, found: PluginPage) -> web.StreamResponse:
        page = found.page
        if not _has_token(request, self._token) and not _has_token(request, page.token):
            return _problem("the admin token, or the token of this page, is required", 401, _CHALLENGE)
        if page.path in self._rendered:
            return _problem("this page is being rendered already; try again", 503, {"Retry-After": "1"})
        status = self._operations.status()
        rendering = asyncio.get_running_loop().run_in_executor(None, page.render, status)
        self._rendered[page.path] = rendering
        rendering.add_done_callback(lambda _: self._rendered.pop(page.path))
        try:
            body = self._operations.clean(await asyncio.shield(rendering))
            return web.Response(body=body, headers={"Content-Type": page.content_type})
        except Exception as error:  # noqa: BLE001 - whatever a plugin raises is its failure
            logger.bind(plugin=found.plugin).error(
                "plugin {} failed to render {}: {} at {}", found.plugin, page.path, type(error).__name__, where(error)
            )
            return _problem(f"the plugin {found.plugin} failed to render this page", 500)


def application(
    operations: Operations,
    token: str,
    guard: Callable[[], HostGuard],
    give_time: Callable[[web.Request, float], None],
) -> web.Application:
    """The routes of `operations`. `/admin/*` requires `token` as a bearer token; an empty one rejects all requests.

    `guard` returns the present guard of the listener. `give_time`: lets the connection of a request last longer.
    """

    async def healthz(_: web.Request) -> web.StreamResponse:
        return _json({"status": "ok"})

    async def readyz(_: web.Request) -> web.StreamResponse:
        return _json({"ready": operations.ready}, 200 if operations.ready else 503)

    def with_token(page: Callable[[web.Request], dict[str, Any]]) -> Handler:
        async def handler(request: web.Request) -> web.StreamResponse:
            if not _has_token(request, token):
                return _problem("the admin token is required", 401, _CHALLENGE)
            try:
                return _json(page(request), clean=operations.clean)
            except UnknownProfile as problem:
                return _problem(str(problem), 404)

        return handler

    def of_file(work: Callable[[], Awaitable[Report]]) -> Handler:
        async def handler(request: web.Request) -> web.StreamResponse:
            if not _has_token(request, token):
                return _problem("the admin token is required", 401, _CHALLENGE)
            give_time(request, RELOAD_TIME)
            try:
                return _json((await work()).as_json(), clean=operations.clean)
            except ReloadRefused as error:
                return _problem(str(error), 409)
            except (ConfigError, PluginError) as error:
                problems = error.problems or [str(error)]
                shown = [{**parts_of(one), "text": str(one)} for one in problems]
                return _json({"error": str(error), "problems": shown}, 422, clean=operations.clean)

        return handler

    def acting(act: Callable[[], Callable[[str], bool]], what: str, done: str) -> Handler:
        """POST for one thing, which the last but one part of the path names. `act` returns the function to call."""

        async def handler(request: web.Request) -> web.StreamResponse:
            if not _has_token(request, token):
                return _problem("the admin token is required", 401, _CHALLENGE)
            name = request.match_info["name"]
            if not act()(name):
                return _problem(f"there is no such {what}", 404)
            return _json({done: name}, clean=operations.clean)

        return handler

    pages = _PluginPages(operations, token)

    @web.middleware
    async def checked(request: web.Request, handler: Handler) -> web.StreamResponse:
        refused = guard().check(request.headers, any_host=request.path in {HEALTH, READINESS})
        if refused is not None:
            return _problem(refused[1], refused[0])
        if not request.raw_path.startswith("/"):
            return _problem("the request target must be a path", 400)
        found = operations.pages.get(request.path) if request.method in {"GET", "HEAD"} else None
        return await (handler(request) if found is None else pages.respond(request, found))

    app = web.Application(middlewares=[_answered, checked])
    app.router.add_get(HEALTH, healthz)
    app.router.add_get(READINESS, readyz)
    app.router.add_get(STATUS, with_token(lambda _: operations.status()))
    app.router.add_get(TOOLS, with_token(lambda request: operations.tools(request.query.get("profile", ""))))
    app.router.add_get(
        TOOL,
        with_token(lambda request: operations.tool(*(request.query.get(key, "") for key in ("name", "profile")))),
    )
    app.router.add_get(DIFF, of_file(operations.compare))
    app.router.add_post(RELOAD, of_file(operations.reload))
    app.router.add_get(CALLS, with_token(lambda _: {"calls": operations.live.listing()}))
    app.router.add_post(f"{CALLS}/{{name}}/cancel", acting(lambda: operations.live.cancel, "call", "cancelled"))
    app.router.add_get(SESSIONS, with_token(lambda _: {"sessions": operations.sessions.listing()}))
    app.router.add_post(f"{SESSIONS}/{{name}}/end", acting(lambda: operations.sessions.end_by_key, "session", "ended"))
    app.router.add_post(
        f"{UPSTREAMS}/{{name}}/reconnect", acting(lambda: operations.reconnect, "upstream", "reconnecting")
    )
    return app


@web.middleware
async def _answered(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Make every response JSON, and close its connection. Neither responses nor the log quote a request."""
    try:
        response = await handler(request)
    except web.HTTPNotFound:
        response = _problem(f"not found; the control plane answers {_ADDRESSES}", 404)
    except web.HTTPMethodNotAllowed as error:
        allowed = ", ".join(sorted(error.allowed_methods))
        response = _problem(f"this address answers {allowed}", 405, {"Allow": allowed})
    except web.HTTPException as error:
        response = _problem(error.reason, error.status)
    except Exception as error:  # noqa: BLE001 - aiohttp's own answer and log line would quote the request
        logger.error("{} while answering an operator\n{}", type(error).__name__, where(error))
        response = _problem("the gateway failed to serve this request", 500)
    response.headers["Server"] = IMPLEMENTATION["name"]
    response.force_close()
    return response


def _has_token(request: web.Request, token: str) -> bool:
    values = request.headers.getall("Authorization", [])
    scheme, _, offered = values[0].partition(" ") if len(values) == 1 else ("", "", "")
    matches = hmac.compare_digest(offered.encode(errors="surrogateescape"), token.encode())
    return bool(token) and matches and scheme.lower() == "bearer"


def _json(
    value: dict[str, Any],
    status: int = 200,
    headers: dict[str, str] | None = None,
    clean: Callable[[bytes], bytes] = bytes,
) -> web.Response:
    body = clean(jsonrpc.encode(value))
    return web.Response(body=body, status=status, headers=headers, content_type="application/json")


def _problem(text: str, status: int, headers: dict[str, str] | None = None) -> web.Response:
    return _json({"error": text}, status, headers)
