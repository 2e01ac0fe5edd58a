"""The standalone GET stream of a legacy Streamable HTTP server, kept open as long as its session.

When it ends, it is reopened after the server's `retry:` or the backoff, whichever is longer, with `Last-Event-ID` if
the server sent ids. Without ids, messages in between are lost, so `on_gap` must assume that everything changed.

A server may have no such stream. No answer to the GET ends its session.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from gateway_core.errors import DeliveryError, OutcomeUnknown
from gateway_core.http1.client import field_names
from gateway_core.http1.client.response import ClientResponse
from gateway_core.http1.media_types import EVENT_STREAM
from gateway_core.upstream.messages.noise import Noisy
from gateway_core.upstream.messages.unexpected import read
from gateway_core.upstream.notifications.pauses import Pauses
from gateway_core.upstream.notifications.subscription import LegacyWatcher
from gateway_core.upstream.transports.events import EventParser
from gateway_core.upstream.transports.http_session import HttpSession

HEAD_TIMEOUT: Final = 2.0
"""Seconds after which a stream counts as open without a head: some servers send it with their first event."""


async def stand_by(
    session: HttpSession,
    watcher: LegacyWatcher,
    listening: asyncio.Event,
    is_lost: Callable[[], Awaitable[bool]],
    limit: int,
) -> None:
    """Keep the standalone stream of a session open, and pass its messages on.

    `listening` is set once it is open, or is known not to exist. `is_lost` asks the server whether it still knows the
    session.
    """
    opened = False
    asyncio.get_running_loop().call_later(HEAD_TIMEOUT, listening.set)

    async def open_stream(last_id: str) -> ClientResponse | None:
        nonlocal opened
        response = await session.open("GET", {field_names.LAST_EVENT_ID: last_id} if last_id else {})
        listening.set()
        if response.status == 200 and response.content_type == EVENT_STREAM:
            opened = True
            return response
        response.close()
        if opened and await is_lost():
            return None
        if response.status == 501 or not (response.status >= 500 or response.status in {401, 429}):
            return None
        raise OutcomeUnknown(f"HTTP {response.status}")

    def gap() -> None:
        watcher.missed()
        if session.id is None:
            session.background.run(watcher.renew)

    def heard(data: bytes) -> bool:
        message = read(data, session.context, session.unexpected)
        return message is not None and session.other(message, len(data))

    await listen(open_stream, session.events, heard, gap, lambda: EventParser(limit, session.context.account))


async def listen(
    open_stream: Callable[[str], Awaitable[ClientResponse | None]],
    read_events: Callable[[ClientResponse, EventParser, Callable[[bytes], bool]], Awaitable[bool]],
    on_message: Callable[[bytes], bool],
    on_gap: Callable[[], None],
    new_parser: Callable[[], EventParser],
) -> None:
    """Keep a stream open and pass its messages on, until cancelled or the server has no such stream.

    `open_stream` gets the last event id (empty for none) and returns the response, or None if the server has no such
    stream. `read_events` passes the messages of one stream to `on_message`. `on_gap` is called when a stream was
    reopened without an event id. `new_parser` makes the parser of one stream.
    """
    last_id = ""
    pauses = Pauses()
    opened_before = False
    while True:
        parser = new_parser()
        pauses.begin()
        try:
            response = await open_stream(last_id)
            if response is None:
                return
            if opened_before and not last_id:
                on_gap()
            opened_before = True
            try:
                await read_events(response, parser, on_message)
            finally:
                response.close()
        except Noisy:
            return  # `read_events` has ended the session
        except DeliveryError:
            pass  # retried below; health checks report the outage
        last_id = parser.last_id or last_id
        asked = parser.retry / 1000 if parser.retry is not None else 0.0
        await asyncio.sleep(max(asked, pauses.next()))
