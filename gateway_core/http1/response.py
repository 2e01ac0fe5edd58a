"""Complete responses, and the serialised heads of all responses."""

from __future__ import annotations

from collections.abc import Mapping
from email.utils import formatdate
from http import HTTPStatus
from typing import Final

import msgspec

from gateway_core.http1.head import RequestHead
from gateway_core.http1.media_types import JSON

_REASONS: Final = {status.value: status.phrase for status in HTTPStatus}


class Response(msgspec.Struct, frozen=True, eq=False):
    """A complete response. `close`: the connection ends after it. A body is JSON by default."""

    body: bytes = b""
    status: int = 200
    headers: Mapping[str, str] = {}
    close: bool = False


class ResponseHeads:
    """Serialises the heads of responses, from the status line to the empty line.

    Header values come from the gateway itself, so nothing is escaped.
    """

    def __init__(self, server: str) -> None:
        """`server`: the value of the header `Server`."""
        self._server = server
        self.refresh()

    def refresh(self) -> None:
        """Update the clock; call about once a second."""
        self._date = formatdate(usegmt=True)
        self.canonical = self.lines(200, {"Content-Type": JSON})[:-2] + b"Content-Length: "
        """The head of a 200 with JSON on a connection that stays open, up to the length."""

    def of(self, response: Response, request: RequestHead | None, *, close: bool) -> bytes:
        """The head of a complete response. `request`: None if it could not be parsed."""
        headers = {"Content-Type": JSON, **response.headers} if response.body else {**response.headers}
        if response.status != HTTPStatus.NO_CONTENT:
            headers["Content-Length"] = str(len(response.body))
        return self.lines(response.status, headers, request, close=close)

    def lines(
        self, status: int, headers: Mapping[str, str], request: RequestHead | None = None, *, close: bool = False
    ) -> bytes:
        """A head with these headers, the headers of the request's route, and the common headers."""
        if request is not None and request.route.headers:
            headers = {**request.route.headers, **headers}
        lines = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
        if close:
            lines += "Connection: close\r\n"
        elif request is not None and request.minor == 0:
            lines += "Connection: keep-alive\r\n"
        first = f"HTTP/1.1 {status} {_REASONS[status]}\r\nServer: {self._server}\r\nDate: {self._date}\r\n"
        return f"{first}{lines}\r\n".encode("latin-1")
