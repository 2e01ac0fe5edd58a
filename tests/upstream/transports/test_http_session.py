"""Messages that no caller waits for."""

import asyncio
from typing import Any

from gateway_core.upstream.base import ClientContext
from gateway_core.upstream.messages.sends import AT_ONCE
from gateway_core.upstream.transports.http_session import HttpSession


async def test_of_many_background_sends_each_has_its_turn_before_the_session_closes() -> None:
    no_client: Any = None
    session = HttpSession("u", no_client, ClientContext(lambda *_: None), list, lambda: None)
    running = most = sent = 0

    async def send() -> None:
        nonlocal running, most, sent
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1
        sent += 1

    for _ in range(1000):
        session.background.run(send)
    await session.close()
    assert sent == 1000
    assert most == AT_ONCE
