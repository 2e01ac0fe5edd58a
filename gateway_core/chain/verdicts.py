"""What hooks return: waited for, checked, and turned into what the chain goes on with."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

from gateway_core.chain.failures import Misuse
from gateway_core.types import Call, CallResult, Claim, Health, Reject, ToolConflict, UpstreamView

AFTER_TIMEOUT: Final = 5.0
"""Seconds that an asynchronous `after_call` may take; the exchange's own deadline does not bound it."""


async def settled(awaitable: Awaitable[Any]) -> Any:
    """Wait for a hook. That it waited for something cancelled is its own failure, and no cancellation of the call."""
    task = asyncio.current_task()
    earlier = task.cancelling() if task is not None else 0
    try:
        return await awaitable
    except asyncio.CancelledError as error:
        if task is None or task.cancelling() > earlier:
            raise
        raise Misuse("waited for something that was cancelled") from error


async def bounded(awaitable: Awaitable[Any]) -> Any:
    """Wait for an `after_call` for `AFTER_TIMEOUT`. Raises `Misuse` when it takes longer."""
    try:
        async with asyncio.timeout(AFTER_TIMEOUT) as limit:
            return await settled(awaitable)
    except TimeoutError as error:
        if limit.expired():
            raise Misuse(f"took longer than {AFTER_TIMEOUT:g} s") from error
        raise


def judge(call: Call, verdict: Any, lookup: Callable[[Call], Call]) -> tuple[Call, Reject | CallResult | None]:
    """The call to go on with, and the verdict if it ends the chain. Raises `Misuse`."""
    if verdict is None or verdict is call:
        return call, None
    if isinstance(verdict, Reject):
        return call, verdict
    if isinstance(verdict, Call):
        if not verdict.is_rewrite_of(call):
            raise Misuse("returned a Call that was not made with call.replace()")
        return lookup(verdict), None
    return call, sound(verdict, "None, a Call, a Reject or a CallResult")


def sound(verdict: Any, wanted: str = "None or a CallResult") -> CallResult:
    """What a hook returned, if it is a result that can be sent. Raises `Misuse`."""
    if not isinstance(verdict, CallResult):
        raise Misuse(f"returned {_kind(verdict)} instead of {wanted}")
    if verdict.error is None and verdict.raw[:1] != b"{":
        raise Misuse("returned a CallResult that holds neither a JSON object nor an error")
    return verdict


def checked_names(conflict: ToolConflict, names: Any) -> Mapping[str, Claim] | None:
    """A checked copy of what `resolve_conflict` returned. Raises `Misuse`."""
    if names is None:
        return None
    if not isinstance(names, Mapping):
        raise Misuse(f"returned {_kind(names)} instead of None or a mapping of names to claims")
    for name, claim in names.items():
        if not isinstance(name, str) or not name:
            raise Misuse("returned a name that is not a string, or an empty one")
        if not any(claim is known for known in conflict.claims):
            raise Misuse("returned a claim that is not one of the conflict's")
    return dict(names)


def checked_choice(candidates: Sequence[UpstreamView], choice: Any) -> UpstreamView | None:
    """What `route_tool` returned, if it is one of the candidates or None. Raises `Misuse`."""
    if choice is None:
        return None
    if not any(candidate is choice for candidate in candidates):
        raise Misuse(f"returned {_kind(choice)} that is not one of the candidates")
    found: UpstreamView = choice
    return found


def checked_health(health: Any) -> Health:
    """What `check_health` found. Raises `Misuse`."""
    if not isinstance(health, Health):
        raise Misuse(f"returned {_kind(health)} instead of a Health")
    return health


def _kind(value: Any) -> str:
    if inspect.iscoroutine(value):
        value.close()  # nobody will await it, and Python would warn about that in somebody else's line
        return "an awaitable"
    return f"a {type(value).__name__}"
