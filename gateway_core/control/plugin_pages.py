"""The pages of plugins on the control plane."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Protocol

from aiohttp import web
from loguru import logger

from gateway_core.control.access import CHALLENGE, Access, has_token
from gateway_core.control.responses import error_response
from gateway_core.control.shapes import Status
from gateway_core.hooks.pages import PluginPage
from gateway_core.internal_errors import where


class Operations(Protocol):
    """What the pages need from the gateway."""

    @property
    def pages(self) -> Mapping[str, PluginPage]:
        """The pages of plugins, by path."""

    @property
    def clean(self) -> Callable[[bytes], bytes]:
        """Removes secrets of the gateway from JSON or text."""

    def status(self) -> Status: ...


class PluginPages:
    """Answers with the pages of plugins, each rendered once at a time, so that one that hangs takes one thread."""

    def __init__(self, operations: Operations, access: Access) -> None:
        self._operations = operations
        self._access = access
        self._rendered: dict[str, asyncio.Future[bytes]] = {}
        """The pages that are being rendered, by path."""

    def find(self, request: web.Request) -> PluginPage | None:
        """The page that a request is for."""
        return self._operations.pages.get(request.path)

    async def respond(self, request: web.Request, found: PluginPage) -> web.StreamResponse:
        """The page, for those who may read, or have the token of the page."""
        page = found.page
        if request.method not in {"GET", "HEAD"}:
            return error_response("this address answers GET, HEAD", 405, {"Allow": "GET, HEAD"})
        if self._access.sender_of(request).right == "open" and not has_token(request, page.token):
            return error_response(
                "a token of the control plane, or the token of this page, is required", 401, CHALLENGE
            )
        if page.path in self._rendered:
            return error_response("this page is being rendered already; try again", 503, {"Retry-After": "1"})
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
            return error_response(f"the plugin {found.plugin} failed to render this page", 500)
