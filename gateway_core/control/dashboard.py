"""Serves the files of the dashboard, which hold no secrets: its pages ask the API for everything."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

from aiohttp import web

from gateway_core.control.endpoint import AnyEndpoint, Problem, WebPage

FOLDER: Final = Path(__file__).resolve().parents[1] / "dashboard"
TYPES: Final = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".png": "image/png",
    ".svg": "image/svg+xml; charset=utf-8",
    ".woff2": "font/woff2",
}
"""Content types by the end of the name; no other files are served."""
INDEX: Final = "index.html"
_HEADERS: Final = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
    "Cache-Control": "no-cache",
}
"""Nothing comes from elsewhere, no page of another site may frame it, and a browser asks whether a file has changed."""


class _File(NamedTuple):
    content: bytes
    etag: str
    version: tuple[int, int]
    """Time of the last change and size, as the file system has them."""


class Dashboard:
    """The files of a folder. The names of all files are found once, so that no path leads out of it."""

    def __init__(self, folder: Path = FOLDER) -> None:
        self._paths = _paths(folder)
        self._files: dict[str, _File] = {}

    def endpoints(self) -> tuple[AnyEndpoint, ...]:
        """The addresses of the dashboard."""
        moved = {303: "The dashboard is at /ui/"}
        found = {
            200: "The file",
            304: "The browser has this file already (If-None-Match)",
            404: "The dashboard has no such file",
        }
        return (
            WebPage("/", "Go to the dashboard", self._move, moved),
            WebPage("/ui", "Go to the dashboard", self._move, moved),
            WebPage("/ui/", "The dashboard", self._serve, found),
            WebPage("/ui/{file}", "A file of the dashboard", self._serve, found, pattern="/ui/{file:.+}"),
        )

    async def _move(self, _: web.Request) -> web.StreamResponse:
        return web.Response(status=303, headers={"Location": "/ui/"})

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        name = request.match_info.get("file", INDEX)
        path = self._paths.get(name)
        if path is None:
            raise Problem(404, "the dashboard has no such file; it begins at /ui/")
        file = await asyncio.to_thread(self._read, name, path)
        headers = {**_HEADERS, "ETag": file.etag, "Content-Type": TYPES[path.suffix]}
        if file.etag in request.headers.get("If-None-Match", ""):
            return web.Response(status=304, headers=headers)
        return web.Response(body=file.content, headers=headers)

    def _read(self, name: str, path: Path) -> _File:
        found = path.stat()
        version = found.st_mtime_ns, found.st_size
        file = self._files.get(name)
        if file is None or file.version != version:
            content = path.read_bytes()
            file = _File(content, f'"{hashlib.sha256(content).hexdigest()[:32]}"', version)
            self._files[name] = file
        return file


def _paths(folder: Path) -> Mapping[str, Path]:
    """The files that are served, by their path below `folder`."""
    return {
        path.relative_to(folder).as_posix(): path
        for path in folder.rglob("*")
        if path.suffix in TYPES and path.is_file() and not path.is_symlink()
    }
