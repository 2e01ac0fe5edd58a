"""Calls that wait for the answers to questions of plugins: nothing was sent yet, so that only a place is kept."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import msgspec

from gateway_core.limits.shares import Holder


class Waiting(msgspec.Struct, frozen=True):
    """A call that waits for the answer to a question of a plugin, for operators."""

    exchange: str
    agent: str
    """The id of its principal."""
    method: str
    name: str
    source: str
    """The plugin that asks, or the upstream at which the user has to log in."""


@dataclass(slots=True)
class Place:
    """A place among the parked calls, of a call that waits for the answer to a question of a plugin."""

    holder: Holder
    waiting: Waiting
    since: float
    """Loop time."""
    until: float
    """Loop time at which it lapses."""
    lapse: asyncio.TimerHandle


class NoLimiter:
    """For calls that nothing counts."""

    def release(self) -> None:
        return

    def reacquire(self) -> None:
        return
