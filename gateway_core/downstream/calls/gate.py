"""The gate counts requests in flight, and rejects new ones when the gateway is full, stopping or short of memory."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from gateway_core.api import Principal
from gateway_core.downstream.calls.call_shares import CallShares
from gateway_core.errors import RpcError, overloaded
from gateway_core.http1.application import Deferred
from gateway_core.limits.budget import MemoryBudget
from gateway_core.log.wording import count
from gateway_core.mcp import jsonrpc
from gateway_core.mcp.jsonrpc import Message
from gateway_core.mcp.names import LISTS, MAY_ASK, STATE


@dataclass(slots=True)
class Gate:
    """Counts requests in flight in the whole gateway, and rejects new ones when it is full or stopping."""

    limit: int
    budget: MemoryBudget
    shares: CallShares
    in_flight: int = 0
    closing: bool = False
    deferring: bool = False
    """Whether new work waits for the next process, in place of being rejected."""
    rejected: int = 0
    """Requests, sessions and subscriptions that were rejected, since the start."""
    _emptied: asyncio.Future[None] | None = None

    def enter(self, message: Message, principal: Principal) -> None:
        """Count a request; the caller must call `leave` exactly once. Raises `RpcError(OVERLOADED)` if rejected,
        and as `check_open`.

        While more than half of `limit` is in flight, a principal with more than its share is rejected.
        """
        if (self.closing or self.budget.tight) and not _finishes(message):
            self.check_open()
        if self.in_flight * 2 > self.limit:
            self._check_room(principal)
        self.in_flight += 1

    def _check_room(self, principal: Principal) -> None:
        """Raise `RpcError(OVERLOADED)` if the limit, or that of the principal, is reached."""
        try:
            self.shares.check(principal)
            if self.in_flight >= self.limit:
                raise overloaded(f"the limit of {count(self.limit, 'request')} in flight is reached")
        except RpcError:
            self.count_rejected()
            raise

    def check_open(self) -> None:
        """Raise `RpcError(OVERLOADED)` while the gateway is stopping or short of memory; `Deferred` if it restarts."""
        self.check_deferring()
        try:
            if self.closing:
                raise overloaded("the gateway is stopping")
            self.budget.check()
        except RpcError:
            self.count_rejected()
            raise

    def check_deferring(self) -> None:
        """Raise `Deferred` while new work waits for the next process."""
        if self.deferring:
            raise Deferred

    def count_rejected(self) -> None:
        """Count one more request that was rejected."""
        self.rejected += 1

    def limit_to(self, limit: int) -> None:
        """Apply another limit to the requests that come from now on."""
        self.limit = limit
        self.shares.limit_to(limit)

    def close(self, *, defer: bool = False) -> None:
        """Admit no new work from now on: the gateway is stopping. `defer`: another process will serve it."""
        self.closing, self.deferring = True, defer

    def leave(self) -> None:
        self.in_flight -= 1
        if not self.in_flight and self._emptied is not None and not self._emptied.done():
            self._emptied.set_result(None)

    def release(self) -> None:
        """Stop counting a request while its agent answers a question of the gateway."""
        self.leave()

    def reacquire(self) -> None:
        """Count such a request again, even above the limit."""
        self.in_flight += 1

    async def wait_empty(self, seconds: float) -> None:
        """Wait until no requests are in flight, `seconds` at most."""
        if self.in_flight:
            self._emptied = asyncio.get_running_loop().create_future()
            await asyncio.wait([self._emptied], timeout=seconds)


def restarting() -> RpcError:
    """The error for a request during a restart that no other process can serve in place of `Deferred`."""
    return overloaded("the gateway is restarting")


def _finishes(message: Message) -> bool:
    """Whether to admit a request when no new work may begin, because calls in flight may need it to finish.

    True for lists, which clients request to check the result of a call, and for later rounds of calls.
    """
    if message.method in LISTS:
        return True
    return message.method in MAY_ASK and STATE in jsonrpc.members(message.params)
