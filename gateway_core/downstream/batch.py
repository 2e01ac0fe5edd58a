"""JSON-RPC batches: several messages of a legacy agent in one array (2025-03-26, basic/index, Batching).

Only 2025-03-26 has them. A batch is decoded completely before any of its messages takes effect, so one malformed
message refuses all of them. Each request then takes the same path as a single one.
"""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final, Literal

import msgspec
from loguru import logger
from msgspec import Raw

from gateway_core.api import CallResult
from gateway_core.downstream.streams.stream import PostResponse
from gateway_core.errors import INVALID_REQUEST, PARSE_ERROR, RpcError
from gateway_core.exchange.exchange import Agent
from gateway_core.http1.response import Response
from gateway_core.inline.driver import Running
from gateway_core.internal_errors import internal_error, where
from gateway_core.mcp import jsonrpc
from gateway_core.mcp.decoder import decode_request
from gateway_core.mcp.jsonrpc import Message
from gateway_core.mcp.names import INITIALIZE

BATCHING: Final = "2025-03-26"
"""The only revision with batches; 2025-06-18 removed them."""
MAX_MESSAGES: Final = 100
"""Messages of one batch."""
SLICE: Final = 8
"""Requests of one batch that begin at once."""
REST: Final = 0.001
"""Seconds until the next ones begin; meanwhile other agents are served."""

_ARRAY: Final = re.compile(rb"[ \t\r\n]*\[")


class _Counted(msgspec.Struct, gc=False):
    """The smallest part that shows a message, to count messages before they take memory."""

    jsonrpc: Literal["2.0"]


_COUNTED: Final = msgspec.json.Decoder(list[_Counted])
_MESSAGES: Final = msgspec.json.Decoder(list[Raw])


def is_batch(data: bytes) -> bool:
    """Whether a body or line is a JSON array."""
    return _ARRAY.match(data) is not None


def decode_all(data: bytes, agent: Agent | None) -> Sequence[Message]:
    """Decode one message, or a batch of `agent`. Raises `RpcError` as `decode_request` or `decode_batch`."""
    try:
        return (decode_request(data),)
    except RpcError:
        if not is_batch(data):
            raise
    return decode_batch(data, agent)


def decode_batch(data: bytes, agent: Agent | None) -> list[Message]:
    """Decode a batch of `agent`, which is None before `initialize`.

    Raises `RpcError`: `INVALID_REQUEST` if the agent's revision has no batches, if there are no messages or more than
    `MAX_MESSAGES`, or as `decode_request` for any of them; `PARSE_ERROR` if it is not JSON.
    """
    if agent is None or agent.protocol_version != BATCHING:
        revision = "no revision is negotiated yet" if agent is None else f"this session uses {agent.protocol_version}"
        raise _invalid(f"a JSON array: only revision {BATCHING} has batches, and {revision}")
    try:
        number = len(_COUNTED.decode(data))
    except msgspec.ValidationError as error:
        raise _invalid(f"a message of the batch is not JSON-RPC 2.0: {error}") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise RpcError.of_gateway(PARSE_ERROR, "the batch is not valid JSON") from None
    if not 1 <= number <= MAX_MESSAGES:
        raise _invalid(f"a batch has 1 to {MAX_MESSAGES} messages, and this one has {number}")
    return [_decode(raw, position) for position, raw in enumerate(_MESSAGES.decode(data), 1)]


def _decode(raw: Raw, position: int) -> Message:
    try:
        message = decode_request(bytes(raw))
    except RpcError as error:
        raise RpcError.of_gateway(error.code, f"message {position} of the batch: {error.message}") from None
    if message.method == INITIALIZE:  # 2025-03-26, basic/lifecycle, Initialization
        raise _invalid(f"message {position} of the batch: initialize must not be in a batch")
    return message


def _invalid(problem: str) -> RpcError:
    return RpcError.of_gateway(INVALID_REQUEST, problem)


class PendingBatch:
    """The pending responses to the requests of one POST: a JSON array, or one message of the stream for each."""

    def __init__(
        self,
        reply: PostResponse,
        requests: Sequence[tuple[Message, Mapping[str, Raw]]],
        begin: Callable[[Message, Mapping[str, Raw]], bytes | Running[CallResult]],
        respond: Callable[[Message, Running[CallResult]], Response],
    ) -> None:
        """`requests`: each with the members of its `_meta`. `begin` returns the response to one, or its call in flight.

        `respond` makes the response from a call that has ended.
        """
        self.running: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done once all responses are ready."""
        self._reply = reply
        self._requests = deque(requests)
        """Requests that have not begun."""
        self._begin = begin
        self._respond = respond
        self._ready: list[bytes] = []
        """Responses that are not on the stream yet."""
        self._left = len(requests)
        self._lost = False
        """Whether the agent can no longer get the responses."""
        self._begin_some()

    def _begin_some(self) -> None:
        """Begin the next requests; the others follow in later turns of the loop."""
        requests = self._requests
        for message, meta in [requests.popleft() for _ in range(min(len(requests), SLICE))]:
            answer = self._begin_one(message, meta)
            if isinstance(answer, bytes):
                self._ready.append(answer)
                self._count_down()
            else:
                answer.add_done_callback(partial(self._ended, message))
        if requests:
            asyncio.get_running_loop().call_later(REST, self._begin_some)

    def _begin_one(self, message: Message, meta: Mapping[str, Raw]) -> bytes | Running[CallResult]:
        try:
            return self._begin(message, meta)
        except Exception as error:  # noqa: BLE001 - after a bug, the other requests still get their responses
            logger.error("{} while answering an agent\n{}", type(error).__name__, where(error))
            return jsonrpc.error(message.id, internal_error())

    def _ended(self, message: Message, running: Running[CallResult]) -> None:
        if not self._lost:
            self._ready.append(self._respond(message, running).body)
        if self._reply.has_begun:
            self._send()
        self._count_down()

    def _count_down(self) -> None:
        self._left -= 1
        if not self._left:
            self.running.set_result(None)

    def _send(self) -> None:
        """Put the responses that are ready on the stream, which begins if it has not."""
        ready, self._ready = self._ready, []
        for response in ready:
            self._reply.send(response)

    def response(self) -> Response | asyncio.Task[Any] | None:
        """The array, or the task that writes the stream."""
        array = Response(b"[%b]" % b",".join(self._ready))
        if self._reply.is_plain(array):
            return array
        self._conclude()
        return self._reply.writer

    def poll(self, now: float) -> None:
        """Begin the stream of calls that are silent for long; `now` on the monotonic clock."""
        if not self.running.done():
            self._reply.poll(now)
        if self._reply.has_begun:
            self._send()

    def lost(self) -> None:
        """Handle the loss of the connection: the calls continue, and an agent that resumes gets their responses."""
        if not self._reply.detach():
            self._lost = True
            self._ready.clear()
        elif self.running.done():
            self._conclude()
        else:
            self.running.add_done_callback(lambda _: self._conclude())

    def _conclude(self) -> None:
        self._send()
        self._reply.end()
