"""Pages that take time to make, such as those that wait for an authorization server or an authenticating plugin."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, Final

from gateway_core.downstream.http_errors import busy
from gateway_core.http1.response import Response

MAX_PENDING: Final = 64
"""Pages of one kind that are made at a time."""


class PendingPage:
    """A page that is being made. A browser that leaves does not stop it."""

    __slots__ = ("running",)

    def __init__(self, making: Coroutine[Any, Any, Response]) -> None:
        self.running = asyncio.get_running_loop().create_task(making)

    def response(self) -> Response:
        """The page. Raises what making it raised."""
        return self.running.result()

    def poll(self, now: float) -> None:
        return

    def lost(self) -> None:
        return


class PendingPages:
    """The pages of one kind that are being made, at most `MAX_PENDING`."""

    def __init__(self, doing: str) -> None:
        """`doing`: what people do on these pages, for the error if there are too many."""
        self._doing = doing
        self._count = 0

    def make(self, making: Coroutine[Any, Any, Response]) -> PendingPage:
        """Begin to make a page. Raises `HttpError` (503) if too many are being made."""
        if self._count >= MAX_PENDING:
            making.close()
            raise busy(f"too many people are {self._doing} at present")
        self._count += 1
        page = PendingPage(making)
        page.running.add_done_callback(self._ended)
        return page

    def _ended(self, _: object) -> None:
        self._count -= 1
