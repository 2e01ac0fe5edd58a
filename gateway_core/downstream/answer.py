"""What one HTTP request is answered with, when that is no stream: an `Answer`, or a `Refusal` that becomes one."""

from __future__ import annotations

import math
from collections.abc import Mapping
from email.utils import formatdate
from http import HTTPStatus
from typing import Final

import msgspec
from aiohttp import web

from gateway_core import jsonrpc
from gateway_core.errors import (
    HEADER_MISMATCH,
    INVALID_PARAMS,
    INVALID_REQUEST,
    METHOD_NOT_FOUND,
    MISSING_CLIENT_CAPABILITY,
    OVERLOADED,
    PARSE_ERROR,
    UNSUPPORTED_PROTOCOL_VERSION,
    RpcError,
    TooManySessions,
    overloaded,
)
from gateway_core.jsonrpc import Message
from gateway_core.protocol import IMPLEMENTATION

JSON: Final = "application/json"
SERVER: Final = IMPLEMENTATION["name"]
"""The header `Server`: who answers, and no version for whoever looks for old ones."""
STATUS_OF: Final[Mapping[int, int]] = {
    **dict.fromkeys((PARSE_ERROR, INVALID_REQUEST, INVALID_PARAMS, HEADER_MISMATCH), 400),
    **dict.fromkeys((MISSING_CLIENT_CAPABILITY, UNSUPPORTED_PROTOCOL_VERSION), 400),
    METHOD_NOT_FOUND: 404,
}
"""JSON-RPC error code -> HTTP status, where the specification gives one (transports/streamable-http)."""
_REASONS: Final = {status.value: status.phrase for status in HTTPStatus}


class Answer(msgspec.Struct, frozen=True, eq=False):
    """An HTTP answer. `close`: the connection ends with it."""

    body: bytes
    status: int = 200
    headers: Mapping[str, str] = {}
    close: bool = False

    def response(self) -> web.Response:
        """The same for aiohttp to send."""
        response = web.Response(body=self.body, status=self.status, headers={"Server": SERVER, **self.headers})
        if self.body:
            response.content_type = JSON
        if self.close:
            response.force_close()
        return response


class Heads:
    """Writes the heads of answers; the usual one, which differs in the length only, is prepared by `refresh`."""

    def __init__(self) -> None:
        self.refresh()

    def refresh(self) -> None:
        """Have the usual head say what time it is; due about once a second."""
        self._usual = head_of(200, {"Content-Type": JSON}) + b"Content-Length: "

    def of(self, answer: Answer) -> bytes:
        """The head of `answer`, the empty line after it included."""
        if answer.status == 200 and not answer.headers and not answer.close:
            return b"%b%d\r\n\r\n" % (self._usual, len(answer.body))
        headers = {"Content-Type": JSON, **answer.headers} if answer.body else {**answer.headers}
        if answer.status != HTTPStatus.NO_CONTENT:
            headers["Content-Length"] = str(len(answer.body))
        if answer.close:
            headers["Connection"] = "close"
        return head_of(answer.status, headers) + b"\r\n"


def head_of(status: int, headers: Mapping[str, str]) -> bytes:
    """The head of an answer up to its last header. The values are the gateway's own, so nothing has to be escaped."""
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    date = formatdate(usegmt=True)
    return f"HTTP/1.1 {status} {_REASONS[status]}\r\nServer: {SERVER}\r\nDate: {date}\r\n{lines}".encode()


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
        self.headers = headers or {}
        self.close = close

    @classmethod
    def busy(cls, problem: RpcError | str, status: int = 503, *, message: Message | None = None) -> Refusal:
        """For a limit of the gateway. `Retry-After` repeats `retryAfterMs` of the error, in whole seconds."""
        error = overloaded(problem) if isinstance(problem, str) else problem
        wait = error.data.get("retryAfterMs") if isinstance(error.data, dict) else None
        headers = {} if wait is None else {"Retry-After": str(math.ceil(wait / 1000))}
        return cls(status, error, message=message, headers=headers)

    @classmethod
    def of(cls, error: RpcError, message: Message | None = None) -> Refusal:
        """For an error that decides the status: 503 (429 where it is the agent's own limit), else that of its code."""
        if error.code == OVERLOADED:
            own = isinstance(error, TooManySessions) and not error.everybody
            return cls.busy(error, 429 if own else 503, message=message)
        return cls(STATUS_OF.get(error.code, 400), error, message=message)

    def answer(self) -> Answer:
        request_id = self.message.id if self.message is not None else None
        return Answer(jsonrpc.error(request_id, self.error), self.status, self.headers, self.close)
