"""One HTTP request before anybody acts on it: what it accepts, its body within bounds, headers given once.

Whatever is wrong is a `Refusal`, which `app.py` turns into the response.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Final

from aiohttp import StreamReader, web
from aiohttp.http_exceptions import HttpProcessingError
from mcp.shared.inbound import ERROR_CODE_HTTP_STATUS

from gateway_core import jsonrpc
from gateway_core.downstream.sessions import TooManySessions
from gateway_core.downstream.stream import Accepts, json_response
from gateway_core.errors import INVALID_REQUEST, OVERLOADED, RETRY_AFTER, RpcError, overloaded
from gateway_core.jsonrpc import Message

BODY_TIMEOUT: Final = 30.0
MAX_HEADER_BYTES: Final = 32 * 1024
SESSION_HEADER: Final = "Mcp-Session-Id"
VERSION_HEADER: Final = "MCP-Protocol-Version"
_REFUSED: Final = re.compile(r"q=0(\.0{0,3})?")
"""The weight that means "not acceptable" (RFC 9110 12.4.2)."""
_ABSOLUTE: Final = re.compile(r"https?://([^/?#]*)([^?#]*)", re.IGNORECASE)


class Refusal(Exception):
    """An HTTP request that is refused: `status`, and the JSON-RPC error that the body carries."""

    def __init__(
        self,
        status: int,
        problem: RpcError | str,
        *,
        message: Message | None = None,
        headers: Mapping[str, str] | None = None,
        close: bool = False,
    ) -> None:
        """`message`: the request whose id the error is for, if it could be read. `close`: end the connection."""
        self.error = RpcError.of_gateway(INVALID_REQUEST, problem) if isinstance(problem, str) else problem
        super().__init__(self.error.message)
        self.status = status
        self.message = message
        self.headers = headers
        self.close = close

    @classmethod
    def busy(cls, problem: RpcError | str, status: int = 503, *, message: Message | None = None) -> Refusal:
        """For a limit of the gateway's own: says when to come back."""
        error = overloaded(problem) if isinstance(problem, str) else problem
        return cls(status, error, message=message, headers={"Retry-After": f"{RETRY_AFTER:.0f}"})

    @classmethod
    def of(cls, error: RpcError, message: Message | None = None) -> Refusal:
        """For an error that decides the status: 503 (429 where it is the agent's own limit), else that of its code."""
        if error.code == OVERLOADED:
            own = isinstance(error, TooManySessions) and not error.everybody
            return cls.busy(error, 429 if own else 503, message=message)
        return cls(ERROR_CODE_HTTP_STATUS.get(error.code, 400), error, message=message)

    def response(self) -> web.Response:
        request_id = self.message.id if self.message is not None else None
        return json_response(jsonrpc.error(request_id, self.error), self.status, self.headers, close=self.close)


def accepts(request: web.BaseRequest) -> Accepts:
    """What may be answered with. Raises `Refusal` (406) when it is neither JSON nor a stream."""
    found = _accepts(",".join(request.headers.getall("Accept", ("*/*",))))
    if not (found.json or found.stream):
        raise Refusal(406, "answers are application/json or text/event-stream, and Accept names neither")
    return found


def require_stream(accepted: Accepts, message: Message | None = None) -> None:
    """Raises `Refusal` (406) unless the answer may be a stream, where it can be nothing else."""
    if not accepted.stream:
        raise Refusal(406, "the answer is text/event-stream, which Accept does not name", message=message)


@lru_cache(maxsize=256)
def _accepts(value: str) -> Accepts:
    wanted: dict[str, bool] = {}
    for part in value.lower().split(","):
        media_type, *parameters = (piece.strip() for piece in part.split(";"))
        wanted[media_type] = not any(_REFUSED.fullmatch(parameter) for parameter in parameters)

    def allows(media_type: str) -> bool:
        # The most specific entry decides (RFC 9110 12.5.1).
        ranges = (media_type, media_type.partition("/")[0] + "/*", "*/*")
        return next((wanted[name] for name in ranges if name in wanted), False)

    return Accepts(allows("application/json"), allows("text/event-stream"))


def header(request: web.BaseRequest, name: str) -> str | None:
    """A header that may be given once, None when it is absent. Raises `Refusal` (400) when it is given twice."""
    values = request.headers.getall(name, None)
    if values is None:
        return None
    if len(values) > 1:
        raise Refusal(400, f"the header {name} is given more than once")
    return values[0]


def target(request: web.BaseRequest) -> tuple[str | None, str]:
    """The authority and the path that a request is for; without an authority Host has it (RFC 9112 3.2)."""
    absolute = _ABSOLUTE.match(request.raw_path)
    if absolute is not None:
        return absolute[1], absolute[2] or "/"
    return None, request.raw_path.partition("?")[0]


def check_coding(request: web.BaseRequest) -> None:
    """Raises `Refusal` (501) for a body in a transfer coding other than chunked (RFC 9112 6.1)."""
    if request.headers.get("Transfer-Encoding", "chunked").strip().lower() != "chunked":
        raise Refusal(501, "the only transfer coding that is understood is chunked", close=True)


def check_header_size(request: web.BaseRequest) -> None:
    """Raises `Refusal` (431) when all headers together are too large; aiohttp bounds each one and their number."""
    if sum(len(name) + len(value) for name, value in request.raw_headers) > MAX_HEADER_BYTES:
        raise Refusal(431, f"the headers are larger than {MAX_HEADER_BYTES} bytes", close=True)


async def read_message(request: web.BaseRequest, limit: int) -> Message:
    """The one JSON-RPC message that the body is. Raises `Refusal` (400, 408, 413, 415)."""
    media_type = (header(request, "Content-Type") or "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise Refusal(415, "the Content-Type must be application/json", close=True)
    if (header(request, "Content-Encoding") or "identity").lower() != "identity":
        raise Refusal(415, "compressed bodies are not accepted", close=True)
    body = await _read_body(request, limit)
    try:
        return jsonrpc.decode(body)
    except RpcError as error:
        raise Refusal(400, error) from None


async def _read_body(request: web.BaseRequest, limit: int) -> bytes:
    too_large = Refusal(413, f"the body is larger than {limit} bytes", close=True)
    if (request.content_length or 0) > limit:
        raise too_large
    content = request.content
    if content.is_eof():  # usually it came in one piece with the headers, and needs no clock
        return await _collect(content, limit, too_large)
    if (request.headers.get("Expect") or "").lower() == "100-continue" and request.transport is not None:
        request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    try:
        async with asyncio.timeout(BODY_TIMEOUT):
            return await _collect(content, limit, too_large)
    except TimeoutError:
        raise Refusal(408, f"the body did not arrive within {BODY_TIMEOUT:.0f} seconds", close=True) from None


async def _collect(content: StreamReader, limit: int, too_large: Refusal) -> bytes:
    chunks: list[bytes] = []
    size = 0
    try:
        while chunk := await content.readany():
            size += len(chunk)
            if size > limit:
                raise too_large
            chunks.append(chunk)
    except (web.RequestPayloadError, HttpProcessingError):
        raise Refusal(400, "the body is not framed as HTTP requires", close=True) from None
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)
