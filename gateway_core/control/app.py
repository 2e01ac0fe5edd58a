"""The aiohttp application of the control plane: its routes, and the checks on every request."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Middleware
from loguru import logger

from gateway_core.control.access import Access, has_token
from gateway_core.control.endpoint import AnyEndpoint, Endpoint, EventStream, WebPage
from gateway_core.control.plugin_pages import Operations, PluginPages
from gateway_core.control.responses import error_response, last_on_connection
from gateway_core.control.serving import MAX_BODY, Connections, Handler, Serving
from gateway_core.http1.hosts import HostGuard
from gateway_core.internal_errors import where

_PROBES: Final = frozenset({"/healthz", "/readyz"})
"""Addresses that answer whatever Host a request names: load balancers use the address of the container."""
MAX_HEADERS: Final = 64
MAX_FIELD: Final = 8 * 1024
"""Bytes of the request line and of each header."""

_silent: Final = logging.getLogger("gateway_core.control.http")
"""Logger that drops the messages of aiohttp, which quote requests that it cannot parse."""
_silent.addFilter(lambda _: False)  # unlike `disabled`, stays set when logging is configured


class Http:
    """Makes the protocols that read the requests of connections, and answer them."""

    def __init__(self, app: web.Application) -> None:
        self._runner = web.AppRunner(app)

    async def start(self) -> None:
        """Make it ready for `protocol`."""
        await self._runner.setup()

    async def close(self) -> None:
        """Close what its connections left open."""
        await self._runner.cleanup()

    def protocol(self) -> asyncio.Protocol:
        """The protocol of one connection."""
        assert self._runner.server is not None, "set up by `start`"
        return _Requests(
            self._runner.server,
            loop=asyncio.get_running_loop(),
            access_log=None,  # type: ignore[arg-type]  # switches it off
            logger=_silent,
            lingering_time=0.0,
            max_headers=MAX_HEADERS,
            max_line_size=MAX_FIELD,
            max_field_size=MAX_FIELD,
            auto_decompress=False,
        )


class _Requests(web.RequestHandler):
    """aiohttp's protocol, which answers requests that it cannot parse as the application answers errors."""

    __slots__ = ()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """The answer does not quote the request, as aiohttp's own would."""
        text = "the gateway failed to serve this request" if status >= 500 else "this is not a valid HTTP request"
        return last_on_connection(error_response(text, status))


def application(
    endpoints: Sequence[AnyEndpoint],
    operations: Operations,
    access: Access,
    guard: Callable[[], HostGuard],
    connections: Connections,
) -> web.Application:
    """The routes of `endpoints`, and the pages of plugins. `guard` returns the present guard of the listener."""
    pages = PluginPages(operations, access)

    @web.middleware
    async def checked(request: web.Request, handler: Handler) -> web.StreamResponse:
        found = pages.find(request)
        # Only a browser can be led here by a foreign name, and a foreign page knows no token.
        proven = access.is_proven(request) or (found is not None and has_token(request, found.page.token))
        refused = guard().check(request.headers, any_host=proven or request.path in _PROBES)
        if refused is not None:
            return error_response(refused[1], refused[0])
        if not request.raw_path.startswith("/"):
            return error_response("the request target must be a path", 400)
        return await (handler(request) if found is None else pages.respond(request, found))

    app = web.Application(middlewares=[_answers(endpoints), checked], client_max_size=MAX_BODY)
    serving = Serving(access, connections, operations.clean)
    for endpoint in endpoints:
        handler = serving.handler_of(endpoint)
        if isinstance(endpoint, EventStream):
            app.router.add_get(endpoint.path, handler, allow_head=False)
        elif isinstance(endpoint, WebPage):
            app.router.add_get(endpoint.pattern or endpoint.path, handler, allow_head=endpoint.head)
        elif endpoint.method == "GET":
            app.router.add_get(endpoint.path, handler)
        else:
            app.router.add_route(endpoint.method, endpoint.path, handler)
    return app


def _answers(endpoints: Sequence[AnyEndpoint]) -> Middleware:
    """The middleware that answers every error in JSON, and ends each connection after its response.

    Neither responses nor the log quote a request.
    """
    readable = (it.path for it in endpoints if not isinstance(it, Endpoint) or it.method == "GET")
    addresses = ", ".join(sorted(path for path in readable if "{" not in path))

    @web.middleware
    async def answered(request: web.Request, handler: Handler) -> web.StreamResponse:
        return last_on_connection(await respond(request, handler))

    async def respond(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        except web.HTTPNotFound:
            return error_response(f"not found; the control plane answers {addresses}", 404)
        except web.HTTPMethodNotAllowed as error:
            allowed = ", ".join(sorted(error.allowed_methods))
            return error_response(f"this address answers {allowed}", 405, {"Allow": allowed})
        except web.HTTPException as error:
            return error_response(error.reason, error.status)
        except Exception as error:  # noqa: BLE001 - aiohttp's own answer and log line would quote the request
            logger.error("{} while answering an operator\n{}", type(error).__name__, where(error))
            return error_response("the gateway failed to serve this request", 500)

    return answered
