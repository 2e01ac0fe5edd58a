"""`Chain`: runs the hooks of the enabled plugins in order."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy
from types import TracebackType
from typing import Final, Self

import msgspec
from msgspec.structs import replace

from gateway_core.api import Ask, Call, CallResult, Claim, Health, Pass, Reject, ToolConflict, UpstreamView
from gateway_core.concealing import Secret
from gateway_core.errors import UnreadableCall
from gateway_core.hooks.authenticators import Authenticators, call_headers
from gateway_core.hooks.failures import FailureLog, Own, failed_after, failed_before, refusal
from gateway_core.hooks.implementations import HOOKS, Hook, LoadedPlugin, implementations
from gateway_core.hooks.lifecycle import Lifecycle
from gateway_core.hooks.observers import NO_TASK, ChainProgress, Observers, promoted
from gateway_core.hooks.pages import pages_of
from gateway_core.hooks.times import HookTimes
from gateway_core.hooks.tracing import Timeline, Tracing, timed_by
from gateway_core.hooks.verdicts import (
    await_verdict,
    bounded,
    checked_choice,
    checked_health,
    checked_names,
    judge,
    sound,
)


class Stage(msgspec.Struct, frozen=True):
    plugin: str
    before: Hook | None
    after: Hook | None
    reads_after: bool
    """Whether `after` may read the arguments."""


class Question(msgspec.Struct, frozen=True, eq=False):
    """A question of a plugin to the agent's user, at which the chain stopped."""

    plugin: str
    ask: Ask
    stage: Stage
    due: int
    """The number of `after_call` hooks that were due when the plugin asked."""


class Chain:
    """The enabled plugins in order. An async context manager: enters plugins that are one, exits in reverse."""

    def __init__(self, plugins: Sequence[LoadedPlugin], *, rehearses: bool = False, generation: int = 1) -> None:
        """`rehearses`: run `before_call` alone, and record what plugins do even if none of them observes.
        `generation`: the number of the configuration, for the log.

        Raises `PluginError` for an authenticator or a page that cannot be used.
        """
        self.plugins: tuple[LoadedPlugin, ...] = tuple(plugins)
        self.generation: Final = generation
        self.measures_loop_lag: Final = self._asks_for("measures_loop_lag")
        self.times: Final = HookTimes() if self._asks_for("measures_hooks") else None
        """How long hooks take; None if no plugin asks for it."""
        hooks: dict[str, dict[str, Hook]] = {name: {} for name in HOOKS}
        for plugin in self.plugins:
            for name in HOOKS.keys() & dict(implementations(type(plugin.instance))).keys():
                hook = Hook.of(plugin, name)
                hooks[name][plugin.name] = hook if self.times is None else self.times.timed(hook)
        stages: dict[str, list[Stage]] = {}
        for plugin in self.plugins:
            before = hooks["before_call"].get(plugin.name)
            after = None if rehearses else hooks["after_call"].get(plugin.name)
            stage = Stage(plugin.name, before, after, after is not None and after.reads_arguments)
            if before is not None or after is not None:
                for method in plugin.methods:
                    stages.setdefault(method, []).append(stage)
        self._stages = {method: tuple(of_method) for method, of_method in stages.items()}
        self.methods: Final = frozenset(self._stages)
        """The methods for which any plugin has `before_call` or `after_call`."""
        self.timelines: Final[dict[str, Timeline]] = {}
        """The timelines of the calls that are followed, by the ids of their exchanges."""
        self._router = timed_by(next(iter(hooks["route_tool"].values()), None), self.timelines)
        self.tracing: Final = Tracing(next(iter(hooks["trace_call"].values()), None), self.timelines, generation)
        self._resolver = next(iter(hooks["resolve_conflict"].values()), None)
        self._checks = tuple(hooks["check_health"].values())
        self._keeps_decisions: Final = rehearses or bool(hooks["observe"]) or bool(hooks["trace_call"])
        self._observed = self._keeps_decisions
        self.observers: Final = Observers(tuple(hooks["observe"].values()), generation)
        authenticating = tuple(hooks["authenticate"].values())
        self.authenticators: Final = Authenticators(authenticating, self.observers, generation)
        self.call_headers: Final = call_headers(self.plugins)
        """Plugin -> the headers that it sees in calls."""
        self.pages: Final = pages_of(self.plugins)
        self._life = Lifecycle(self.plugins)
        self._failures = FailureLog(generation)
        self._holds = 0
        """See `held`."""
        self.followed: Final = self._followed()
        """The same hooks, which record their runs in `timelines`."""

    def _asks_for(self, flag: str) -> bool:
        """Whether an attribute of a plugin, such as `measures_hooks`, is set."""
        return any(getattr(plugin.instance, flag, False) is True for plugin in self.plugins)

    def _followed(self) -> Chain:
        made = copy(self)
        made._record()
        return made

    def _record(self) -> None:
        self._stages = {
            method: tuple(
                replace(it, before=timed_by(it.before, self.timelines), after=timed_by(it.after, self.timelines))
                for it in of_method
            )
            for method, of_method in self._stages.items()
        }

    @property
    def secrets(self) -> tuple[Secret, ...]:
        """The secrets in the settings of the plugins, as their models mark them."""
        return tuple(secret for plugin in self.plugins for secret in plugin.secrets)

    async def __aenter__(self) -> Self:
        """Enter the plugins in order. Raises `PluginError` naming the plugin that failed, after exiting the others."""
        await self.enter()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Exit the plugins in reverse order. A plugin that fails to exit is logged; the others still exit."""
        await self.leave()

    async def enter(self, running: Collection[LoadedPlugin] = ()) -> None:
        """See `Lifecycle.enter`."""
        await self._life.enter(running)
        self.observers.begin()

    async def leave(self, kept: Collection[LoadedPlugin] = ()) -> None:
        """See `Lifecycle.leave`."""
        try:
            await self.observers.finish()
        finally:
            await self._life.leave(kept)

    def keep_decisions(self, keep: bool) -> None:
        """Record what plugins do with the calls from now on, or only if a plugin observes."""
        for chain in (self, self.followed):
            chain._keep(keep)

    def _keep(self, keep: bool) -> None:
        self._observed = keep or self._keeps_decisions

    @property
    def asked(self) -> bool:
        """Whether a plugin judges credentials, or observes, or something holds the chain, right now."""
        return bool(self._holds or self.authenticators.judging or self.observers.telling)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep the plugins entered while their hooks run outside of an agent's call, also if a reload replaces them."""
        self._holds += 1
        try:
            yield
        finally:
            self._holds -= 1

    @property
    def has_health_check(self) -> bool:
        """Whether any plugin implements `check_health`."""
        return bool(self._checks)

    async def run_before(
        self,
        call: Call,
        lookup: Callable[[Call], Call],
        progress: ChainProgress,
        answered: Question | None = None,
    ) -> tuple[Call, Reject | CallResult | Question | None]:
        """Run `before_call` of each plugin in order, until one refuses, answers or asks.

        `lookup` finds the tool of a rewritten call. `progress` records what `run_after` has to run, even if this
        coroutine is cancelled. `answered`: the question at which the chain stopped; it goes on with the plugin that
        asked. Returns the call as the plugins left it, and the verdict that ended the chain. The verdict of a failed
        plugin is a `CallResult` with an error, and so is that of a call that a plugin cannot read.
        """
        end: Reject | CallResult | Question | None = None
        stages = self._stages.get(call.method, ())
        if answered is not None:
            stages = stages[stages.index(answered.stage) :]
            progress.resume_at(answered.due)
        for stage in stages:
            hook = stage.before
            if end is not None and hook is not None:
                continue
            call = seen = call.seen_by(stage.plugin)
            if hook is not None:
                progress.running = stage.plugin
                own = NO_TASK
                try:
                    verdict = hook.function(call)
                    if verdict is not None and (self._observed or verdict.__class__ is not Pass):
                        if hook.is_async or hasattr(verdict, "__await__"):
                            own = Own()
                            verdict = await await_verdict(verdict)
                        if verdict.__class__ is not Pass or verdict.rule.__class__ is not str:
                            call, judged = judge(call, verdict, lookup)
                            end = judged if not isinstance(judged, Ask) else _question(stage, judged, progress)
                        if verdict is not None and verdict is not seen and (self._observed or end is not None):
                            progress.decided(stage.plugin, verdict)
                except BaseException as error:
                    if own.end(error):
                        raise
                    end = self._end_of(hook, call, error, progress)
                    continue
            if stage.after is not None:
                progress.due_after(stage.after, call.seen_by(stage.plugin))
                if stage.reads_after and end is None:
                    end = _unreadable(call)
        progress.running = None
        return call, end

    def _end_of(self, hook: Hook, call: Call, error: BaseException, progress: ChainProgress) -> CallResult | None:
        """The result of a call after a `before_call` raised; None: continue without that plugin."""
        if isinstance(error, UnreadableCall):
            return CallResult.failed(error)
        self._failures.add(hook, error, call.exchange_id)
        progress.failed(hook.plugin.name)
        return failed_before(hook)

    async def run_after(self, progress: ChainProgress, result: CallResult) -> CallResult:
        """Run the `after_call` hooks that are due, once each, in reverse order; returns the final result.

        Raises only `CancelledError`, and only after the last hook ran.
        """
        cancelled: BaseException | None = None
        while progress.due:
            hook, call = progress.take_due()
            own = NO_TASK
            try:
                verdict = hook.function(call, result)
                if verdict is not None:
                    if hook.is_async or hasattr(verdict, "__await__"):
                        cancelled = await promoted() or cancelled
                        own = Own()
                        verdict = await bounded(verdict)
                    if verdict is not None and verdict is not result:
                        result = sound(verdict, result)
                        if self._observed:
                            progress.edited(hook.plugin.name, result)
            except BaseException as error:  # noqa: BLE001 - whatever a plugin raises is its failure
                if own.end(error):
                    cancelled = error  # the remaining hooks must also see the end of the call
                    continue
                if hook.reads_arguments and isinstance(error, UnreadableCall):  # it was not sent
                    result = result if result.error is not None else CallResult.failed(error)
                    continue
                self._failures.add(hook, error, call.exchange_id)
                progress.failed(hook.plugin.name)
                result = failed_after(hook, result)
        if cancelled is not None:
            raise cancelled
        return result

    def route_tool(self, call: Call, candidates: Sequence[UpstreamView]) -> UpstreamView | None:
        """The routing plugin's choice among `candidates`; None: the core takes the first.

        Raises `RpcError(PLUGIN_FAILED)` when the plugin failed and its `on_error` is "reject", and `UnreadableCall`
        when it read malformed arguments.
        """
        hook = self._router
        if hook is None:
            return None
        try:
            return checked_choice(candidates, hook.function(call.seen_by(hook.plugin.name), candidates))
        except UnreadableCall:
            raise
        except BaseException as error:  # noqa: BLE001 - whatever a plugin raises is its failure
            self._failures.add(hook, error, call.exchange_id)
            if hook.plugin.on_error == "ignore":
                return None
            raise refusal(hook, "the call was not sent") from None

    def resolve_conflict(self, conflict: ToolConflict) -> Mapping[str, Claim] | None:
        """The conflict plugin's names for the claims; None: the first claim keeps the name.

        If the plugin fails, the failure is logged and the result is None, regardless of `on_error`. There is no call
        to refuse, and dropping the name would hide the upstreams' tools.
        """
        hook = self._resolver
        if hook is None:
            return None
        try:
            return checked_names(conflict, hook.function(conflict))
        except BaseException as error:  # noqa: BLE001 - whatever a plugin raises is its failure
            self._failures.add(hook, error, f"the {conflict.kind} {conflict.name!r}")
            return None

    async def check_health(self, upstream: UpstreamView) -> Health | None:
        """The first result of a plugin that is not None; None: use the core's own check. The caller sets the timeout.

        If a plugin fails, the upstream is unhealthy under `on_error = "reject"`; under "ignore" the next plugin runs.
        """
        with self.held():
            return await self._check_health(upstream)

    async def _check_health(self, upstream: UpstreamView) -> Health | None:
        own = Own()
        for hook in self._checks:
            try:
                health = hook.function(upstream)
                if hook.is_async or hasattr(health, "__await__"):
                    health = await await_verdict(health)
                if health is None:
                    continue
                return checked_health(health)
            except BaseException as error:
                if own.end(error):
                    raise
                self._failures.add(hook, error, f"the upstream {upstream.name}")
                if hook.plugin.on_error == "reject":
                    return Health(False, f"the plugin {hook.plugin.name} failed in check_health")
        return None


def _question(stage: Stage, ask: Ask, progress: ChainProgress) -> Question:
    return Question(stage.plugin, ask, stage, len(progress.due))


def _unreadable(call: Call) -> CallResult | None:
    """The error for a call that must not be sent, because an `after_call` could not read it; None if it can."""
    try:
        _ = call.arguments, call.meta
    except UnreadableCall as error:
        return CallResult.failed(error)
    return None
