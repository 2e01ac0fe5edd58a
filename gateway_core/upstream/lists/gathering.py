"""Fetches several lists of one upstream concurrently. One that fails or hangs does not delay the others."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Collection, Mapping
from typing import Any, Final

import msgspec

from gateway_core.api import Kind
from gateway_core.errors import OVERLOADED, DeliveryError, NotSent, RpcError, drop_traceback
from gateway_core.limits.accounts import UNCOUNTED, Account
from gateway_core.upstream.base import ServerInfo
from gateway_core.upstream.lists.fetched_lists import CAPABILITY, LIST_METHODS, FetchedList
from gateway_core.upstream.lists.listing import Send, fetch_list
from gateway_core.upstream.requests import Reply

SIDE_PATIENCE: Final = 5.0
"""Seconds after which the fetched lists are published without the missing ones."""
RETRY_FIRST: Final = 2.0
RETRY_MAX: Final = 600.0
"""Seconds until a failed list is fetched again: initial and maximum."""
MAX_REASON: Final = 200


class Failure(msgspec.Struct, frozen=True, eq=False):
    """A list that could not be fetched. `error` has no traceback, because its frames would keep objects alive."""

    error: DeliveryError | RpcError

    @property
    def answered(self) -> bool:
        """Whether the server answered with an error."""
        return isinstance(self.error, RpcError)

    @property
    def for_memory(self) -> bool:
        """Whether the list did not fit into the memory."""
        return isinstance(self.error, RpcError) and self.error.code == OVERLOADED

    @property
    def reason(self) -> str:
        return str(self.error)[:MAX_REASON] or "it gave an error without a message"


Outcome = FetchedList | Failure
Tasks = Mapping[Kind, asyncio.Task[Outcome]]


class ListRequests:
    """The list requests of one fetch on one connection."""

    def __init__(self, kinds: Collection[Kind], *, separate: bool = False) -> None:
        """`separate`: request one list at a time, in the order of `kinds`."""
        self.kinds: Final = tuple(kinds)
        self.turn: Final = asyncio.Semaphore(1 if separate else max(len(self.kinds), 1))
        """To be held while a list is requested."""
        self.in_flight: Final[set[Kind]] = set()
        """The lists with a request that was sent and not answered, even if nothing waits for the answer any more."""
        self.answered: Final[set[Kind]] = set()

    def sender(self, kind: Kind, send: Send) -> Send:
        """`send`, recording what is in flight."""

        async def recorded(method: str, params: Mapping[str, Any]) -> Reply:
            self.in_flight.add(kind)
            try:
                reply = await send(method, params)
            except NotSent:
                self.in_flight.discard(kind)
                raise
            self.in_flight.discard(kind)
            self.answered.add(kind)
            return reply

        return recorded


def announced(info: ServerInfo) -> frozenset[Kind]:
    """The lists that the server's capabilities announce."""
    return frozenset(kind for kind in LIST_METHODS if CAPABILITY[kind] in info.capabilities)


def start(
    upstream: str,
    send: Send,
    info: ServerInfo,
    requests: ListRequests,
    *,
    wanted: tuple[str, ...] | None = None,
    timeout: float,
    account: Account = UNCOUNTED,
) -> dict[Kind, asyncio.Task[Outcome]]:
    """Start to fetch the lists of `requests`, each in a task.

    `wanted`: the names of the only tools to keep, if given. `timeout`: seconds for each list. `account` counts them.
    """
    only = None if wanted is None else frozenset(wanted)

    async def fetch(kind: Kind) -> Outcome:
        try:
            async with requests.turn:
                sender = requests.sender(kind, send)
                return await fetch_list(upstream, sender, info.era, kind, only, timeout=timeout, account=account)
        except (DeliveryError, RpcError) as error:
            return Failure(drop_traceback(error))

    return {
        kind: asyncio.create_task(fetch(kind), name=f"{LIST_METHODS[kind]} of {upstream}") for kind in requests.kinds
    }


async def first_ones(tasks: Tasks, patience: float) -> dict[Kind, Outcome]:
    """The outcomes within `patience` seconds. If no list succeeded by then, waits for the first success or for all.

    If cancelled, it cancels the tasks.
    """
    if not tasks:
        return {}
    try:
        await asyncio.wait(tasks.values(), timeout=patience)
        while not _useful(tasks) and any(not task.done() for task in tasks.values()):
            waiting = [task for task in tasks.values() if not task.done()]
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    except BaseException:
        cancel(tasks)
        raise
    return {kind: task.result() for kind, task in tasks.items() if task.done()}


def cancel(tasks: Tasks) -> None:
    """Cancel all fetches in progress."""
    for task in tasks.values():
        task.cancel()


def _useful(tasks: Tasks) -> bool:
    return any(task.done() and isinstance(task.result(), FetchedList) for task in tasks.values())


class ListRetries:
    """When failed lists are due again, with exponential backoff."""

    def __init__(self, rng: random.Random | None = None) -> None:
        self._rng = rng or random.Random()  # noqa: S311 - jitter, not a secret
        self._failed: dict[Kind, tuple[int, float]] = {}
        """The number of consecutive failures, and the time of the next attempt."""

    @property
    def due(self) -> bool:
        """Whether a failed list is due."""
        now = time.monotonic()
        return any(at <= now for _, at in self._failed.values())

    @property
    def waiting(self) -> frozenset[Kind]:
        """The failed lists that are not due yet."""
        now = time.monotonic()
        return frozenset(kind for kind, (_, at) in self._failed.items() if at > now)

    def failed(self, kind: Kind) -> float:
        """Record a failure. Returns the seconds until the next attempt."""
        times = self._failed.get(kind, (0, 0.0))[0]
        delay = min(RETRY_FIRST * 2.0**times, RETRY_MAX) * self._rng.uniform(0.8, 1.0)
        self._failed[kind] = (min(times + 1, 16), time.monotonic() + delay)
        return delay

    def succeeded(self, kind: Kind) -> None:
        self._failed.pop(kind, None)
