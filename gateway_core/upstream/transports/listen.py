"""The standalone GET stream of a legacy Streamable HTTP server, kept open as long as its session.

When it ends, it is reopened after the server's `retry:` or the backoff, whichever is longer, with `Last-Event-ID` if
the server sent ids. Without ids, messages in between are lost, so `on_gap` must assume that everything changed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from gateway_core.errors import DeliveryError
from gateway_core.http1.client_response import ClientResponse
from gateway_core.upstream.notifications.pauses import Pauses
from gateway_core.upstream.transports.events import EventParser
from gateway_core.upstream.transports.noise import Noisy


async def listen(
    open_stream: Callable[[str], Awaitable[ClientResponse | None]],
    read_events: Callable[[ClientResponse, EventParser, Callable[[bytes], bool]], Awaitable[bool]],
    on_message: Callable[[bytes], bool],
    on_gap: Callable[[], None],
    limit: int,
) -> None:
    """Keep a stream open and pass its messages on, until cancelled or the server has no such stream.

    `open_stream` gets the last event id (empty for none) and returns the response, or None if the server has no such
    stream. `read_events` passes the messages of one stream to `on_message`. `on_gap` is called when a stream was
    reopened without an event id. `limit`: bytes of one event.
    """
    last_id = ""
    pauses = Pauses()
    opened_before = False
    while True:
        parser = EventParser(limit)
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
