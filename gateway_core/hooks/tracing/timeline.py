"""`Timeline`: what happened to one call, and when."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final, Literal, TypeAlias

from gateway_core.api import CallTrace, Decision, HookStep, HopStep, Step, UpstreamView, WaitedFor, WaitStep
from gateway_core.errors import DeliveryError, NotSent, RefusedUpstream
from gateway_core.exchange.hops import Carried, ReplyT, RequestT, T

MAX_STEPS: Final = 500
"""Maximum number of steps that are kept of one call; later ones are dropped."""
MIN_WAIT: Final = 0.0001
"""Seconds; shorter waits are no steps."""

Ended: TypeAlias = Literal["answered", "not_sent", "refused", "unknown", "cancelled", "open"]


class Timeline:
    """The hooks that ran for one call, its waits, and its requests to upstreams. Implements `Hops`."""

    __slots__ = ("_along", "_epoch", "_hook", "_open", "_started", "_steps", "_wait", "trace")

    def __init__(
        self, trace: CallTrace | None = None, along: Callable[[UpstreamView], Carried | None] | None = None
    ) -> None:
        """`trace`: what a plugin follows the call with; None for a call that only operators watch.

        `along`: the trace context of the next request.
        """
        self.trace: Final = trace
        self._along = along
        self._steps: list[Step] = []
        self._open: dict[int, tuple[str, float]] = {}
        """Number of each request without an answer -> its upstream, and when it began."""
        self._hook: tuple[str, str, float] | None = None
        """Plugin and hook that run now, and when that began: hooks of one call run one after the other."""
        self._wait: tuple[str, WaitedFor, float] | None = None
        """The upstream that the call waits for now, what for, and when that began."""
        self._started = 0
        self._epoch = time.time() - time.perf_counter()

    def hook_begins(self, plugin: str, hook: str) -> None:
        """A hook runs from now on."""
        self._hook = plugin, hook, time.perf_counter()

    def hook_ran(self, plugin: str, hook: str, begun: float, decision: Decision | None) -> None:
        """Record one run of a hook that began at a time of `perf_counter` and ends now."""
        self._hook = None
        self._add(HookStep(plugin, hook, self._epoch + begun, time.perf_counter() - begun, decision))

    async def wait(self, upstream: str, waited_for: WaitedFor, waiting: Awaitable[T]) -> T:
        """See `Hops`."""
        begun = time.perf_counter()
        self._wait = upstream, waited_for, begun
        ended: Literal["done", "failed", "cancelled"] = "cancelled"
        try:
            found = await waiting
            ended = "done"
            return found
        except DeliveryError:
            ended = "failed"
            raise
        finally:
            self._wait = None
            seconds = time.perf_counter() - begun
            if seconds >= MIN_WAIT:
                self._add(WaitStep(upstream, waited_for, self._epoch + begun, seconds, ended))

    async def hop(
        self, upstream: UpstreamView, request: RequestT, send: Callable[[RequestT], Coroutine[Any, Any, ReplyT]]
    ) -> ReplyT:
        """See `Hops`."""
        carried = None if self._along is None else self._along(upstream)
        if carried is not None:
            request.carry(carried)
        return await self._sent(upstream, send(request), _always)

    async def resume(self, upstream: UpstreamView, waiting: Awaitable[T], is_reply: Callable[[T], bool]) -> T:
        """See `Hops`. It counts as a request of this call, from its begin on."""
        if self._along is not None:
            self._along(upstream)
        return await self._sent(upstream, waiting, is_reply)

    async def _sent(self, upstream: UpstreamView, waiting: Awaitable[T], is_reply: Callable[[T], bool]) -> T:
        """Record a request that begins now."""
        number, begun = self._started, time.perf_counter()
        self._started += 1
        self._open[number] = upstream.name, begun
        ended: Ended = "cancelled"
        code: int | None = None
        try:
            reply = await waiting
            if not is_reply(reply):
                ended = "open"
                return reply
            error: Any = getattr(reply, "error", None)
            ended, code = "answered", None if error is None else error.code
            return reply
        except DeliveryError as problem:
            ended = _how(problem)
            raise
        finally:
            if self._open.pop(number, None) is not None:
                self._hop_ended(number, upstream.name, begun, ended, code)

    def finish(self) -> tuple[Step, ...]:
        """The steps of a call that has ended. A request that is still open ends here."""
        for number, (upstream, begun) in self._open.items():
            self._hop_ended(number, upstream, begun, "open", None)
        self._open.clear()
        return tuple(self._steps)

    @property
    def steps(self) -> tuple[Step, ...]:
        """The steps that have ended."""
        return tuple(self._steps)

    def running(self) -> tuple[Step, ...]:
        """The steps that have not ended, with their seconds up to now."""
        now, found = time.perf_counter(), list[Step]()
        if self._hook is not None:
            plugin, hook, begun = self._hook
            found.append(HookStep(plugin, hook, self._epoch + begun, now - begun))
        if self._wait is not None:
            name, waited_for, begun = self._wait
            found.append(WaitStep(name, waited_for, self._epoch + begun, now - begun, "done"))
        for number, (name, begun) in self._open.items():
            found.append(HopStep(name, number, self._epoch + begun, now - begun, "open"))
        return tuple(found)

    def _hop_ended(self, number: int, upstream: str, begun: float, ended: Ended, code: int | None) -> None:
        self._add(HopStep(upstream, number, self._epoch + begun, time.perf_counter() - begun, ended, code))

    def _add(self, step: Step) -> None:
        if len(self._steps) < MAX_STEPS:
            self._steps.append(step)


def _always(_: object) -> bool:
    return True


def _how(problem: DeliveryError) -> Ended:
    if isinstance(problem, NotSent):
        return "not_sent"
    return "refused" if isinstance(problem, RefusedUpstream) else "unknown"
