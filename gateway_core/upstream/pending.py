"""A request on a shared channel that has no response yet, and the ids by which responses find it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final

from msgspec import Raw

from gateway_core.errors import DeliveryError
from gateway_core.exchange import Exchange
from gateway_core.upstream.base import Reply

_MAX_DIGITS: Final = 18


@dataclass(slots=True)
class Pending:
    """A request without its response yet."""

    number: int
    method: str
    answer: asyncio.Future[Reply]
    exchange: Exchange | None = None
    sent: bool = False

    def mark_sent(self) -> None:
        """Called right before the first byte may leave."""
        self.sent = True
        if self.exchange is not None:
            self.exchange.mark_sent()

    def fail(self, error: DeliveryError) -> None:
        if not self.answer.done():
            self.answer.set_exception(error)
            self.answer.exception()  # whoever waits may be cancelled first: then nobody is left to look


def own_id(raw: Raw) -> int:
    """An id of ours in what the server sent; 0, which is none, for everything else (`"3"` is not `3`)."""
    digits = bytes(raw)
    return int(digits) if digits.isdigit() and len(digits) <= _MAX_DIGITS else 0
