"""Handles failed hooks: log records without any payload, and the action of `on_error`.

Every exception from a plugin's code is the plugin's failure, even a `BaseException`: a plugin must neither end the
gateway nor look like a cancellation. `Own` recognises the exceptions that end the running task itself.
"""

from __future__ import annotations

import asyncio
import traceback

from loguru import logger

from gateway_core.api import CallResult, Outcome
from gateway_core.errors import PLUGIN_FAILED, RpcError
from gateway_core.hooks.implementations import Hook
from gateway_core.inline.driver import is_stepping
from gateway_core.log.sparing import Sparing
from gateway_core.mcp.read_only import ADVICE, ReadOnlyError


class Misuse(Exception):
    """A plugin broke a hook's contract. The gateway writes the text of this exception, so it is safe to log."""


class Own:
    """Tells whether an exception ends our own task or is a plugin's failure. Create it before calling a hook.

    The task may not exist yet: an inline call is promoted to a task when it has to wait for a hook.
    """

    __slots__ = ("_cancelled", "_task")

    def __init__(self) -> None:
        self._task = _running_task()
        self._cancelled = 0 if self._task is None else self._task.cancelling()

    def end(self, error: BaseException) -> bool:
        """Whether `error` is the cancellation of our task, or Python closing our coroutine."""
        if not isinstance(error, asyncio.CancelledError | GeneratorExit):
            return False
        running = _running_task()
        if isinstance(error, asyncio.CancelledError):
            task = self._task or running
            return task is not None and task.cancelling() > self._cancelled
        # Python raises `GeneratorExit` when it discards an unfinished task; the coroutine must not continue then.
        return not is_stepping() and (running is None or running is not (self._task or running))


def _running_task() -> asyncio.Task[object] | None:
    try:
        return asyncio.current_task()
    except RuntimeError:  # no event loop runs
        return None


class FailureLog:
    """Logs the failures of hooks: at most once a minute for each plugin, hook and type of exception.

    Agents can cause such failures with every call.
    """

    def __init__(self, generation: int) -> None:
        """`generation`: the number of the configuration with these hooks."""
        self._generation = generation
        self._spoken = Sparing()

    def add(self, hook: Hook, error: BaseException, subject: str) -> None:
        """Log the plugin, the hook, the subject, the exception and its location.

        `subject`: what the hook was called for, such as the id of an exchange or the name of an upstream.
        """
        kind = str(error) if isinstance(error, Misuse) else type(error).__name__
        if not self._spoken.due(f"{hook.plugin.name} {hook.name} {kind}"):
            return
        what = kind if isinstance(error, Misuse) else f"raised {kind} at {where(error)}"
        if isinstance(error, ReadOnlyError):
            what += f"; {ADVICE}"
        plugin, generation = hook.plugin.name, self._generation
        logger.bind(plugin=plugin, hook=hook.name, exchange=subject, generation=generation).error(
            "plugin {} failed in {} for {}: {}; logged once a minute", plugin, hook.name, subject, what
        )


def failed_before(hook: Hook) -> CallResult | None:
    """The verdict for a `before_call` that failed; None: continue without that plugin."""
    if hook.plugin.on_error == "ignore":
        return None
    return CallResult.failed(refusal(hook, "the call was not sent"), Outcome.REFUSED)


def failed_after(hook: Hook, result: CallResult) -> CallResult:
    """The result after `after_call` failed: an error under "reject", because the plugin may hide parts of `result`."""
    if hook.plugin.on_error == "ignore" or result.error is not None:
        return result
    ran = result.upstream is not None
    what = "the call was executed and its result is withheld" if ran else "the result is withheld"
    return CallResult.failed(refusal(hook, what), Outcome.ERROR, result.upstream)


def refusal(hook: Hook, what: str) -> RpcError:
    """The error for the agent. `what`: how the failure affected the call."""
    name = hook.plugin.name
    return RpcError.of_gateway(
        PLUGIN_FAILED, f"the plugin {name} failed in {hook.name}; {what}", plugin=name, hook=hook.name
    )


def brief(error: BaseException) -> str:
    """Type and text of an exception, for the operator at start; not for calls, whose payload it may quote."""
    try:
        text = " ".join(str(error).split())
    except BaseException:  # noqa: BLE001 - the plugin's code makes the text, too
        text = ""
    return f"{type(error).__name__}: {text[:300]}" if text else type(error).__name__


def where(error: BaseException) -> str:
    """The innermost frames of an exception, as `file:line in function`, without its text or values."""
    frames = [(frame.f_code, line) for frame, line in traceback.walk_tb(error.__traceback__)][1:]
    return " < ".join(f"{code.co_filename}:{line} in {code.co_name}" for code, line in reversed(frames[-3:])) or "?"
