"""Interprets the HTTP responses of Streamable HTTP: their bodies and statuses.

Sources: transports/streamable-http (both revisions), rule R8 for statuses that prove that nothing was executed.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Final

import msgspec
from msgspec import Raw

from gateway_core.errors import OutcomeUnknown, RefusedUpstream, RpcError, UnusableAnswer
from gateway_core.http1.client import field_names
from gateway_core.http1.client.head import Malformed
from gateway_core.http1.client.response import ClientResponse
from gateway_core.inline.driver import in_task
from gateway_core.limits.accounts import NO_ROOM, UNCOUNTED, Account
from gateway_core.mcp import jsonrpc
from gateway_core.mcp.decoder import decode_response
from gateway_core.upstream.base import ClientContext, NoMcpAnswer
from gateway_core.upstream.messages.malformed import request_answered, unreadable
from gateway_core.upstream.messages.noise import pieces
from gateway_core.upstream.messages.unexpected import UnexpectedMessages
from gateway_core.upstream.pending import Pending, own_id, reply_of
from gateway_core.upstream.requests import Reply
from gateway_core.upstream.transports.events import Event, EventParser, EventTooLarge
from gateway_core.upstream.transports.session_loss import Failure

REFUSALS: Final = frozenset({401, 403, 413, 415, 421, 429})
"""Statuses that a server sends before it executes anything (rule R8); 503 too, but only with `Retry-After`."""
MAX_ERROR_BODY: Final = 64 * 1024
MAX_RETRY_AFTER: Final = 3600.0
ROOM_WAIT: Final = 20.0
"""Seconds that a large answer waits for room in the memory budget."""
ANSWERS: Final = frozenset({200, 201, 203, 206})
"""HTTP statuses with an answer to a request. Some frameworks say 201 for each POST."""


class _ErrorBody(msgspec.Struct):
    """An error response. Its id may be null or absent if the server did not read the request."""

    jsonrpc: str
    error: Raw
    id: Raw = Raw(b"null")


async def read_body(response: ClientResponse, limit: int, account: Account = UNCOUNTED) -> bytes:
    """The whole body; `account` counts it while it arrives.

    Without room for it, reads nothing for up to `ROOM_WAIT` seconds. Raises `OutcomeUnknown` if it breaks off, is
    larger than `limit` bytes, or does not fit into the memory.
    """
    whole = response.body if response.body is not None else response.whole()
    if (response.head.length or len(whole or b"")) > limit:
        raise OutcomeUnknown(f"its answer is larger than {limit} bytes")
    if whole is not None:
        return whole
    pieces: list[bytes] = []
    size = 0
    room = _Room(account)
    try:
        if not await room.take(response.head.length or 0):  # all of it at once, so that few wait half read
            raise OutcomeUnknown(NO_ROOM)
        while (chunk := await response.read()) is not None:
            pieces.append(chunk)
            size += len(chunk)
            if size > limit:
                raise OutcomeUnknown(f"its answer is larger than {limit} bytes")
            if not await room.take(size):
                raise OutcomeUnknown(NO_ROOM)
        return b"".join(pieces)
    except Malformed as error:
        raise OutcomeUnknown(str(error)) from None
    except OSError:
        raise OutcomeUnknown("its answer broke off") from None
    finally:
        room.release()


class _Room:
    """The room of one answer in the memory budget."""

    def __init__(self, account: Account) -> None:
        self._claim = account.claim()
        self._turn: asyncio.Lock | None = None
        """Held once the answer had to wait, until its end: of several that wait, one gets on."""

    async def take(self, size: int) -> bool:
        """Count the answer up to `size` bytes, once there is room. False without room for `ROOM_WAIT` seconds."""
        claim = self._claim
        if claim.grow(size):
            return True
        if not claim.can_grow(size):
            return False
        await in_task()
        try:
            async with asyncio.timeout(ROOM_WAIT):
                if self._turn is None:
                    turn = claim.turn()
                    await turn.acquire()
                    self._turn = turn
                while not claim.grow(size, is_first=True):
                    await claim.room()
        except TimeoutError:
            return False
        return True

    def release(self) -> None:
        """Give everything back."""
        self._claim.release()
        turn, self._turn = self._turn, None
        if turn is not None:
            turn.release()


async def read_events(
    response: ClientResponse, parser: EventParser, take: Callable[[bytes], bool], unexpected: UnexpectedMessages
) -> bool:
    """Pass the messages of an event stream to `take`, until it returns True or the stream ends.

    Returns whether `take` returned True. Raises `OutcomeUnknown` for an event larger than the parser's limit, and
    `Noisy` for a server that sends too much else.
    """

    def heard(event: Event) -> bool:
        if event.event == "message":
            return bool(event.data) and take(event.data)
        unexpected.noise.weigh(len(event.data))
        return False

    try:
        return await follow(response, parser, heard, unexpected)
    except EventTooLarge as error:
        raise OutcomeUnknown(f"it {error}") from None
    except OSError:
        return False


async def follow(
    response: ClientResponse, parser: EventParser, take: Callable[[Event], bool], unexpected: UnexpectedMessages
) -> bool:
    """Pass the events of a stream to `take`, until it returns True or the stream ends. Slows a server that is too fast.

    Returns whether `take` returned True. Raises `EventTooLarge`, `Noisy`, and `OSError` if the stream breaks off.
    """
    noise = unexpected.noise
    try:
        while (chunk := await response.read()) is not None:
            for piece in pieces(chunk):
                overhead = len(piece) + parser.held
                for event in parser.feed(piece):
                    if take(event):
                        return True
                    overhead -= len(event.data)
                    if noise.due:
                        await noise.throttle(unexpected.slowed)
                noise.lines(max(piece.count(b"\n"), piece.count(b"\r")))
                noise.weigh(overhead - parser.held)
                if noise.due:
                    await noise.throttle(unexpected.slowed)
        return False
    finally:
        parser.release()


async def read_json(response: ClientResponse, pending: Pending, context: ClientContext, limit: int) -> None:
    """Complete a request with the response in a JSON body. Raises `OutcomeUnknown` without a usable one."""
    pending.complete(reply_in(await read_body(response, limit, context.account), pending.number, context))


def reply_in(body: bytes, number: int, context: ClientContext) -> Reply:
    """The reply to request `number` in `body`, without secrets of the gateway.

    Raises `OutcomeUnknown` if `body` holds another message or none."""
    try:
        message = decode_response(context.clean(body))
    except RpcError as error:
        if request_answered(body) == number:
            raise unreadable(body) from None
        raise NoMcpAnswer(f"its answer is not a JSON-RPC message: {error.message}") from None
    if message.method or (message.number or own_id(message.id)) != number:
        raise UnusableAnswer("it answered another request than the one it was sent")
    return reply_of(message)


async def failure_in(response: ClientResponse, request_id: int | None, *, in_session: bool) -> Failure:
    """The failure in a response with an error status. `in_session`: read what it says about the session.

    A body that is not a JSON-RPC error is never shown: it may contain arbitrary content.
    """
    status = response.status
    error, ours, body = None, False, b""
    if 400 <= status <= 599:
        if response.is_json:
            body = await read_body(response, MAX_ERROR_BODY)
            error, ours = _error_of(body, request_id)
        elif in_session:
            with contextlib.suppress(OutcomeUnknown):
                body = await read_body(response, MAX_ERROR_BODY)
    said = [] if not in_session else response.headers.getall(field_names.WWW_AUTHENTICATE, ())
    text = error.message if error is not None else " ".join([body.decode("utf-8", "replace"), *said])
    return Failure(status, error, ours, text if in_session else "")


def reply_to(response: ClientResponse, failure: Failure) -> Reply:
    """The reply in a response whose status is no success. Without one, raises the `DeliveryError` for the status."""
    status, error = failure.status, failure.error if failure.status != 401 else None
    retry_after = _retry_after(response.headers.get(field_names.RETRY_AFTER, ""))
    refused = status in REFUSALS or (status == 503 and retry_after is not None)
    if error is not None and (failure.ours or (status < 500 and not refused)):
        return Reply(error=error)
    if refused:
        raise RefusedUpstream(f"HTTP {status}", status=status, retry_after=retry_after)
    raise NoMcpAnswer(f"HTTP {status}" if status >= 400 else f"HTTP {status} without an answer")


def _error_of(body: bytes, request_id: int | None) -> tuple[RpcError | None, bool]:
    """The JSON-RPC error in a body, and whether its id is `request_id`."""
    try:
        found = msgspec.json.decode(body, type=_ErrorBody)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return None, False
    if found.jsonrpc != "2.0" or bytes(found.error)[:1] != b"{":
        return None, False
    return jsonrpc.error_of(found.error), request_id is not None and own_id(found.id) == request_id


def _retry_after(value: str) -> float | None:
    """Seconds from a `Retry-After` header, a number or a date (RFC 9110, section 10.2.3); None if invalid."""
    value = value.strip()
    if value.isdecimal() and value.isascii():
        return min(float(value[:9]), MAX_RETRY_AFTER)
    try:
        date = parsedate_to_datetime(value)
        seconds = (date if date.tzinfo is not None else date.replace(tzinfo=UTC)).timestamp() - time.time()
    except (ValueError, TypeError, OverflowError):
        return None
    return min(max(0.0, seconds), MAX_RETRY_AFTER)
