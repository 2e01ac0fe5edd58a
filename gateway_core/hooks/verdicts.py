"""Waits for hooks, and checks and converts what they return."""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import Any, Final

from gateway_core.api import Ask, Call, CallResult, Claim, Health, Outcome, Pass, Reject, ToolConflict, UpstreamView
from gateway_core.errors import RpcError, drop_traceback
from gateway_core.hooks.failures import Misuse, Own
from gateway_core.hooks.forms import check_form
from gateway_core.hooks.times import Waiting
from gateway_core.inline.driver import in_task
from gateway_core.mcp import jsonrpc

AFTER_TIMEOUT: Final = 5.0
"""Seconds that an asynchronous `after_call` may take; the exchange's own deadline does not bound it."""
MAX_RETRY_AFTER: Final = 2**31
"""Largest `retry_after`, in seconds; in milliseconds it still fits the integers of every JSON reader."""
MAX_MESSAGE: Final = 16 * 1024
"""Maximum characters of a question's message."""
MAX_URL: Final = 8192
"""Maximum characters of the address that a question leads to."""
_QUESTION_NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
_URL: Final = re.compile(rf"https?://[!-~]{{1,{MAX_URL - 8}}}")
MAX_DATA: Final = 64 * 1024
"""Maximum bytes of the `data` of a refusal, as JSON."""
_INT32: Final = range(-(2**31), 2**31)


async def await_verdict(awaitable: Awaitable[Any]) -> Any:
    """Wait for a hook, in a task. Raises `Misuse` if something that the hook waited for was cancelled, so that this
    does not look like a cancellation of the call."""
    try:
        await in_task()
    except BaseException:
        if isinstance(awaitable, Coroutine | Waiting):
            awaitable.close()  # it never ran
        raise
    own = Own()
    try:
        return await awaitable
    except asyncio.CancelledError as error:
        if own.end(error):
            raise
        raise Misuse("waited for something that was cancelled") from error


async def bounded(awaitable: Awaitable[Any]) -> Any:
    """Wait for an `after_call`, in a task. Raises `Misuse` if it takes longer than `AFTER_TIMEOUT`."""
    try:
        async with asyncio.timeout(AFTER_TIMEOUT) as limit:
            return await await_verdict(awaitable)
    except TimeoutError as error:
        if limit.expired():
            raise Misuse(f"took longer than {AFTER_TIMEOUT:g} s") from error
        raise


def judge(call: Call, verdict: Any, lookup: Callable[[Call], Call]) -> tuple[Call, Reject | CallResult | Ask | None]:
    """The call to continue with, and the verdict if it ends the chain. Raises `Misuse` if the verdict is invalid."""
    if verdict is None or verdict is call:
        return call, None
    if isinstance(verdict, Pass):
        check_rule(verdict)
        return call, None
    if isinstance(verdict, Reject):
        check_refusal(verdict)
        return call, verdict
    if isinstance(verdict, Call):
        if not verdict.is_rewrite_of(call):
            raise Misuse("returned a Call that was not made with call.replace()")
        check_text(verdict.name, "a Call whose name")
        if verdict.raw_arguments is not call.raw_arguments and verdict.raw_arguments != b"":
            _check_object(verdict.raw_arguments, "a Call whose arguments")
        return lookup(verdict), None
    if isinstance(verdict, Ask):
        _check_question(verdict)
        return call, verdict
    return call, sound(verdict, None, "None, a Call, a Pass, a Reject, a CallResult or an Ask")


def sound(verdict: Any, before: CallResult | None, wanted: str = "None or a CallResult") -> CallResult:
    """The result that a hook returned. `before`: the result that the hook was given, if any.

    Raises `Misuse` if the result cannot be sent.
    """
    if before is not None and verdict is before:
        return before
    if not isinstance(verdict, CallResult):
        raise Misuse(f"returned {kind(verdict)} instead of {wanted}")
    if not isinstance(verdict.outcome, Outcome):
        raise Misuse(f"returned a CallResult whose outcome is {kind(verdict.outcome)}, not an Outcome")
    if verdict.upstream is not None:
        check_text(verdict.upstream, "a CallResult whose upstream")
    check_rule(verdict)
    if verdict.era not in {None, "legacy", "modern"}:
        raise Misuse("returned a CallResult whose era is neither None, 'legacy' nor 'modern'")
    if verdict.error is not None:
        _check_error(verdict.error, None if before is None else before.error)
        drop_traceback(verdict.error)  # the plugin may have caught it
    elif verdict.raw == b"":
        raise Misuse("returned a CallResult that holds neither a JSON object nor an error")
    elif before is None or verdict.raw is not before.raw:
        _check_object(verdict.raw, "a CallResult whose contents")
    return verdict


def check_refusal(refusal: Reject) -> None:
    """Raise `Misuse` unless the refusal can be sent."""
    check_text(refusal.message, "a Reject whose message")
    check_rule(refusal)
    if not _is_int32(refusal.code):
        raise Misuse("returned a Reject whose code is not an integer of 32 bits")
    _check_data(refusal.data)
    wait = refusal.retry_after
    if wait is None:
        return
    if not (_is_number(wait) and 0 <= wait <= MAX_RETRY_AFTER):
        raise Misuse(f"returned a Reject whose retry_after is no number of seconds from 0 to {MAX_RETRY_AFTER}")


def _check_data(data: Any) -> None:
    if not isinstance(data, dict) or not all(isinstance(name, str) for name in data):
        raise Misuse("returned a Reject whose data is not a dict with names of text")
    try:
        size = len(jsonrpc.encode(data)) if data else 0
    except Exception as problem:
        raise Misuse("returned a Reject whose data cannot be written as JSON") from problem
    if size > MAX_DATA:
        raise Misuse(f"returned a Reject whose data is larger than {MAX_DATA} bytes")


def _check_question(ask: Ask) -> None:
    check_text(ask.message, "an Ask whose message")
    check_text(ask.name, "an Ask whose name")
    if not _QUESTION_NAME.fullmatch(ask.name):
        raise Misuse("returned an Ask whose name is not 1 to 64 letters, digits, dots, underscores and hyphens")
    if not 0 < len(ask.message) <= MAX_MESSAGE:
        raise Misuse(f"returned an Ask whose message does not have 1 to {MAX_MESSAGE} characters")
    if ask.url is not None:
        check_text(ask.url, "an Ask whose url")
        if ask.schema is not None:
            raise Misuse("returned an Ask with both a schema and a url")
        if not _URL.fullmatch(ask.url):
            raise Misuse(f"returned an Ask whose url is not an http or https address of at most {MAX_URL} characters")
    elif ask.schema is not None:
        check_form(ask.schema)
    for name in ("approves", "on_page"):
        if not isinstance(getattr(ask, name), bool):
            raise Misuse(f"returned an Ask whose {name} is neither True nor False")
    if ask.on_page and (ask.url is not None or ask.schema is not None):
        raise Misuse("returned an Ask with on_page and a schema or a url; only questions without them have pages")
    if isinstance(ask.approvers, str) or not all(isinstance(group, str) for group in ask.approvers):
        raise Misuse("returned an Ask whose approvers are not names of groups")
    if ask.lifetime is not None and not (_is_number(ask.lifetime) and ask.lifetime > 0):
        raise Misuse("returned an Ask whose lifetime is not a positive, finite number of seconds")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _check_error(error: Any, before: RpcError | None) -> None:
    if error is before:
        return
    if not isinstance(error, RpcError):
        raise Misuse(f"returned a CallResult whose error is {kind(error)}, not an RpcError")
    # A code from an upstream may be passed on, even if it is larger.
    if not (_is_int32(error.code) or (before is not None and error.code == before.code)):
        raise Misuse("returned an error whose code is not an integer of 32 bits")
    check_text(error.message, "an error whose message")
    try:
        jsonrpc.encode(error.data)
    except Exception as problem:
        raise Misuse("returned an error whose data cannot be written as JSON") from problem


def _check_object(raw: Any, what: str) -> None:
    """Raise `Misuse` unless `raw` is a JSON object on one line."""
    whole = isinstance(raw, bytes) and raw[:1] == b"{" and b"\n" not in raw and b"\r" not in raw
    try:
        if whole:
            raw.decode()
            jsonrpc.members(raw)
    except (UnicodeDecodeError, RpcError):
        whole = False
    if not whole:
        raise Misuse(f"returned {what} are no JSON object on one line")


def check_text(text: Any, what: str) -> None:
    """Raise `Misuse` unless `text` is Unicode text."""
    if not isinstance(text, str):
        raise Misuse(f"returned {what} is {kind(text)}, not a text")
    try:
        text.encode()
    except UnicodeEncodeError as problem:
        raise Misuse(f"returned {what} cannot be written as UTF-8") from problem


def check_rule(verdict: Pass | Reject | CallResult) -> None:
    """Raise `Misuse` unless the rule of a verdict is a text."""
    if not isinstance(verdict.rule, str):
        raise Misuse(f"returned a {type(verdict).__name__} whose rule is {kind(verdict.rule)}, not a text")


def _is_int32(code: Any) -> bool:
    return isinstance(code, int) and not isinstance(code, bool) and code in _INT32


def checked_names(conflict: ToolConflict, names: Any) -> Mapping[str, Claim] | None:
    """A checked copy of the verdict of `resolve_conflict`. Raises `Misuse` if it is invalid."""
    if names is None:
        return None
    if not isinstance(names, Mapping):
        raise Misuse(f"returned {kind(names)} instead of None or a mapping of names to claims")
    for name, claim in names.items():
        if not isinstance(name, str) or not name:
            raise Misuse("returned a name that is not a string, or an empty one")
        check_text(name, "a name that")
        if not any(claim is known for known in conflict.claims):
            raise Misuse("returned a claim that is not one of the conflict's")
    return dict(names)


def checked_choice(candidates: Sequence[UpstreamView], choice: Any) -> UpstreamView | None:
    """The verdict of `route_tool`. Raises `Misuse` unless it is one of the candidates or None."""
    if choice is None:
        return None
    if choice is not candidates[0] and not any(candidate is choice for candidate in candidates):
        raise Misuse(f"returned {kind(choice)} that is not one of the candidates")
    found: UpstreamView = choice
    return found


def checked_health(health: Any) -> Health:
    """The verdict of `check_health`. Raises `Misuse` if it is invalid."""
    if not isinstance(health, Health):
        raise Misuse(f"returned {kind(health)} instead of a Health")
    if not isinstance(health.healthy, bool):
        raise Misuse("returned a Health that is neither True nor False")
    check_text(health.reason, "a Health whose reason")
    return health


def kind(value: Any) -> str:
    """What a verdict is, for a message; closes a coroutine."""
    if isinstance(value, Coroutine | Waiting):
        value.close()  # never awaited; without this, Python warns about it in an unrelated place
        return "an awaitable"
    return f"a {type(value).__name__}"
