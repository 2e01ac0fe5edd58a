"""Messages that nobody waits for."""

import asyncio
from typing import Any

from gateway_core.upstream.base import ClientContext
from gateway_core.upstream.transports import http_session as module
from gateway_core.upstream.transports.http_session import HttpSession


async def test_of_many_messages_aside_each_has_its_turn() -> None:
    no_client: Any = None
    session = HttpSession("u", no_client, ClientContext(lambda *_: None), list)
    running = most = sent = 0

    async def send() -> None:
        nonlocal running, most, sent
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1
        sent += 1

    for _ in range(1000):
        session.send_in_background(send)
    await session.close()
    assert sent == 1000
    assert most == module.ASIDE_AT_ONCE
