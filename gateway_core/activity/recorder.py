"""Makes the record of a call that has ended: names, sizes, times and outcomes, and no payloads."""

from __future__ import annotations

from time import time
from typing import Final

from gateway_core.activity.agents import SeenAgents
from gateway_core.activity.events import MAX_NAME, MAX_TEXT, EndedCall, Failure
from gateway_core.activity.journal import Journal
from gateway_core.api import Call, CallResult, Decision, Step
from gateway_core.errors import RpcError
from gateway_core.exchange.exchange import Exchange
from gateway_core.hooks import ChainProgress
from gateway_core.hooks.tracing import Timeline
from gateway_core.log.access import shown_name
from gateway_core.mcp.names import TOOLS_CALL
from gateway_core.pipeline.observed import decisions_of

MAX_STEPS: Final = 64
"""Steps that are kept of one call."""


class Recorder:
    """Records calls in the journal."""

    def __init__(self, journal: Journal, agents: SeenAgents) -> None:
        self._keep, self._number = journal.calls.append, journal.number
        self._keep_steps, self._note = journal.steps.append, agents.note

    def call_ended(
        self,
        exchange: Exchange,
        call: Call | None,
        progress: ChainProgress | None,
        result: CallResult,
        timeline: Timeline | None = None,
        *,
        seconds: float,
    ) -> None:
        """Record a call. Arguments: see the protocol `Recorder`."""
        agent, error, trail = exchange.agent, result.error, exchange.trail
        self._note(agent)
        if timeline is not None:
            self._keep_steps((exchange.id, bounded(timeline.finish())))
        principal, method, now = agent.principal, exchange.method, time()
        name = "" if call is None else call.name
        decisions: tuple[Decision, ...] = ()
        decided: tuple[float, ...] = ()
        if error is not None:
            decisions = decisions_of(progress, error)
            known = () if progress is None else progress.moments
            decided = (*known, *[now] * (len(decisions) - len(known)))  # what only the error says came last
        elif progress is not None and progress.decisions:
            decisions, decided = progress.decisions, progress.moments
        self._keep(
            EndedCall(
                exchange.id,
                method,
                (name if method == TOOLS_CALL else shown_name(method, name))[:MAX_NAME],
                principal.id,
                principal.verified,
                agent.era,
                agent.session_key or None,
                result.upstream or exchange.upstream,
                result.outcome,
                None if error is None else _failure(error),
                seconds,
                exchange.waited,
                now - seconds,
                exchange.generation,
                exchange.sent,
                len(result.raw),
                decisions,
                decided,
                () if trail is None else tuple(trail.marks),
                seq=self._number(),
                at=now,
            )
        )


def bounded(steps: tuple[Step, ...]) -> tuple[Step, ...]:
    """The first and the last of the steps, if there are too many to keep."""
    return steps if len(steps) <= MAX_STEPS else (*steps[: MAX_STEPS // 2], *steps[-MAX_STEPS // 2 :])


def _failure(error: RpcError) -> Failure:
    of_gateway = isinstance(error.data, dict) and error.data.get("source") == "gateway"
    return Failure(error.code, error.message[:MAX_TEXT] if of_gateway else "")
