"""One HTTP/1.1 connection to an upstream, which carries one request at a time.

A response with a known length that arrives in one piece is split after its head; parsed heads are cached by their
bytes. httptools parses every other response as it arrives. Both are bounded. Bytes that are not HTTP, or that arrive
without a request, close the connection (RFC 9112; rule R10).
"""

from __future__ import annotations

import asyncio
import contextlib
import select
import time
from collections.abc import Callable
from typing import Final, cast

from gateway_core.http1.client.head import MAX_HEAD, Closed, HeadCache, Unused
from gateway_core.http1.client.parser import StreamParser
from gateway_core.http1.client.response import ClientResponse, ResponseHead
from gateway_core.inline.driver import Completion
from gateway_core.limits.accounts import UNCOUNTED, Account, Claim
from gateway_core.limits.pace import Pace

LINGER: Final = 1.0
"""Seconds allowed for the rest of an unwanted response to arrive."""
FRAMING_RATE: Final = 1024 * 1024
FRAMING_BURST: Final = 256 * 1024
"""Bytes of chunked framing per second, and at once, above which a connection is read more slowly."""


class WireConnection(asyncio.Protocol):
    """One connection, for one request at a time."""

    def __init__(
        self,
        heads: HeadCache,
        idle: Callable[[WireConnection], None],
        lost: Callable[[WireConnection], None],
        limit: int,
        account: Account = UNCOUNTED,
    ) -> None:
        """`idle` is called when the connection can take the next request, `lost` when it is closed.

        `limit`: largest JSON body of known length, in bytes, that is collected before it is passed on. `account` counts
        these bodies.
        """
        self._account = account
        self._limit = limit
        self._heads = heads
        self._idle = idle
        self._lost = lost
        self._transport: asyncio.Transport | None = None
        self._poll = select.poll()
        self._answer: Completion[ClientResponse] | None = None
        """The awaited response; None without a request, and once a streamed response has begun."""
        self._response: ClientResponse | None = None
        """The response whose body is arriving."""
        self._stream: StreamParser | None = None
        self._collected: _Collection | None = None
        self._lingering: asyncio.TimerHandle | None = None
        self._framing = Pace(FRAMING_RATE, FRAMING_BURST)
        self._slowed: asyncio.TimerHandle | None = None
        """Ends a pause because of too much framing."""
        self._held = False
        """Whether the reader of the body pauses."""
        self._last = False
        """Whether the connection closes after the current request."""
        self.unused_since = 0.0
        """Start of the idle time, on the monotonic clock."""
        self._failure: OSError | None = None
        """The error that ended the connection; None while it is open, and if the server closed it."""

    def is_usable(self) -> bool:
        """Whether it can take a request: it is open, and no unexpected bytes have arrived (rule R10)."""
        transport = self._transport
        return transport is not None and not transport.is_closing() and not self._poll.poll(0)

    @property
    def failure(self) -> OSError:
        """Why a connection cannot take a request that was not written to it."""
        return self._failure or Unused("closed before it was used")

    @property
    def peer(self) -> str:
        """The address of the peer; empty if unknown."""
        peer = self._transport.get_extra_info("peername") if self._transport is not None else None
        return str(peer[0]) if peer else ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's transports have other bases
        sock = transport.get_extra_info("socket")
        if sock is not None:
            self._poll.register(sock.fileno(), select.POLLIN)

    def ask(
        self, head: bytes, body: bytes, before_send: Callable[[], None] | None = None, *, last: bool = False
    ) -> Completion[ClientResponse]:
        """Send a request. The completion fails with `OSError` if no response arrives.

        `before_send` is called just before the first byte may leave, and may raise. `last`: close the connection after
        this request. Raises `OSError` if the connection is closed; nothing was sent then.
        """
        transport = self._transport
        if transport is None or transport.is_closing():
            raise self.failure
        if before_send is not None:
            before_send()
        answer: Completion[ClientResponse] = Completion()
        self._answer, self._last = answer, last
        if len(body) < MAX_HEAD:
            transport.write(head + body)
        else:
            transport.writelines((head, body))
        return answer

    def give_up(self, answer: Completion[ClientResponse]) -> None:
        """Stop waiting: close the connection if `answer` is still pending, else close the response."""
        if self._answer is answer:
            self.close()
        elif answer.done:
            with contextlib.suppress(OSError):
                answer.result().close()

    # -- receiving ----------------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        if self._collected is not None:
            self._collect(self._collected, data)
            return
        if self._stream is None:
            answer = self._answer
            if answer is None:  # no request is in flight
                self.close()
                return
            end = data.find(b"\r\n\r\n") + 4
            head = self._heads.read(data[:end]) if end > 3 else None
            if head is not None and head.length is not None:
                missing = head.length - len(data) + end
                if not missing:
                    self._answer = None
                    self._ended(reusable=head.reusable)
                    answer.complete(ClientResponse(head, None, data[end:]))
                    return
                if missing > 0 and head.canonical and head.length <= self._limit:
                    claim = self._account.claim()
                    if claim.grow(head.length):  # otherwise, its reader waits for room
                        self._collected = _Collection(head, [data[end:]], missing, claim)
                        return
            self._stream = StreamParser(self._begun, head)
        stream = self._stream
        stream.feed(data)
        if stream.framing:
            self._slow(self._framing.pause(stream.framing))
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
    def _pass_on(response: ClientResponse | None, answer: Completion[ClientResponse] | None) -> None:
        """Resume the caller that waits for the response or its body.

        Do this last: the caller may use the connection again at once.
        """
        if response is None:
            return
        if answer is not None:
            answer.complete(response)
        else:
            response.wake()

    def _slow(self, seconds: float) -> None:
        """Read nothing for some seconds; 0 changes nothing."""
        if seconds and self._slowed is None and self._transport is not None:
            self._transport.pause_reading()
            self._slowed = asyncio.get_running_loop().call_later(seconds, self._read_on)

    def _read_on(self) -> None:
        self._slowed = None
        if not self._held:
            self.resume()

    def _collect(self, collected: _Collection, data: bytes) -> None:
        """Add a piece to the collected response, and pass it on once complete."""
        collected.pieces.append(data)
        collected.missing -= len(data)
        if collected.missing > 0:
            return
        answer, self._answer, self._collected = self._answer, None, None
        assert answer is not None
        body = b"".join(collected.pieces)
        self._ended(reusable=collected.head.reusable and not collected.missing)
        answer.complete(
            ClientResponse(collected.head, None, body[: collected.head.length] if collected.missing else body)
        )
        collected.claim.release()

    def _begun(self, head: ResponseHead) -> ClientResponse:
        """Called by the parser when a head is complete; returns the response for its body."""
        self._response = ClientResponse(head, self)
        return self._response

    def _finish(self) -> None:
        """End a streamed response."""
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
        if reusable and not self._last and not transport.get_write_buffer_size():
            self.unused_since = time.monotonic()
            self._idle(self)
        else:
            self.close()

    def connection_lost(self, exc: BaseException | None) -> None:
        self._transport = None
        self._failure = exc if isinstance(exc, OSError) else None
        self._stop_lingering()
        if self._slowed is not None:
            self._slowed.cancel()
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
        if collected is not None:  # the head is complete, so only the body fails
            collected.claim.release()
            response = ClientResponse(collected.head, self)
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
        """Abort the connection."""
        if self._transport is not None:
            self._transport.abort()

    # -- `Carrier` of a response ---------------------------------------------------------------------------------

    def pause(self) -> None:
        self._held = True
        if self._transport is not None:
            self._transport.pause_reading()

    def resume(self) -> None:
        self._held = False
        if self._slowed is None and self._transport is not None and not self._transport.is_closing():
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
    """The collected part of a response."""

    __slots__ = ("claim", "head", "missing", "pieces")

    def __init__(self, head: ResponseHead, pieces: list[bytes], missing: int, claim: Claim) -> None:
        self.head = head
        self.pieces = pieces
        self.missing = missing
        """Bytes that have not arrived; negative if too many have."""
        self.claim = claim
