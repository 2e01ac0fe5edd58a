"""The rest of a coroutine that was stepped by hand, as a coroutine that a task can run."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Generator
from typing import Any, TypeVar

T = TypeVar("T")


class Rest(Coroutine[Any, Any, T]):
    """The rest of a coroutine that was stepped by hand up to `waits`, for a task to run."""

    __slots__ = ("_coroutine", "_started", "_steps", "_waits")

    def __init__(self, coroutine: Coroutine[Any, Any, T], waits: Any) -> None:
        self._coroutine = coroutine
        self._waits = waits
        self._started = False
        self._steps = _resumed(coroutine, waits)

    def send(self, value: Any, /) -> Any:
        self._started, self._waits = True, None
        return self._steps.send(value)

    def throw(self, kind: Any, value: Any = None, trace: Any = None, /) -> Any:
        error = kind if value is None else value
        del kind, value  # no frame that the traceback of the error holds may hold the error
        if self._started:
            try:
                return self._steps.throw(error)
            finally:
                del error
        # Cancelled before the first step of the task: the coroutine is in the middle of its own.
        if isinstance(self._waits, asyncio.Future):
            self._waits.cancel()  # as the task would have done
        self._steps = _resumed(self._coroutine, None, error)
        del error
        return self.send(None)

    def close(self) -> None:
        self._steps.close()
        self._coroutine.close()

    def __await__(self) -> Generator[Any, None, T]:
        return self._steps


def _resumed(
    coroutine: Coroutine[Any, Any, T], waits: Any, error: BaseException | None = None
) -> Generator[Any, Any, T]:
    """Delegates to a coroutine that has begun, which `await` and `yield from` would refuse.

    `error`: what to raise in it first, in place of waiting.
    """
    value = None
    while True:
        if error is None:
            try:
                if hasattr(waits, "waiting"):
                    yield from waits.waiting()
                else:
                    value = yield waits
            except BaseException as raised:  # noqa: BLE001 - cancellations above all: they belong to the coroutine
                error = raised
        try:
            waits = coroutine.send(value) if error is None else coroutine.throw(error)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]
        finally:
            value = error = None
