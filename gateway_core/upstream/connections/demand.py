"""What needs a server that does not run: the calls that wait for its start, and what it must go on running for."""

from __future__ import annotations

import asyncio
from typing import Final

from gateway_core.upstream.status import Clock


class Demand:
    """The demand for one server. Its watch starts the server for all who wait at once."""

    def __init__(self, clock: Clock) -> None:
        self._clock: Final = clock
        self._wanted = asyncio.Event()
        self._attempt: asyncio.Future[None] | None = None
        """Done when the next attempt to start the server has ended; None while nothing asks for one."""
        self._held_until = 0.0
        self._closed = False

    @property
    def exists(self) -> bool:
        """Whether something asks for the server, or expects it to go on."""
        return self._attempt is not None or self._held_until > self._clock.now()

    @property
    def waiting(self) -> bool:
        """Whether something asks for the server to be started."""
        return self._attempt is not None

    def hold(self, seconds: float) -> None:
        """Keep the server running for `seconds`, even if it is not used."""
        self._held_until = max(self._held_until, self._clock.now() + seconds)

    def ask(self) -> None:
        """Ask for the server without waiting for it."""
        if self._attempt is None and not self._closed:
            self._attempt = asyncio.get_running_loop().create_future()
            self._wanted.set()

    async def attempt(self) -> None:
        """Wait until an attempt to start the server has ended, successful or not. All who wait share one attempt."""
        self.ask()
        if self._attempt is not None:
            await asyncio.shield(self._attempt)  # so that no waiter cancels it for the others

    async def wait(self) -> None:
        """Wait until something asks for the server."""
        await self._wanted.wait()

    def attempted(self) -> None:
        """An attempt to start the server has ended."""
        attempt, self._attempt = self._attempt, None
        self._wanted.clear()
        if attempt is not None and not attempt.done():
            attempt.set_result(None)

    def close(self) -> None:
        """Let nothing wait any more: the upstream is being closed."""
        self._closed = True
        self.attempted()
