"""Hooks whose runs are recorded in the timeline of their call."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any

from gateway_core.api import Ask, Call, CallResult, Decision, Pass, Reject
from gateway_core.errors import UnreadableCall
from gateway_core.hooks.implementations import Hook
from gateway_core.hooks.observers import clean_rule, decision_of
from gateway_core.hooks.tracing.timeline import Timeline

_VERDICTS = (Call, CallResult, Reject, Ask, Pass)


def timed_by(hook: Hook | None, timelines: Mapping[str, Timeline]) -> Hook | None:
    """The same hook, recorded in the timeline of the call that it gets, if there is one for the id of its exchange."""
    if hook is None:
        return None
    return replace(hook, function=_timed(hook.function, hook.plugin.name, hook.name, timelines))


def _timed(
    function: Callable[..., Any], plugin: str, hook: str, timelines: Mapping[str, Timeline]
) -> Callable[..., Any]:
    now = time.perf_counter

    def timed(call: Call, *others: Any) -> Any:
        timeline = timelines.get(call.exchange_id)
        if timeline is None:
            return function(call, *others)
        begun = now()
        try:
            verdict = function(call, *others)
        except BaseException as error:
            timeline.hook_ran(plugin, hook, begun, _failure(plugin, error))
            raise
        if hasattr(verdict, "__await__"):
            return waiting(timeline, begun, verdict, others)
        timeline.hook_ran(plugin, hook, begun, _decision(plugin, hook, verdict, others))
        return verdict

    async def waiting(timeline: Timeline, begun: float, verdict: Awaitable[Any], others: tuple[Any, ...]) -> Any:
        decision: Decision | None = None
        try:
            found = await verdict
            decision = _decision(plugin, hook, found, others)
            return found
        except BaseException as error:
            decision = _failure(plugin, error)
            raise
        finally:
            timeline.hook_ran(plugin, hook, begun, decision)

    return timed


def _decision(plugin: str, hook: str, verdict: Any, others: tuple[Any, ...]) -> Decision | None:
    """What a verdict means; None for none, for one that is not valid, and for a choice of `route_tool`."""
    if not isinstance(verdict, _VERDICTS) or verdict in others:
        return None
    if hook == "after_call":
        return Decision(plugin, "edit", clean_rule(verdict.rule)) if isinstance(verdict, CallResult) else None
    return decision_of(plugin, verdict)


def _failure(plugin: str, error: BaseException) -> Decision | None:
    """A failure of the plugin; None if the call was cancelled, or for malformed arguments of the agent."""
    mine = not isinstance(error, asyncio.CancelledError | GeneratorExit | UnreadableCall)
    return Decision(plugin, "fail") if mine else None
