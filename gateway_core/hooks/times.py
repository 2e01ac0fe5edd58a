"""Measures how often each hook of each plugin runs and how long it takes, if a plugin asks for it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from gateway_core.hooks.implementations import Hook


@dataclass(slots=True)
class Spent:
    """What one hook has taken so far."""

    calls: int = 0
    seconds: float = 0.0
    """From its call to its verdict, the time that an asynchronous hook waits included."""

    def add(self, seconds: float) -> None:
        """Count one more run."""
        self.calls += 1
        self.seconds += seconds


class HookTimes:
    """The times of all hooks that `timed` has wrapped."""

    def __init__(self) -> None:
        self._spent: dict[str, dict[str, Spent]] = {}

    def timed(self, hook: Hook) -> Hook:
        """The same hook, measured."""
        spent = self._spent.setdefault(hook.plugin.name, {}).setdefault(hook.name, Spent())
        return replace(hook, function=(_waiting if hook.is_async else _at_once)(hook.function, spent))

    def of(self, plugin: str) -> Mapping[str, Spent]:
        """What the hooks of one plugin have taken, by the name of the hook."""
        return self._spent.get(plugin, {})


def _at_once(function: Callable[..., Any], spent: Spent) -> Callable[..., Any]:
    now = time.perf_counter

    def timed(*values: Any) -> Any:
        begun = now()
        try:
            return function(*values)
        finally:
            spent.add(now() - begun)

    return timed


def _waiting(function: Callable[..., Any], spent: Spent) -> Callable[..., Any]:
    now = time.perf_counter

    async def timed(*values: Any) -> Any:
        begun = now()
        try:
            return await function(*values)
        finally:
            spent.add(now() - begun)

    return timed
