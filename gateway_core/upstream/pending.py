"""Pending requests to an upstream, and the ids that match server messages to them."""

from __future__ import annotations

from typing import Final

from msgspec import Raw

from gateway_core.errors import NotSent, RpcError, UnusableAnswer, copied
from gateway_core.exchange.exchange import Exchange
from gateway_core.inline.driver import Completion
from gateway_core.mcp import jsonrpc
from gateway_core.mcp.jsonrpc import Message
from gateway_core.mcp.names import SUBSCRIPTION_ID_KEY
from gateway_core.upstream.requests import Reply

_MAX_DIGITS: Final = 18
_COMPLETE: Final = Raw(b'"complete"')
_FALSE: Final = Raw(b"false")


class Pending(Completion[Reply]):
    """A request in flight. Awaiting it returns the reply, or raises the error it failed with."""

    number: int
    """The request id, also used as progress token."""
    method: str
    exchange: Exchange | None = None
    sent: bool = False

    def mark_sent(self) -> None:
        """Must be called right before the first byte may be sent.

        Raises the `NotSent` with which the request has failed meanwhile: its call may go to another upstream.
        """
        if self.done and isinstance(self._error, NotSent):
            raise copied(self._error)
        self.sent = True
        if self.exchange is not None:
            self.exchange.mark_sent()

    def is_answered_by(self, message: Message) -> bool:
        return message.is_response and own_id(message.id) == self.number

    def resolve(self, message: Message) -> None:
        """Complete with the response, or fail with `UnusableAnswer`; see `reply_of`."""
        try:
            reply = reply_of(message)
        except UnusableAnswer as problem:
            self.fail(problem)
        else:
            self.complete(reply)

    def progress(self, params: Raw) -> bool:
        """Pass progress to the exchange. Returns False if it has no exchange or is already done."""
        if self.exchange is None or self.done:
            return False
        self.exchange.progress(params)
        return True


def reply_of(message: Message) -> Reply:
    """The `Reply` in a response. Raises `UnusableAnswer` for a result that is not an object."""
    members = message.result_members
    if members is not None:
        plain = members.get("resultType", _COMPLETE) == _COMPLETE and members.get("isError", _FALSE) == _FALSE
        return Reply(message.result, None, None, members, plain)
    if message.failed:
        return Reply(error=jsonrpc.error_of(message.error))
    if message.result[:1] != b"{":
        raise UnusableAnswer("the server answered with a result that is not an object")
    return Reply(message.result)


def own_id(raw: Raw) -> int:
    """An id that this gateway issued; 0, never issued, for any other JSON value.

    `"3"` is `3`, as for the SDK clients: some servers write every id as a text.
    """
    digits = bytes(raw)
    if digits[:1] == b'"' and digits[-1:] == b'"':
        digits = digits[1:-1]
        if digits[:1] == b"0":
            return 0
    return int(digits) if digits.isdigit() and len(digits) <= _MAX_DIGITS else 0


def raw_id_in(params: Raw, member: str) -> bytes:
    """The raw JSON of the id in a notification; empty if absent."""
    try:
        return bytes(jsonrpc.members(params).get(member, Raw()))
    except RpcError:
        return b""


def id_in(params: Raw, member: str) -> int:
    """The gateway's request id in a notification (`progressToken` or `requestId`); 0 if absent or foreign."""
    return own_id(Raw(raw_id_in(params, member)))


def listen_id(params: Raw) -> int:
    """The id of the `subscriptions/listen` request that a notification belongs to; 0 if absent or foreign."""
    try:
        return own_id(jsonrpc.members(jsonrpc.members(params).get("_meta", Raw())).get(SUBSCRIPTION_ID_KEY, Raw()))
    except RpcError:
        return 0
