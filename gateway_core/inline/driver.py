"""Runs a call's coroutine without a task for as long as possible.

Most calls wait only for the answer of their upstream. An `InlineCall` steps its coroutine directly. When the coroutine
waits for a `Completion`, the callback that completes it also resumes the call, in the same turn of the loop. If it
waits for anything else (a future, an asynchronous hook, a sleep), the call is **promoted**: a task runs the rest of the
coroutine. So one `async def` covers both cases, and a task is created only if it is needed.

`asyncio.timeout` and `asyncio.current_task` need a task. Code below the pipeline that uses them awaits `in_task()`
first. Without it, `asyncio.timeout` raises and `current_task` returns None: no task is current during a step.

All calls in flight share one timer for their deadlines (`deadlines.py`).
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import types
from collections.abc import Callable, Collection, Coroutine, Generator, Iterator
from typing import Any, Final, Generic, Protocol, TypeVar, cast

import msgspec

from gateway_core.inline.deadlines import Deadline
from gateway_core.inline.promoted import Rest

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Running(Protocol[T_co]):
    """A call in the background: an inline call or a task."""

    def done(self) -> bool: ...
    def cancelled(self) -> bool: ...
    def result(self) -> T_co: ...
    def cancel(self) -> object: ...
    def add_done_callback(self, callback: Callable[[Any], object], /) -> None: ...


def task_of(running: Running[Any]) -> asyncio.Task[Any]:
    """The task of a call in the background; promotes an inline call."""
    if isinstance(running, InlineCall):
        return running.promote()
    assert isinstance(running, asyncio.Task)
    return running


class _Promote:
    """The value that `in_task` yields to request promotion; the new task does not wait for it."""

    def waiting(self) -> Iterator[Any]:
        return iter(())


_PROMOTE: Final = _Promote()
_IN_TASKS: Final[Collection[object]] = (
    asyncio.tasks._current_tasks if sys.version_info < (3, 12) else (True,)  # type: ignore[attr-defined]
)
"""Empty if no task is current. A faster check than `current_task` on Python 3.11; always true on later versions."""
_stepped: InlineCall[Any] | None = None
"""The inline call whose step is running; None outside of a step."""


def is_stepping() -> bool:
    """Whether the step of an inline call is running."""
    return _stepped is not None


@types.coroutine
def in_task() -> Generator[Any, None, None]:
    """Return once the caller runs in a task: immediately if it does already, else after promotion."""
    if _stepped is not None:
        yield _PROMOTE


class Completion(msgspec.Struct, Generic[T], eq=False, kw_only=True):
    """A value that is set once and awaited by one coroutine, in a task or in an inline call."""

    done: bool = False
    _value: Any = None
    _error: BaseException | None = None
    _waiter: InlineCall[Any] | asyncio.Future[None] | None = None

    def complete(self, value: T) -> None:
        """Set the value and resume the waiting coroutine. No effect if it is done already."""
        if self.done:
            return
        self.done, self._value = True, value
        if self._waiter is not None:
            self._wake()

    def fail(self, error: BaseException) -> None:
        """Set `error`, and resume the waiting coroutine, which raises it. No effect if it is done already."""
        if self.done:
            return
        self.done, self._error = True, error
        if self._waiter is not None:
            self._wake()

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if isinstance(waiter, InlineCall):
            waiter.step()
        elif waiter is not None and not waiter.done():
            waiter.set_result(None)

    def result(self) -> T:
        """The value of a completion that is `done`. Raises its error if it has failed."""
        if self._error is None:
            value: T = self._value
            return value
        error, self._error = self._error, None  # its traceback refers to this object: avoid a reference cycle
        try:
            raise error
        finally:
            del error

    async def wait(self) -> None:
        """Wait in a task until it is done, without consuming its result."""
        if not self.done:
            waiter = self._waiter = asyncio.get_running_loop().create_future()
            await waiter

    def waiting(self) -> Generator[Any, None, None]:
        """Generator form of `wait`, for `yield from`."""
        if not self.done:
            waiter = self._waiter = asyncio.get_running_loop().create_future()
            yield from waiter

    def __await__(self) -> Generator[Any, None, T]:
        if not self.done:
            if _stepped is not None:
                yield self
            else:
                yield from self.waiting()
        return self.result()


class InlineCall(Deadline, Generic[T], eq=False):
    """One call in flight: a coroutine, its deadline and its result. Implements `Running`, as tasks do."""

    coroutine: Coroutine[Any, Any, T] | None = None
    """None after promotion, and after the end."""
    _task: asyncio.Task[T] | None = None
    _waits: Any = None
    _result: T | None = None
    _error: BaseException | None = None
    _done: bool = False
    _cancelled: bool = False
    """Whether it was cancelled during its own step."""
    _uncancelled: bool = False
    _callbacks: list[Callable[[Any], object]] = msgspec.field(default_factory=list)

    # -- stepping -----------------------------------------------------------------------------------------------

    def step(self) -> None:
        """Run the coroutine until it waits again or ends."""
        global _stepped
        if self._task is not None:
            return  # the task resumes by itself
        coroutine, outer = self.coroutine, _stepped
        task = asyncio.current_task() if _IN_TASKS else None
        assert coroutine is not None, "it has not ended"
        if task is not None:  # the task of the code that completed a `Completion`
            asyncio._leave_task(task.get_loop(), task)
        _stepped = self
        try:
            waits = self._waits = coroutine.send(None)
        except StopIteration as end:
            self._result, self._done = end.value, True
        except BaseException as error:
            self._error, self._done = error, True
            if not isinstance(error, Exception | asyncio.CancelledError):
                raise
        finally:
            _stepped = outer
            if task is not None:
                asyncio._enter_task(task.get_loop(), task)
        if self._done:
            self.coroutine = self._waits = None
            self._tell()
        elif self._cancelled:
            self.promote().cancel()
        elif isinstance(waits, Completion):
            waits._waiter = self
        else:
            self.promote()

    def promote(self) -> asyncio.Task[T]:
        """The task that runs the rest of the call; created on first use."""
        if self._done and self._task is None:
            return asyncio.get_running_loop().create_task(self._ended())
        if self._task is None:
            coroutine, self.coroutine = self.coroutine, None
            assert coroutine is not None, "it has not ended"
            self._task = asyncio.get_running_loop().create_task(Rest(coroutine, self._waits))
            self._waits = None
            self._task.add_done_callback(self._task_ended)
        return self._task

    async def _ended(self) -> T:
        return self.result()

    def _task_ended(self, task: asyncio.Task[T]) -> None:
        self._done = True
        if task.cancelled():
            with contextlib.suppress(asyncio.CancelledError):
                task.result()  # a task keeps the exception that cancelled it, with all its frames, until it is read
        self._tell()

    def _tell(self) -> None:
        callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback(self)

    # -- the interface of a task --------------------------------------------------------------------------------

    def done(self) -> bool:
        return self._done or (self._task is not None and self._task.done())

    def cancelled(self) -> bool:
        if self._task is not None:
            return self._task.cancelled()
        return isinstance(self._error, asyncio.CancelledError)

    def result(self) -> T:
        """The result of a call that is done. Raises `CancelledError` for one that was cancelled."""
        if self._task is not None:
            return self._task.result()
        if self._error is not None:
            raise self._error
        result: T = self._result  # type: ignore[assignment]
        return result

    def cancel(self) -> None:
        """Cancel the call, by raising `CancelledError` in its coroutine; no effect if it is done."""
        if self.done():
            return
        if self.coroutine is not None and cast("types.CoroutineType[Any, Any, T]", self.coroutine).cr_running:
            self._cancelled = True
        else:
            self.promote().cancel()

    def add_done_callback(self, callback: Callable[[Any], object], /) -> None:
        """Call `callback` with this call at its end, or soon if it is done already. `callback` must not raise.

        A call without a task calls it in the turn of the loop in which it ends; a promoted one in the next turn.
        """
        if self._done:
            asyncio.get_running_loop().call_soon(callback, self)
        else:
            self._callbacks.append(callback)

    def __await__(self) -> Generator[Any, None, T]:
        """Wait in a task for the result. Cancellation of the waiter cancels the call and waits until it has ended."""
        if not self._done:
            yield from self.promote().__await__()
        return self.result()

    # -- the deadline -------------------------------------------------------------------------------------------

    def close_deadline(self) -> None:
        """Disable the deadline, and withdraw the cancellation if the deadline has caused one."""
        self._open = False
        if self.passed:
            self._withdraw()

    def timed_out(self) -> bool:
        """Whether the deadline alone caused the cancellation of the call."""
        return self.passed and self._withdraw() == 0

    def _withdraw(self) -> int:
        """Withdraw the cancellation by the deadline, once; returns the number of other cancellations."""
        task = asyncio.current_task()
        assert task is not None, "a deadline that passes promotes its call"
        if self._uncancelled:
            return task.cancelling()
        self._uncancelled = True
        return task.uncancel()
