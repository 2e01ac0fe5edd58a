"""Long work in slices, between which the event loop serves others.

Such work is a generator that yields after each slice and returns its result. Small work never yields, so it is done in
one turn of the loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator, Iterable, Iterator
from itertools import islice
from typing import Final, TypeAlias, TypeVar

T = TypeVar("T")
U = TypeVar("U")

Slices: TypeAlias = Generator[None, None, T]
"""Work that yields after each slice and returns a `T`."""

SLICE: Final = 256
"""Items of one slice. Each takes some 10 microseconds at most."""


def sliced(items: Iterable[T], size: int = SLICE) -> Iterator[list[T]]:
    """The items in lists of at most `size`."""
    rest = iter(items)
    while part := list(islice(rest, size)):
        yield part


def mapped(function: Callable[[T], U], items: Iterable[T], size: int = SLICE) -> Slices[list[U]]:
    """`function` of each item, in slices of `size` items."""
    found: list[U] = []
    for part in sliced(items, size):
        if found:
            yield
        found += map(function, part)
    return found


def finish(work: Slices[T]) -> T:
    """Do all of the work at once."""
    while True:
        try:
            next(work)
        except StopIteration as end:
            result: T = end.value
            return result


async def in_turns(work: Slices[T]) -> T:
    """Do one slice of the work in each turn of the event loop."""
    while True:
        try:
            next(work)
        except StopIteration as end:
            result: T = end.value
            return result
        await asyncio.sleep(0)


class RepeatedWork:
    """Work that is done again after each change. A change during a run is not lost: another run follows at once."""

    def __init__(self, begin: Callable[[], Slices[None]], name: str, failed: Callable[[Exception], object]) -> None:
        """`begin` starts one run. `name`: of its task. `failed` gets what a run raises in the task."""
        self._begin = begin
        self._failed = failed
        self._name = name
        self._task: asyncio.Task[None] | None = None
        self._again = False
        """Whether something has changed since the run in progress began."""
        self._ending: asyncio.Future[None] | None = None
        """Done when the run in progress has ended."""

    def run(self) -> None:
        """Do the work: small work at once, large work in a task, and all of it at once without a running loop.

        Raises what the first slice raises.
        """
        if self._task is not None:
            self._again = True
            return
        work = self._begin()
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            finish(work)
            return
        try:
            next(work)
        except StopIteration:
            return
        self._ending = loop.create_future()
        self._task = loop.create_task(self._go_on(work, self._ending), name=self._name)

    async def _go_on(self, work: Slices[None], ending: asyncio.Future[None]) -> None:
        try:
            while True:
                try:
                    await in_turns(work)
                except Exception as error:  # noqa: BLE001 - after a bug, the next change is still taken
                    self._failed(error)
                if not self._again:
                    return
                self._again = False
                ending.set_result(None)
                ending = self._ending = asyncio.get_running_loop().create_future()
                work = self._begin()
        finally:
            self._task = self._ending = None
            ending.set_result(None)

    async def settled(self) -> bool:
        """Wait until all changes up to now are taken. Returns whether it waited."""
        if self._ending is None:
            return False
        for _ in range(2 if self._again else 1):
            if self._ending is not None:
                await asyncio.wait([self._ending])
        return True

    async def close(self) -> None:
        """End the run in progress."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
