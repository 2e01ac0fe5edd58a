"""Hooks whose runs are recorded in the timeline of their call."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from msgspec.structs import replace

from gateway_core.api import Ask, Call, CallResult, Decision, Pass, Reject
from gateway_core.errors import UnreadableCall
from gateway_core.hooks.implementations import Hook
from gateway_core.hooks.observers import clean_rule, decision_of
from gateway_core.hooks.times import Values, measured
from gateway_core.hooks.tracing.timeline import Timeline

_VERDICTS = (Call, CallResult, Reject, Ask, Pass)


def timed_by(hook: Hook | None, timelines: Mapping[str, Timeline]) -> Hook | None:
    """The same hook, recorded in the timeline of the call that it gets, if there is one for the id of its exchange."""
    if hook is None:
        return None
    plugin, name = hook.plugin.name, hook.name

    def begins(values: Values) -> bool:
        timeline = timelines.get(values[0].exchange_id)
        if timeline is None:
            return False
        timeline.hook_begins(plugin, name)
        return True

    def ended(values: Values, begun: float, verdict: Any, error: BaseException | None, /) -> None:
        timeline = timelines.get(values[0].exchange_id)
        if timeline is not None:
            did = _decision(plugin, name, verdict, values) if error is None else _failure(plugin, error)
            timeline.hook_ran(plugin, name, begun, did)

    return replace(hook, function=measured(hook.function, ended, begins))


def _decision(plugin: str, hook: str, verdict: Any, values: Values) -> Decision | None:
    """What a verdict means; None for none, for one that is not valid, and for a choice of `route_tool`."""
    if not isinstance(verdict, _VERDICTS) or any(verdict is value for value in values):
        return None
    if hook == "after_call":
        return Decision(plugin, "edit", clean_rule(verdict.rule)) if isinstance(verdict, CallResult) else None
    return decision_of(plugin, verdict)


def _failure(plugin: str, error: BaseException) -> Decision | None:
    """A failure of the plugin; None if the call was cancelled, or for malformed arguments of the agent."""
    mine = not isinstance(error, asyncio.CancelledError | GeneratorExit | UnreadableCall)
    return Decision(plugin, "fail") if mine else None
