"""One HTTP request on the long way before anybody acts on it: its target, its size, its body within bounds.

Whatever is wrong is a `Refusal`, which `app.py` turns into the response.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

import msgspec
from aiohttp import StreamReader, web
from aiohttp.http_exceptions import HttpProcessingError
from msgspec import Raw

from gateway_core.decoder import decode_request
from gateway_core.downstream.answer import Refusal
from gateway_core.downstream.head import MAX_HEADER_BYTES, Head, is_json
from gateway_core.downstream.stream import Accepts, Writer
from gateway_core.errors import RpcError
from gateway_core.jsonrpc import Message

BODY_TIMEOUT: Final = 30.0
_ABSOLUTE: Final = re.compile(r"https?://([^/?#]*)([^?#]*)", re.IGNORECASE)


class Post(msgspec.Struct, eq=False):
    """One message that came by POST, whichever way."""

    head: Head
    message: Message
    address: str
    """Whose it is: see `canonical_address`."""
    begin_stream: Callable[[], Awaitable[Writer]]
    """Makes a stream of the answer. Raises `ConnectionError`."""
    meta: Mapping[str, Raw] = {}
    """The members of `_meta` in the message's params."""
    swept: bool = False
    """Whether its connection looks at it about once a second: see `Serving.look`."""


def require_stream(accepted: Accepts, message: Message | None = None) -> None:
    """Raises `Refusal` (406) unless the answer may be a stream, where it can be nothing else."""
    if not accepted.stream:
        raise Refusal(406, "the answer is text/event-stream, which Accept does not name", message=message)


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


async def read_message(request: web.BaseRequest, head: Head, limit: int) -> Message:
    """The one JSON-RPC message that the body is. Raises `Refusal` (400, 408, 413, 415)."""
    if not is_json(head.once("Content-Type")):
        raise Refusal(415, "the Content-Type must be application/json", close=True)
    if (head.once("Content-Encoding") or "identity").lower() != "identity":
        raise Refusal(415, "compressed bodies are not accepted", close=True)
    return message_of(await _read_body(request, limit))


def message_of(body: bytes) -> Message:
    """The one JSON-RPC message that a body is. Raises `Refusal` (400)."""
    try:
        return decode_request(body)
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
