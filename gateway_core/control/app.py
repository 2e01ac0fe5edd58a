"""The aiohttp application of the control plane: its routes, and the checks on every request."""

from __future__ import annotations

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
