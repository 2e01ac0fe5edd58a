"""The loopback listener that a browser returns to after a login (RFC 8252, section 7.3)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final

from aiohttp import web
from yarl import URL

from gateway_core.downstream.browsers.html_page import HEADERS, message
from gateway_core.upstream.auth.code_flow import NotOurs
from gateway_core.upstream.auth.documents import Refused

CLOSE_PATIENCE: Final = 2.0
"""Seconds for writing the last page."""
Finish = Callable[[Mapping[str, Sequence[str]]], Awaitable[None]]
"""Completes the login with the query of an authorization response. Raises `NotOurs` and `Refused`."""


class Callback:
    """Serves the redirect URI of one login."""

    def __init__(self, upstream: str, finish: Finish) -> None:
        self._upstream = upstream
        self._finish = finish
        self._path = ""
        self._authority = ""
        self._lock = asyncio.Lock()
        self._ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._runner = web.ServerRunner(
            web.Server(self._answer, access_log=None), shutdown_timeout=CLOSE_PATIENCE, handle_signals=False
        )

    async def start(self, redirect_uri: str, port: int = 0) -> str:
        """Listen at the host of `redirect_uri` and return that URI with its port. Raises `OSError`.

        `port`: the port for a URI without one; 0 takes a free one.
        """
        url = URL(redirect_uri)
        await self._runner.setup()
        hosts = ["127.0.0.1", "::1"] if url.host == "localhost" else [url.host or ""]
        wanted = url.explicit_port or port
        for number, address in enumerate(hosts):
            try:
                await web.TCPSite(self._runner, address, wanted).start()
            except OSError:
                if not number:
                    raise
            wanted = self._runner.addresses[0][1]
        # The text before the port stays as the operator wrote it: authorization servers compare it.
        host = url.raw_authority
        own = redirect_uri if url.explicit_port else redirect_uri.replace(host, f"{host}:{wanted}", 1)
        self._path, self._authority = url.raw_path, URL(own).raw_authority
        return own

    async def wait(self, seconds: float) -> None:
        """Wait until the login is complete. Raises `Refused` if it failed, and `TimeoutError`."""
        async with asyncio.timeout(seconds):
            await asyncio.shield(self._ended)

    async def close(self) -> None:
        """Stop listening, after the last page was written."""
        self._ended.cancel()
        await self._runner.cleanup()

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.headers.get("Host") != self._authority:
            return _page("Not found", "This address serves one login only.", 403)
        if request.method != "GET" or request.url.raw_path != self._path:
            return _page("Not found", "This address serves one login only.", 404)
        async with self._lock:
            return await self._completed(request)

    async def _completed(self, request: web.BaseRequest) -> web.Response:
        if self._ended.done():
            return _page("This login has ended", "You can close this page.", 410)
        query = {name: request.query.getall(name) for name in request.query}
        try:
            await self._finish(query)
        except NotOurs:
            return _page("Not this login", "This answer does not belong to the login in progress. It was ignored.", 400)
        except Refused as failure:
            self._ended.set_exception(failure)
            return _page("The login failed", f"Upstream {self._upstream}: {failure}. You can close this page.", 400)
        except Exception as failure:
            self._ended.set_exception(failure)
            raise
        self._ended.set_result(None)
        text = f"The gateway can now use the upstream {self._upstream}. You can close this page."
        return _page("You are logged in", text)


def _page(title: str, text: str, status: int = 200) -> web.Response:
    return web.Response(body=message(title, text).encode(), status=status, headers=HEADERS)
