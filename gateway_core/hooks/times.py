"""Measures runs of hooks: how often each hook of each plugin runs and how long it takes, if a plugin asks for it."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Generator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeAlias

from msgspec.structs import replace

from gateway_core.hooks.implementations import Hook

_now: Final = time.perf_counter
Values: TypeAlias = tuple[Any, ...]
"""The arguments of a run of a hook."""


class Ended(Protocol):
    """Called at the end of each run that is measured."""

    def __call__(self, values: Values, begun: float, verdict: Any, error: BaseException | None, /) -> None:
        """`begun`: a time of `perf_counter`. `error`: what the hook raised; None for a verdict."""


def measured(
    function: Callable[..., Any], ended: Ended, wanted: Callable[[Values], bool] | None = None
) -> Callable[..., Any]:
    """The same function, whose runs are measured. `wanted`: whether to measure a run; None: all of them.

    Waiting for the verdict is part of a run, both of an `async def` and of a function that returns an awaitable.
    """

    def run(*values: Any) -> Any:
        if wanted is not None and not wanted(values):
            return function(*values)
        begun = _now()
        try:
            verdict = function(*values)
        except BaseException as error:
            ended(values, begun, None, error)
            raise
        if verdict is not None and hasattr(verdict, "__await__"):
            return Waiting(verdict, ended, values, begun)
        ended(values, begun, verdict, None)
        return verdict

    return run


class Waiting:
    """A verdict to wait for, in a run that is measured."""

    __slots__ = ("_begun", "_ended", "_values", "_verdict")

    def __init__(self, verdict: Awaitable[Any], ended: Ended, values: Values, begun: float) -> None:
        self._verdict = verdict
        self._ended = ended
        self._values = values
        self._begun = begun

    def __await__(self) -> Generator[Any, Any, Any]:
        found: Any = None
        failure: BaseException | None = None
        try:
            found = yield from self._verdict.__await__()
            return found
        except BaseException as error:
            failure = error
            raise
        finally:
            self._ended(self._values, self._begun, found, failure)

    def close(self) -> None:
        """Close a coroutine that was never awaited."""
        close = getattr(self._verdict, "close", None)
        if close is not None:
            close()


@dataclass(slots=True)
class Spent:
    """What one hook has taken so far."""

    calls: int = 0
    seconds: float = 0.0
    """From its call to its verdict, the time that the hook waits included."""

    def ended(self, values: Values, begun: float, verdict: Any, error: BaseException | None, /) -> None:
        """Count one more run."""
        self.calls += 1
        self.seconds += _now() - begun


class HookTimes:
    """The times of all hooks that `timed` has wrapped."""

    def __init__(self) -> None:
        self._spent: dict[str, dict[str, Spent]] = {}

    def timed(self, hook: Hook) -> Hook:
        """The same hook, measured."""
        spent = self._spent.setdefault(hook.plugin.name, {}).setdefault(hook.name, Spent())
        return replace(hook, function=measured(hook.function, spent.ended))

    def of(self, plugin: str) -> Mapping[str, Spent]:
        """What the hooks of one plugin have taken, by the name of the hook."""
        return self._spent.get(plugin, {})
