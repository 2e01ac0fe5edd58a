"""`Timeline`: what happened to one call, and when."""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine
from typing import Any, Final, Literal, TypeAlias

from gateway_core.api import CallTrace, Decision, HookStep, HopStep, Step, UpstreamView
from gateway_core.errors import DeliveryError, NotSent, RefusedUpstream
from gateway_core.exchange.hops import Carried, ReplyT, RequestT

MAX_STEPS: Final = 500
"""Maximum number of steps that are kept of one call; later ones are dropped."""

Ended: TypeAlias = Literal["answered", "not_sent", "refused", "unknown", "cancelled", "open"]


class Timeline:
    """The hooks that ran for one call, and its requests to upstreams. Implements `Hops`."""

    __slots__ = ("_along", "_epoch", "_open", "_started", "_steps", "trace")

    def __init__(self, trace: CallTrace, along: Callable[[UpstreamView], Carried | None] | None = None) -> None:
        """`trace`: what the plugin follows the call with. `along`: the trace context of the next request."""
        self.trace: Final = trace
        self._along = along
        self._steps: list[Step] = []
        self._open: dict[int, tuple[str, float]] = {}
        """Number of each request without an answer -> its upstream, and when it began."""
        self._started = 0
        self._epoch = time.time() - time.perf_counter()

    def hook_ran(self, plugin: str, hook: str, begun: float, decision: Decision | None) -> None:
        """Record one run of a hook that began at a time of `perf_counter` and ends now."""
        self._add(HookStep(plugin, hook, self._epoch + begun, time.perf_counter() - begun, decision))

    async def hop(
        self, upstream: UpstreamView, request: RequestT, send: Callable[[RequestT], Coroutine[Any, Any, ReplyT]]
    ) -> ReplyT:
        """See `Hops`."""
        carried = None if self._along is None else self._along(upstream)
        if carried is not None:
            request.carry(carried)
        number, begun = self._started, time.perf_counter()
        self._started += 1
        self._open[number] = upstream.name, begun
        ended: Ended = "cancelled"
        code: int | None = None
        try:
            reply = await send(request)
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

    def _hop_ended(self, number: int, upstream: str, begun: float, ended: Ended, code: int | None) -> None:
        self._add(HopStep(upstream, number, self._epoch + begun, time.perf_counter() - begun, ended, code))

    def _add(self, step: Step) -> None:
        if len(self._steps) < MAX_STEPS:
            self._steps.append(step)


def _how(problem: DeliveryError) -> Ended:
    if isinstance(problem, NotSent):
        return "not_sent"
    return "refused" if isinstance(problem, RefusedUpstream) else "unknown"
