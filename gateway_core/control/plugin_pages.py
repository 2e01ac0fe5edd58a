"""The pages of plugins on the control plane."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Final, Protocol

from aiohttp import web
from loguru import logger

from gateway_core.control.access import CHALLENGE, Access, has_token
from gateway_core.control.responses import error_response
from gateway_core.control.shapes import Status
from gateway_core.hooks.pages import PluginPage
from gateway_core.internal_errors import where

PATIENCE: Final = 8.0
"""Seconds that a request waits for a page; `listener.CONNECTION_TIME` would end it without an answer."""


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
    """Answers with the pages of plugins.

    Each is rendered once at a time, so that one that hangs takes one thread: requests that come meanwhile get the same.
    """

    def __init__(self, operations: Operations, access: Access) -> None:
        self._operations = operations
        self._access = access
        self._renderings: dict[str, tuple[PluginPage, asyncio.Task[bytes | None]]] = {}
        """What is being rendered, by path."""

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
        try:
            async with asyncio.timeout(PATIENCE):
                body = await self._body(found)
        except TimeoutError:
            return error_response(
                f"the plugin {found.plugin} takes long to render this page", 503, {"Retry-After": "5"}
            )
        if body is None:
            return error_response(f"the plugin {found.plugin} failed to render this page", 500)
        return web.Response(body=body, headers={"Content-Type": page.content_type})

    async def _body(self, found: PluginPage) -> bytes | None:
        """The page as it is rendered now; None if the plugin failed."""
        path = found.page.path
        while (held := self._renderings.get(path)) is not None and held[0] is not found:
            await asyncio.wait([held[1]])  # it is that of an earlier generation
        if held is None:
            held = self._renderings[path] = found, asyncio.create_task(self._render(found))
        return await asyncio.shield(held[1])

    async def _render(self, found: PluginPage) -> bytes | None:
        try:
            rendering = asyncio.to_thread(found.page.render, self._operations.status())
            return self._operations.clean(await rendering)
        except Exception as error:  # noqa: BLE001 - whatever a plugin raises is its failure
            logger.bind(plugin=found.plugin).error(
                "plugin {} failed to render {}: {} at {}",
                found.plugin,
                found.page.path,
                type(error).__name__,
                where(error),
            )
            return None
        finally:
            del self._renderings[found.page.path]
