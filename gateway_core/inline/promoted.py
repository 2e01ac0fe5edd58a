"""Wraps the rest of a partly run coroutine, so that a task can run it."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Generator
from typing import Any, TypeVar

T = TypeVar("T")


class Rest(Coroutine[Any, Any, T]):
    """The rest of a coroutine, for a task to run. `waits` is the value that the coroutine yielded last."""

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
        del kind, value  # frames in the error's traceback must not refer to it: reference cycle
        if self._started:
            try:
                return self._steps.throw(error)
            finally:
                del error
        # The task was cancelled before its first step, but the coroutine has already started. As in any task, the
        # cancellation goes to what the coroutine waits for, and reaches the coroutine when that has ended.
        if not (isinstance(self._waits, asyncio.Future) and self._waits.cancel()):
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
    """Delegate to a coroutine that has already started, which `await` and `yield from` do not support.

    `error`: the exception to raise in it first, instead of waiting.
    """
    value = None
    while True:
        if error is None:
            try:
                if hasattr(waits, "waiting"):
                    yield from waits.waiting()
                else:
                    value = yield waits
            except BaseException as raised:  # noqa: BLE001 - the coroutine gets all exceptions, cancellations above all
                error = raised
        try:
            waits = coroutine.send(value) if error is None else coroutine.throw(error)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]
        finally:
            value = error = None
