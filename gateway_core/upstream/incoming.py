"""What a server sends that is no response: the little that it may say or ask by itself, and strays.

A *stray* is a message that answers nothing that was asked, or that no server should send. Strays are counted by
kind, the first of each is a warning, and none is ever acted on.
"""

from __future__ import annotations

from collections import Counter
from typing import Final

from loguru import logger

from gateway_core import jsonrpc
from gateway_core.errors import METHOD_NOT_FOUND, PARSE_ERROR, RpcError
from gateway_core.jsonrpc import Message
from gateway_core.protocol import CHANGING, PING, list_changed

LIST_CHANGES: Final = frozenset(list_changed(capability) for capability in CHANGING)
"""The notifications about no request that are passed on. The gateway asks for no others, log messages included."""
PROGRESS: Final = "notifications/progress"
CANCELLED: Final = "notifications/cancelled"


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
        return jsonrpc.decode(data, mend=True)
    except RpcError as error:
        strays.note("malformed message", "not valid JSON" if error.code == PARSE_ERROR else "not JSON-RPC")
        return None


def answer_to(request: Message, strays: Strays, *, modern: bool) -> bytes | None:
    """The answer to a request of the server; None where its era has no such requests and forbids to answer them.

    The gateway declares no capability, so all that a server may ask is `ping` (basic/utilities/ping of 2025-11-25).
    """
    if modern:
        strays.note("request from a modern server")
        return None
    if request.method == PING:
        return jsonrpc.result(request.id, jsonrpc.EMPTY_OBJECT)
    strays.note("request that the gateway did not offer to answer")
    refusal = RpcError(METHOD_NOT_FOUND, "the gateway declared no capability for this request")
    return jsonrpc.error(request.id, refusal)
