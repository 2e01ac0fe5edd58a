"""What a server sends that is no response: what it may say or ask by itself, and strays.

A *stray* is a message that answers nothing that was asked, or that no server should send. Strays are counted by
kind, the first of each is a warning, and none is ever acted on.
"""

from __future__ import annotations

from collections import Counter
from typing import Final

import msgspec
from loguru import logger
from msgspec import Raw

from gateway_core.errors import METHOD_NOT_FOUND, PARSE_ERROR, RpcError
from gateway_core.exchange.exchange import Exchange
from gateway_core.mcp import jsonrpc
from gateway_core.mcp.decoder import decode_response
from gateway_core.mcp.jsonrpc import Message
from gateway_core.mcp.names import PING
from gateway_core.upstream.capabilities import QUESTIONS
from gateway_core.upstream.transports.questions import Questions


class _Response(msgspec.Struct):
    """As much of a response as can be read of one that is not valid: nothing of it is decoded."""

    id: Raw = Raw()
    method: Raw = Raw()


_RESPONSE: Final = msgspec.json.Decoder(_Response)


class Strays:
    """The strays of one connection; `counts` says how many of which kind."""

    def __init__(self, upstream: str) -> None:
        self.counts: Counter[str] = Counter()
        self._log = logger.bind(upstream=upstream)

    def note(self, kind: str, detail: str = "") -> None:
        """Count one. `detail` is for the log, and must not hold what was sent."""
        self.counts[kind] += 1
        if self.counts[kind] == 1:
            self._log.bind(kind=kind, detail=detail).warning(
                "the server sent something that is ignored; more of this kind is only counted"
            )

    def report(self, reason: str) -> None:
        """Log them all, at the end of the connection."""
        self._log.bind(reason=reason, **self.counts).debug("connection ended")


def read(data: bytes, strays: Strays) -> Message | None:
    """One message of a server; None for what is none, which is a stray."""
    if data.lstrip()[:1] != b"{":
        strays.note("malformed message", "not JSON-RPC")  # a child that prints pages of text costs little
        return None
    try:
        return decode_response(data)
    except RpcError as error:
        strays.note("malformed message", "not valid JSON" if error.code == PARSE_ERROR else "not JSON-RPC")
        return None


def salvaged_id(data: bytes) -> Raw:
    """The id of a response that `read` refused; an empty one for other messages, and for what is not JSON."""
    try:
        found = _RESPONSE.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return Raw()
    return Raw() if len(found.method) else found.id


def answer_to(request: Message, questions: Questions, strays: Strays, exchange: Exchange | None = None) -> bytes | None:
    """Deal with a request of a legacy server: the answer to `ping` (2025-11-25, basic/utilities/ping) and to what no
    client offers; None for a question, which `questions` answers when its agent has."""
    if request.method == PING:
        return jsonrpc.result(request.id, jsonrpc.EMPTY_OBJECT)
    if request.method in QUESTIONS:
        questions.take(request, exchange)
        return None
    strays.note("request that the gateway did not offer to answer")
    refusal = RpcError(METHOD_NOT_FOUND, "the gateway declared no capability for this request")
    return jsonrpc.error(request.id, refusal)
