"""One request on its way to an upstream, and the ids by which what the server sends finds it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Final

from msgspec import Raw

from gateway_core import jsonrpc
from gateway_core.errors import DeliveryError, OutcomeUnknown, RpcError
from gateway_core.exchange import Exchange
from gateway_core.jsonrpc import Message
from gateway_core.upstream.base import Reply

_MAX_DIGITS: Final = 18


def _future() -> asyncio.Future[Reply]:
    return asyncio.get_running_loop().create_future()


@dataclass(slots=True)
class Pending:
    """A request without its response yet; `number` is its id, and its progress token."""

    number: int
    method: str
    exchange: Exchange | None = None
    sent: bool = False
    answer: asyncio.Future[Reply] = field(default_factory=_future)

    def mark_sent(self) -> None:
        """Called right before the first byte may leave."""
        self.sent = True
        if self.exchange is not None:
            self.exchange.mark_sent()

    def is_answered_by(self, message: Message) -> bool:
        return message.is_response and own_id(message.id) == self.number

    def settle(self, message: Message) -> None:
        """Take the response. A result must be an object: another one leaves the outcome unknown."""
        if message.failed:
            self.answer.set_result(Reply(error=jsonrpc.error_of(message.error)))
        elif bytes(message.result)[:1] == b"{":
            self.answer.set_result(Reply(result=bytes(message.result)))
        else:
            self.fail(OutcomeUnknown("the server answered with a result that is not an object"))

    def progress(self, params: Raw) -> bool:
        """Pass its progress on; False if nobody asked for any, or the answer is already there."""
        if self.exchange is None or self.answer.done():
            return False
        self.exchange.progress(params)
        return True

    def fail(self, error: DeliveryError) -> None:
        if not self.answer.done():
            self.answer.set_exception(error)
            self.answer.exception()  # whoever waits may be cancelled first: then nobody is left to look


def own_id(raw: Raw) -> int:
    """An id of ours in what the server sent; 0, which is none, for everything else (`"3"` is not `3`)."""
    digits = bytes(raw)
    return int(digits) if digits.isdigit() and len(digits) <= _MAX_DIGITS else 0


def raw_id_in(params: Raw, member: str) -> bytes:
    """The id that a notification names, as the JSON that it was written in; empty for none."""
    try:
        return bytes(jsonrpc.members(params).get(member, Raw()))
    except RpcError:
        return b""


def id_in(params: Raw, member: str) -> int:
    """The id of ours that a notification names: its `progressToken` or `requestId`; 0 for none."""
    return own_id(Raw(raw_id_in(params, member)))
