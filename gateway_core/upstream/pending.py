"""One request on its way to an upstream, and the ids by which what the server sends finds it."""

from __future__ import annotations

import asyncio
from typing import Final

import msgspec
from msgspec import Raw

from gateway_core import jsonrpc
from gateway_core.errors import DeliveryError, RpcError, UnusableAnswer, copied
from gateway_core.exchange import Exchange
from gateway_core.jsonrpc import Message
from gateway_core.protocol import SUBSCRIPTION_ID_KEY
from gateway_core.upstream.requests import Reply

_MAX_DIGITS: Final = 18


class Pending(msgspec.Struct, eq=False):
    """A request without its response yet."""

    number: int
    """Its id, and its progress token."""
    method: str
    exchange: Exchange | None = None
    sent: bool = False
    _reply: Reply | None = None
    _failure: DeliveryError | None = None

    def mark_sent(self) -> None:
        """Called right before the first byte may leave."""
        self.sent = True
        if self.exchange is not None:
            self.exchange.mark_sent()

    @property
    def over(self) -> bool:
        """Whether it has its end."""
        return self._reply is not None or self._failure is not None

    def is_answered_by(self, message: Message) -> bool:
        return message.is_response and own_id(message.id) == self.number

    def settle(self, message: Message) -> None:
        """Take the response. A result must be an object: another one leaves the outcome unknown."""
        if message.failed:
            self.resolve(Reply(error=jsonrpc.error_of(message.error)))
        elif bytes(message.result)[:1] == b"{":
            self.resolve(Reply(result=bytes(message.result)))
        else:
            self.fail(UnusableAnswer("the server answered with a result that is not an object"))

    def resolve(self, reply: Reply) -> None:
        """It is answered."""
        self._reply = reply

    def fail(self, error: DeliveryError) -> None:
        """It gets no answer; one that it has already stays."""
        if not self.over:
            self._failure = error

    def result(self) -> Reply:
        """The reply. Raises what it failed with."""
        if self._failure is not None:
            raise copied(self._failure)
        assert self._reply is not None, "it is over"
        return self._reply

    def progress(self, params: Raw) -> bool:
        """Pass its progress on; False if nobody asked for any, or the answer is already there."""
        if self.exchange is None or self.over:
            return False
        self.exchange.progress(params)
        return True


class Awaited(Pending, kw_only=True):
    """A request whose response comes among all others on the one stream of its connection; `answer` waits for it."""

    answer: asyncio.Future[None] = msgspec.field(default_factory=lambda: asyncio.get_running_loop().create_future())
    """Done once it is over. It holds no exception: that would get the traceback of those who wait for it."""

    @property
    def over(self) -> bool:
        return self.answer.done()

    def resolve(self, reply: Reply) -> None:
        super().resolve(reply)
        self.answer.set_result(None)

    def fail(self, error: DeliveryError) -> None:
        if not self.over:
            super().fail(error)
            self.answer.set_result(None)


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


def listen_id(params: Raw) -> int:
    """The id of the listen request that a notification belongs to; 0 for none of ours."""
    try:
        return own_id(jsonrpc.members(jsonrpc.members(params).get("_meta", Raw())).get(SUBSCRIPTION_ID_KEY, Raw()))
    except RpcError:
        return 0
