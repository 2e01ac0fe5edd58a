"""The plugins that observe calls, authentications and upstreams, and what is recorded for them during a call."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

import msgspec
from loguru import logger

from gateway_core.api import (
    Ask,
    AuthenticationEnded,
    Call,
    CallEnded,
    CallResult,
    Decision,
    Outcome,
    Pass,
    Reject,
    UpstreamChanged,
)
from gateway_core.hooks.failures import FailureLog, Misuse, Own
from gateway_core.hooks.implementations import Hook
from gateway_core.hooks.verdicts import AFTER_TIMEOUT, bounded, kind
from gateway_core.inline.driver import in_task
from gateway_core.log.sparing import Sparing

NO_TASK: Final = Own()
"""For hooks that do not wait: an exception from one is the plugin's failure."""
MAX_RULE: Final = 200
"""Maximum characters of the name of a rule."""
MAX_WAITING: Final = 100
"""Maximum changes of upstreams that wait until the plugins have seen the earlier ones."""


class ChainProgress(msgspec.Struct, eq=False):
    """The progress of one call through the chain."""

    running: str | None = None
    """The plugin whose `before_call` runs now; the error names it when the deadline passes."""
    due: tuple[tuple[Hook, Call], ...] = ()
    """The `after_call` hooks that are due, each with the call as that plugin's `before_call` left it."""
    decisions: tuple[Decision, ...] = ()
    """What the plugins did; without observers, only what ended the call."""
    moments: tuple[float, ...] = ()
    """The times of `decisions`, in seconds since the epoch."""

    def decided(self, plugin: str, verdict: Call | CallResult | Reject | Ask | Pass) -> None:
        """Record a verdict of `before_call`."""
        self._add(decision_of(plugin, verdict))

    def due_after(self, hook: Hook, call: Call) -> None:
        """Record an `after_call` hook that `run_after` has to run."""
        self.due += ((hook, call),)

    def take_due(self) -> tuple[Hook, Call]:
        """Remove the hook that is next to run, which is the last one."""
        *before, last = self.due
        self.due = tuple(before)
        return last

    def resume_at(self, due: int) -> None:
        """Forget the hooks that became due after the first `due` ones."""
        self.due = self.due[:due]

    def edited(self, plugin: str, result: CallResult) -> None:
        """Record that `after_call` replaced the result."""
        self._add(Decision(plugin, "edit", clean_rule(result.rule)))

    def failed(self, plugin: str) -> None:
        """Record that a hook failed."""
        self._add(Decision(plugin, "fail"))

    def _add(self, decision: Decision) -> None:
        self.decisions += (decision,)
        self.moments += (time.time(),)


class Observers:
    """The enabled plugins with `observe`, in the order of the TOML. A failure of one changes nothing but the log."""

    def __init__(self, hooks: Sequence[Hook], generation: int = 1) -> None:
        """`generation`: for the log."""
        self._hooks = tuple(hooks)
        self._failures = FailureLog(generation)
        self._spoken = Sparing()
        self._changes: deque[UpstreamChanged] = deque(maxlen=MAX_WAITING)
        self._teller: asyncio.Task[None] | None = None
        """Tells the plugins about `_changes`."""
        self._begun = False
        self.telling = 0
        """Number of events that the plugins get right now."""

    def __bool__(self) -> bool:
        return bool(self._hooks)

    def begin(self) -> None:
        """The plugins were entered: tell them changes of upstreams from now on."""
        self._begun = True

    async def finish(self) -> None:
        """Tell no further changes of upstreams. Wait at most 5 s for those that the plugins get right now."""
        self._begun = False
        teller = self._teller
        if teller is None:
            return
        try:
            await asyncio.wait([teller], timeout=AFTER_TIMEOUT)
        finally:
            self._changes.clear()
            teller.cancel()

    async def call_ended(self, ended: CallEnded) -> None:
        """Tell all of them, and wait for those that want the agent to wait.

        Raises only `CancelledError`, and only after the last of them got the event.
        """
        cancelled: BaseException | None = None
        self.telling += 1
        for hook in self._hooks:
            own = NO_TASK
            try:
                waiting = hook.function(ended)
                if waiting is not None:
                    _require_awaitable(waiting)
                    cancelled = await promoted() or cancelled
                    own = Own()
                    check_nothing(await bounded(waiting))
            except BaseException as error:  # noqa: BLE001 - whatever a plugin raises is its failure
                if own.end(error):
                    cancelled = error  # the others must also see the end of the call
                    continue
                self._failures.add(hook, error, ended.exchange_id)
        self.telling -= 1
        if cancelled is not None:
            raise cancelled

    async def authentication_ended(self, ended: AuthenticationEnded) -> None:
        """Tell all of them, in a task, and wait for those that want the client to wait."""
        self.telling += 1
        try:
            await self._tell(ended, f"a client at {ended.address or 'an unknown address'}")
        finally:
            self.telling -= 1

    def upstream_changed(self, changed: UpstreamChanged) -> None:
        """Tell all of them soon, in a task, one change after the other. If they are too slow, the oldest is lost."""
        if not self._hooks or not self._begun:
            return
        if len(self._changes) == MAX_WAITING and self._spoken.due("lost"):
            logger.warning(
                "the plugins with observe are too slow: changes of upstreams are lost to them; logged once a minute"
            )
        self._changes.append(changed)
        if self._teller is None:
            self._begin_telling()

    def _begin_telling(self) -> None:
        self.telling += 1
        self._teller = asyncio.get_running_loop().create_task(self._tell_changes(), name="tell plugins of upstreams")
        self._teller.add_done_callback(self._end_telling)

    async def _tell_changes(self) -> None:
        while self._changes:
            changed = self._changes.popleft()
            await self._tell(changed, f"the upstream {changed.upstream}")

    def _end_telling(self, teller: asyncio.Task[None]) -> None:
        self._teller = None
        self.telling -= 1
        if self._changes:  # added after the task had ended
            self._begin_telling()

    async def _tell(self, event: AuthenticationEnded | UpstreamChanged, subject: str) -> None:
        own = Own()
        for hook in self._hooks:
            try:
                waiting = hook.function(event)
                if waiting is not None:
                    _require_awaitable(waiting)
                    check_nothing(await bounded(waiting))
            except BaseException as error:
                if own.end(error):
                    raise
                self._failures.add(hook, error, subject)


def _require_awaitable(verdict: object) -> None:
    if not hasattr(verdict, "__await__"):
        raise Misuse(f"returned {kind(verdict)} instead of None or an awaitable")


def check_nothing(verdict: object) -> None:
    """Raise `Misuse` unless `observe` returned None."""
    if verdict is not None:
        raise Misuse(f"returned {kind(verdict)} instead of None")


def decision_of(plugin: str, verdict: Call | CallResult | Reject | Ask | Pass) -> Decision:
    """The record of a verdict of `before_call`."""
    if isinstance(verdict, Pass):
        rule = verdict.rule
        short = isinstance(rule, str) and len(rule) <= MAX_RULE
        return _passed(plugin, rule) if short else Decision(plugin, "pass", clean_rule(rule))
    match verdict:
        case Call():
            return Decision(plugin, "rewrite")
        case Ask():
            return Decision(plugin, "ask", verdict.name)
        case CallResult() if verdict.outcome is not Outcome.REFUSED:
            return Decision(plugin, "answer", clean_rule(verdict.rule))
    return Decision(plugin, "refuse", clean_rule(verdict.rule))


@lru_cache(maxsize=1024)
def _passed(plugin: str, rule: str) -> Decision:
    """Cached, because rules that let calls pass repeat from call to call."""
    return Decision(plugin, "pass", clean_rule(rule))


def clean_rule(rule: object) -> str:
    """The name of a rule as a plugin gives it, bounded and as Unicode text."""
    return rule[:MAX_RULE].encode("utf-8", "backslashreplace").decode() if isinstance(rule, str) else ""


async def promoted() -> BaseException | None:
    """Continue in a task. Returns a cancellation that arrives meanwhile, so that the hooks that are due still run."""
    try:
        await in_task()
    except asyncio.CancelledError as error:
        return error
    return None
