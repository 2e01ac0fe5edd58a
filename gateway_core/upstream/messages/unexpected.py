"""Reads the messages of a server, answers its requests, and counts unexpected messages.

A message is *unexpected* if it answers no request, or if no server should send it. Such messages are counted by kind
and ignored; the first of each kind is logged as a warning.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from typing import Final

from loguru import logger

from gateway_core.errors import INVALID_REQUEST, METHOD_NOT_FOUND, PARSE_ERROR, RpcError
from gateway_core.exchange.exchange import Exchange
from gateway_core.mcp import jsonrpc
from gateway_core.mcp.decoder import decode_response
from gateway_core.mcp.jsonrpc import Message
from gateway_core.mcp.names import LOG_MESSAGE, PING, PROGRESS
from gateway_core.upstream.base import ClientContext
from gateway_core.upstream.capabilities import QUESTIONS
from gateway_core.upstream.messages.malformed import tolerated
from gateway_core.upstream.messages.noise import Noise
from gateway_core.upstream.messages.questions import ServerQuestions

_USEFUL: Final = frozenset({PROGRESS, LOG_MESSAGE, *QUESTIONS})
"""Methods of messages whose bytes are useful."""


class UnexpectedMessages:
    """Counts the unexpected of one connection by kind, in `counts`."""

    def __init__(self, upstream: str) -> None:
        self.counts: Counter[str] = Counter()
        self.noise: Final = Noise()
        self._log = logger.bind(upstream=upstream)

    def note(self, kind: str, detail: str = "") -> None:
        """Count one message, as noise too. `detail` goes to the log and must not contain data from the message."""
        self.noise.heard()
        self._count(kind, detail)

    def slowed(self) -> None:
        """Count one pause of a server that sends too fast."""
        self._count("pause of a server that sends faster than it is read", "")

    def _count(self, kind: str, detail: str) -> None:
        self.counts[kind] += 1
        if self.counts[kind] == 1:
            self._log.bind(kind=kind, detail=detail).warning(
                "the server sent something that is ignored or slowed; more of this kind is only counted"
            )

    def report(self, reason: str) -> None:
        """Log all counts at the end of the connection."""
        self._log.bind(reason=reason, **self.counts).debug("connection ended")


def read(data: bytes, context: ClientContext, unexpected: UnexpectedMessages) -> Message | None:
    """Parse one message from a server, without secrets of the gateway.

    None if it is malformed, which is counted; see `malformed.py`.
    """
    if data.lstrip()[:1] != b"{":
        unexpected.noise.weigh(len(data))
        unexpected.note("malformed message", "not JSON-RPC")  # cheap check, in case a child prints text
        return None
    data = context.clean(data)
    try:
        message = decode_response(data)
    except RpcError as error:
        repaired = tolerated(data) if error.code == INVALID_REQUEST else None
        if repaired is not None:
            with contextlib.suppress(RpcError):
                return decode_response(repaired)
        unexpected.noise.weigh(len(data))
        unexpected.note("malformed message", "not valid JSON" if error.code == PARSE_ERROR else "not JSON-RPC")
        return None
    if message.method:
        unexpected.noise.weigh(len(data), useful=message.method in _USEFUL)
        if not message.is_request:
            unexpected.noise.notified(message.method)
    return message


def answer_to(
    request: Message, questions: ServerQuestions, unexpected: UnexpectedMessages, exchange: Exchange | None = None
) -> bytes | None:
    """Handle a request of a legacy server; `exchange`: the call on whose stream it came.

    Returns the response to `ping` (2025-11-25, basic/utilities/ping), or an error for unsupported methods. Returns None
    for a question: `questions` sends its answer later.
    """
    if request.method == PING:
        unexpected.noise.heard()
        return jsonrpc.result(request.id, jsonrpc.EMPTY_OBJECT)
    if request.method in QUESTIONS:
        unexpected.noise.heard()
        questions.take(request, exchange)
        return None
    unexpected.note("request that the gateway did not offer to answer")
    refusal = RpcError(METHOD_NOT_FOUND, "the gateway declared no capability for this request")
    return jsonrpc.error(request.id, refusal)
