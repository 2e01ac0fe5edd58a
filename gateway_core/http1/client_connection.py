"""One HTTP/1.1 connection to an upstream: a request goes out in one write, its answer comes in, and the next may go.

The usual answer, which comes in one piece with its length told, is cut at the end of its head; heads are parsed once
and remembered by their bytes. Everything else goes through httptools as it comes. Both are bounded. What is not HTTP,
or comes when nothing was asked, ends the connection (RFC 9112; rule R10).
"""

from __future__ import annotations

import asyncio
import contextlib
import select
from collections.abc import Callable
from typing import Final, cast

from gateway_core.http1.client_head import MAX_HEAD, Closed, Heads
from gateway_core.http1.client_parser import StreamParser
from gateway_core.http1.client_response import Response, ResponseHead
from gateway_core.inline.driver import Completion

LINGER: Final = 1.0
"""Seconds that the rest of an answer may take to come when it is not wanted any more."""


class WireConnection(asyncio.Protocol):
    """One connection, for one request at a time."""

    def __init__(
        self, heads: Heads, idle: Callable[[WireConnection], None], lost: Callable[[WireConnection], None], limit: int
    ) -> None:
        """`idle` is called when it is free for the next request, `lost` when it is gone.

        `limit`: bytes up to which a JSON answer of known length is collected before it is passed on.
        """
        self._limit = limit
        self._heads = heads
        self._idle = idle
        self._lost = lost
        self._transport: asyncio.Transport | None = None
        self._poll = select.poll()
        self._answer: Completion[Response] | None = None
        """The answer that is waited for; None while nothing was asked, and once its head is there."""
        self._response: Response | None = None
        """The answer whose body is coming."""
        self._stream: StreamParser | None = None
        self._collected: _Collection | None = None
        self._lingering: asyncio.TimerHandle | None = None
        self.last = False
        """Whether the request that it has is its last one."""
        self.unused_since = 0.0
        """Since when it is idle, on the monotonic clock."""

    def is_usable(self) -> bool:
        """Whether the next request can go: it is open, and nothing has come that nobody asked for (rule R10)."""
        transport = self._transport
        return transport is not None and not transport.is_closing() and not self._poll.poll(0)

    @property
    def peer(self) -> str:
        """The address at the other end."""
        peer = self._transport.get_extra_info("peername") if self._transport is not None else None
        return str(peer[0]) if peer else ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's transports have other bases
        sock = transport.get_extra_info("socket")
        if sock is not None:
            self._poll.register(sock.fileno(), select.POLLIN)

    def ask(self, head: bytes, body: bytes) -> Completion[Response]:
        """Send a request on a usable connection. The completion fails with `OSError` when there is no answer."""
        answer: Completion[Response] = Completion()
        transport = self._transport
        if transport is None or transport.is_closing():
            answer.fail(Closed("closed before it was used"))
            return answer
        self._answer = answer
        if len(body) < MAX_HEAD:
            transport.write(head + body)
        else:
            transport.writelines((head, body))
        return answer

    def give_up(self, answer: Completion[Response]) -> None:
        """Nobody waits for this answer any more: hang up, unless it is there and others have the connection."""
        if self._answer is answer:
            self.close()
        elif answer.done:
            with contextlib.suppress(OSError):
                answer.result().close()

    # -- what comes ---------------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        if self._collected is not None:
            self._collect(self._collected, data)
            return
        if self._stream is None:
            answer = self._answer
            if answer is None:  # nothing was asked
                self.close()
                return
            end = data.find(b"\r\n\r\n") + 4
            head = self._heads.read(data[:end]) if end > 3 else None
            if head is not None and head.length is not None:
                missing = head.length - len(data) + end
                if not missing:
                    self._answer = None
                    self._ended(reusable=head.reusable)
                    answer.complete(Response(head, None, data[end:]))
                    return
                if missing > 0 and head.usual and head.length <= self._limit:
                    self._collected = _Collection(head, [data[end:]], missing)
                    return
            self._stream = StreamParser(self._begun, head)
        stream = self._stream
        stream.feed(data)
        response, answer = self._response, self._answer
        if stream.failure is not None:
            self._fail(stream.failure)
        elif stream.done:
            self._finish()
            self._pass_on(response, answer)
        elif response is not None:
            self._answer = None
            self._pass_on(response, answer)

    @staticmethod
    def _pass_on(response: Response | None, answer: Completion[Response] | None) -> None:
        """Resume whoever waits for the answer or for more of its body. Last of all: the connection may be used again
        in there."""
        if response is None:
            return
        if answer is not None:
            answer.complete(response)
        else:
            response.wake()

    def _collect(self, collected: _Collection, data: bytes) -> None:
        """A piece of an answer that is collected."""
        collected.pieces.append(data)
        collected.missing -= len(data)
        if collected.missing > 0:
            return
        answer, self._answer, self._collected = self._answer, None, None
        assert answer is not None
        body = b"".join(collected.pieces)
        self._ended(reusable=collected.head.reusable and not collected.missing)
        answer.complete(Response(collected.head, None, body[: collected.head.length] if collected.missing else body))

    def _begun(self, head: ResponseHead) -> Response:
        """The head of an answer is there."""
        self._response = Response(head, self)
        return self._response

    def _finish(self) -> None:
        """The answer that came in pieces is complete."""
        stream, response = self._stream, self._response
        assert stream is not None
        assert response is not None
        self._stream = self._response = self._answer = None
        stream.release()
        self._stop_lingering()
        response.end()
        self.resume()
        self._ended(reusable=response.head.reusable and not stream.more)

    def _ended(self, *, reusable: bool) -> None:
        transport = self._transport
        if transport is None:
            return
        if reusable and not self.last and not transport.get_write_buffer_size():
            self._idle(self)
        else:
            self.close()

    def connection_lost(self, exc: BaseException | None) -> None:
        self._transport = None
        self._stop_lingering()
        self._lost(self)
        response = self._response
        if (
            exc is None
            and response is not None
            and response.head.length is None
            and "Transfer-Encoding" not in (response.headers)
        ):
            answer, self._answer = self._answer, None
            self._response = None
            self._drop_stream()
            response.end()
            self._pass_on(response, answer)
            return
        self._fail(exc if isinstance(exc, OSError) else Closed("the connection was closed"))

    def _fail(self, error: OSError) -> None:
        answer, self._answer = self._answer, None
        collected, self._collected = self._collected, None
        response, self._response = self._response, None
        if collected is not None:  # its head is there: what breaks off is the body
            response = Response(collected.head, self)
        self._drop_stream()
        self.close()
        if response is not None:
            response.end(error)
            self._pass_on(response, answer)
        elif answer is not None:
            answer.fail(error)

    def _drop_stream(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.release()

    def close(self) -> None:
        """Hang up at once."""
        if self._transport is not None:
            self._transport.abort()

    # -- as the carrier of an answer ----------------------------------------------------------------------------

    def pause(self) -> None:
        if self._transport is not None:
            self._transport.pause_reading()

    def resume(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def abandon(self) -> None:
        self._response = None
        self.close()

    def linger(self) -> None:
        self._lingering = asyncio.get_running_loop().call_later(LINGER, self.abandon)

    def _stop_lingering(self) -> None:
        if self._lingering is not None:
            self._lingering.cancel()
            self._lingering = None


class _Collection:
    """What has come of an answer that is collected."""

    __slots__ = ("head", "missing", "pieces")

    def __init__(self, head: ResponseHead, pieces: list[bytes], missing: int) -> None:
        self.head = head
        self.pieces = pieces
        self.missing = missing
        """Bytes that have not come yet."""
