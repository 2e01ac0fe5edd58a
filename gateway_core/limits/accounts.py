"""What one owner has of the memory budget.

An `Account` belongs to one upstream or to one network of agents. A `Claim` counts one payload while it arrives, a
`Holding` counts what stays and changes its size. Both leave small sizes out, so that usual messages cost nothing.
"""

from __future__ import annotations

import asyncio
from typing import Final

import msgspec

from gateway_core.errors import RpcError
from gateway_core.limits.budget import COPIES, SHARE, MemoryBudget

NO_ROOM: Final = "its answer does not fit into the gateway's memory (limits.memory)"
"""The reason of a call whose answer was not taken."""
COUNTED_FROM: Final = 64 * 1024
"""Bytes up to which a payload is not counted, and the steps in which a `Holding` counts."""


class Account(msgspec.Struct, frozen=True):
    """One owner in the budget. Without a budget, nothing is counted."""

    budget: MemoryBudget | None
    owner: str

    def claim(self) -> Claim:
        """Count a payload while it arrives."""
        return Claim(self)

    def holding(self) -> Holding:
        """Count something that stays."""
        return Holding(self)


UNCOUNTED: Final = Account(None, "")


class Claim(msgspec.Struct, eq=False):
    """The counted bytes of one payload on its way."""

    _account: Account
    size: int = 0

    def grow(self, size: int, *, is_first: bool = False) -> bool:
        """Count the payload up to `size` bytes; False if there is no room. What is counted already stays counted.

        `is_first`: the share of the owner does not bound it, so that one of many payloads gets on; see `turn`.
        """
        budget = self._account.budget
        if size <= COUNTED_FROM or size <= self.size or budget is None:
            return True
        try:
            budget.reserve(self._account.owner, size - self.size, within_share=not is_first)
        except RpcError:
            return False
        self.size = size
        return True

    def can_grow(self, size: int) -> bool:
        """Whether the owner could have `size` bytes if it had nothing else."""
        budget = self._account.budget
        return budget is None or size * COPIES <= budget.limit * SHARE

    def turn(self) -> asyncio.Lock:
        """Held by the one payload of the owner that may exceed its share."""
        budget = self._account.budget
        assert budget is not None, "otherwise there is room"
        return budget.turn(self._account.owner)

    def room(self) -> asyncio.Future[None]:
        """Done when there may be room again."""
        budget = self._account.budget
        assert budget is not None, "otherwise there is room"
        return budget.freed()

    def release(self) -> None:
        """Give all bytes back."""
        size, self.size = self.size, 0
        if size and self._account.budget is not None:
            self._account.budget.release(self._account.owner, size)


class Holding:
    """The counted bytes of something that stays. They are given back at the latest when nothing refers to this object:
    what shares it is still in memory until then."""

    __slots__ = ("_account", "size")

    def __init__(self, account: Account) -> None:
        self._account = account
        self.size = 0

    def __del__(self) -> None:
        self.release()

    def resize(self, size: int, *, force: bool = False) -> bool:
        """Count `size` bytes from now on; False if there is no room, and the old size stays counted.

        `force`: count them even without room. Changes below `COUNTED_FROM` are left out until they add up.
        """
        budget = self._account.budget
        change = size - self.size
        if budget is None or (-COUNTED_FROM < change < COUNTED_FROM and size):
            return True
        if change > 0:
            try:
                budget.keep(self._account.owner, change, force=force)
            except RpcError:
                return False
        elif change:
            budget.drop(self._account.owner, -change)
        self.size = size
        return True

    def release(self) -> None:
        """Give all bytes back."""
        self.resize(0)
