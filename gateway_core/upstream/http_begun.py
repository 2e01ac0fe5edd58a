"""The answer to a request over Streamable HTTP that no task waits for, as long as it is what most servers send: JSON,
or an event stream with the response in it."""

from __future__ import annotations

from typing import Final, Protocol

from gateway_core.decoder import decode_response
from gateway_core.errors import OutcomeUnknown, RpcError
from gateway_core.jsonrpc import Message
from gateway_core.upstream.begun import BegunPending
from gateway_core.upstream.events import Event, EventParser, EventTooLarge
from gateway_core.upstream.http1.response import Response, ResponseHead
from gateway_core.upstream.http1.wire import WireConnection
from gateway_core.upstream.incoming import Strays, read
from gateway_core.upstream.pending import Pending, own_id

_NEWLINE: Final = ord("\n")
_RETURN: Final = ord("\r")
_FRAMES: Final = ((b"event: message\r\ndata: ", b"\r\n\r\n"), (b"event: message\ndata: ", b"\n\n"))
"""What surrounds the only event of a stream, as the official SDKs for Python and TypeScript write it."""


class Stream(Protocol):
    """Where an answer's stream belongs: its `HttpConnection`."""

    @property
    def strays(self) -> Strays: ...

    def take(self, message: Message, pending: Pending) -> bool:
        """Take one message of it; whether it was the response."""


class HttpPending(BegunPending, kw_only=True):
    """The request; a `wire.Receiver`."""

    stream: Stream
    limit: int
    """Bytes of an answer."""
    wire: WireConnection | None = None
    """What it was sent on."""
    parser: EventParser | None = None
    """How far the stream was read."""
    _response: Response | None = None
    """The stream that is being listened to, before a task reads it."""

    def collects(self, head: ResponseHead) -> bool:
        return head.usual and (head.length or 0) <= self.limit

    def whole(self, head: ResponseHead, body: bytes) -> None:
        if len(body) <= self.limit:
            data = body if head.usual else _only_event(body) if head.events else None
            if data is not None and self._ends(data):
                return
        self.begun(Response(head, None, body))

    def begun(self, response: Response) -> None:
        if response.head.events and not self.call.taken:
            self._response = response
            response.listener = self._heard
            self._heard()
        else:
            self.call.arrived(response)
            if self.call.arrival.cancelled():
                response.close()

    def failed(self, error: OSError) -> None:
        self.call.failed(error)

    def taken_over(self) -> None:
        response, self._response = self._response, None
        if response is not None:
            response.listener = None
            self.call.arrived(response)

    async def response(self) -> Response:
        """The answer, for the task. Raises `OSError`. Cancelled, it hangs up."""
        assert self.wire is not None, "it was sent"
        return await self.wire.wait(self, self.call.arrival)

    def _heard(self) -> None:
        """More of the stream has come, or it has ended."""
        response = self._response
        assert response is not None, "it is listened to"
        try:
            answered = any(self._takes(chunk) for chunk in response.ready())
        except EventTooLarge as error:
            self.fail(OutcomeUnknown(str(error)))
            response.close()
            answered = True
        if self.over or (response.ended and not answered):
            self.call.arrived(response)
        elif answered:
            response.spend()

    def _takes(self, chunk: bytes) -> bool:
        """Take a piece of the stream; whether the response was in it. Raises `EventTooLarge`."""
        if self.parser is None:
            data = _only_event(chunk) if len(chunk) <= self.limit else None
            if data is not None and self._ends(data):
                return True
            self.parser = EventParser(self.limit)
        return any(self._answers(event) for event in self.parser.feed(chunk))

    def _ends(self, data: bytes) -> bool:
        """Whether this is the usual response, which ends the call."""
        try:
            return self._ended_by(decode_response(data))
        except RpcError:
            return False

    def _ended_by(self, message: Message) -> bool:
        members = message.result_members
        return (
            members is not None
            and own_id(message.id) == self.number
            and self.call.ended(bytes(message.result), members)
        )

    def _answers(self, event: Event) -> bool:
        if event.event != "message" or not event.data:
            return False
        message = read(event.data, self.stream.strays)
        return message is not None and (self._ended_by(message) or self.stream.take(message, self))


def _only_event(chunk: bytes) -> bytes | None:
    """The data of a piece that is one whole event, as most servers write it."""
    for begin, end in _FRAMES:
        if chunk.startswith(begin) and chunk.endswith(end):
            data = chunk[len(begin) : -len(end)]
            return None if _NEWLINE in data or _RETURN in data else data
    return None
