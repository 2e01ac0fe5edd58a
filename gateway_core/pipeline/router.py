"""Routes a call to one upstream: candidates, `route_tool`, failover.

After `NotSent` the call goes to the next candidate: it provably never ran. `OutcomeUnknown` ends the call, unless a
repetition is harmless by the protocol (a read) or declared safe by the operator (rules R1 to R11 of
`docs/delivery.md`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Final

from msgspec import Raw

from gateway_core.api import Call, CallResult, Outcome, UpstreamState
from gateway_core.catalog import Target
from gateway_core.errors import (
    MISSING_CLIENT_CAPABILITY,
    UPSTREAM_FAILED,
    UPSTREAM_UNAVAILABLE,
    Idle,
    NotSent,
    OutcomeUnknown,
    RefusedUpstream,
    RpcError,
    UserLoginNeeded,
    drop_traceback,
    retry_after,
)
from gateway_core.exchange.exchange import Exchange
from gateway_core.hooks import Chain
from gateway_core.mcp import jsonrpc
from gateway_core.mcp.names import OUTCOME_KEY, RESPONSES, STATE, TASKS, TOOLS_CALL
from gateway_core.pipeline.input_required import InputRequired, Round, State
from gateway_core.upstream.bridge import bridge_error, foreign_error
from gateway_core.upstream.requests import Reply, Request
from gateway_core.upstream.upstream import Upstream

MIN_RETRIES: Final = 3
RETRY_SHARE: Final = 0.2
"""Maximum share of repetitions among the calls in flight; `MIN_RETRIES` are always allowed."""

_TRUE: Final = Raw(b"true")
# Bound here, because looking up an enumeration's member is slow in Python 3.11.
_OK: Final = Outcome.OK
_TOOL_ERROR: Final = Outcome.TOOL_ERROR
_HEALTHY: Final = UpstreamState.HEALTHY
_IDLE: Final = UpstreamState.IDLE
_ONCE: Final = frozenset({"tasks/update", "tasks/cancel"})
"""Methods other than `tools/call` that have side effects."""


class Router:
    """Chooses upstreams and keeps the retry budget."""

    def __init__(self, chain: Chain, input_required: InputRequired) -> None:
        self._chain = chain
        self.input_required: Final = input_required
        self.in_flight = 0
        """Number of calls in `dispatch`."""
        self._repeating = 0

    async def dispatch(
        self,
        call: Call,
        exchange: Exchange,
        target: Target,
        request: Request,
        round_: Round | None = None,
        *,
        has_asked: bool = False,
    ) -> tuple[CallResult, Reply | None]:
        """Send `request` to one of the target's upstreams; returns the result of the call, and the reply it is made of.

        Without a reply if there was none, and for later rounds and repetitions.

        `round_`: what the request state of the agent says; None without one. If no upstream can take the call before
        the agent's user has logged in, the user is asked to; with `has_asked`, `UserLoginNeeded` is raised instead.

        The caller enforces the exchange's deadline over all attempts. Raises `RpcError` for plugin failures, and for
        rounds that cannot continue.
        """
        self.in_flight += 1
        try:
            state = None if round_ is None else round_.upstream_state
            if state is not None:
                return await self._later_round(exchange, target, request, state), None
            candidates = available(target.upstreams) or _with_task(request, target.upstreams)
            failures: dict[str, NotSent] = {}
            while candidates:
                upstream = candidates[0] if len(candidates) == 1 else self.choose(call, candidates)
                exchange.attempt(upstream.name)
                try:
                    reply = await self.input_required.send(upstream, exchange, request)
                except NotSent as problem:
                    if isinstance(problem, Idle):
                        failure = await upstream.connections.start_for(exchange)
                        if failure is None:
                            continue
                        problem = failure
                    failures[upstream.name] = drop_traceback(problem)
                    exchange.mark("failed", upstream.name, problem.reason)
                    candidates.remove(upstream)
                    continue
                except RefusedUpstream as problem:
                    return _refused(upstream, problem), None
                except OutcomeUnknown as problem:
                    again = self._where_to_repeat(exchange, upstream, candidates, target, request)
                    return await self._repeat(call, exchange, again, request, problem), None
                return answered(upstream, reply, exchange), reply
            _require_login(failures)
            return _unavailable(target, failures), None
        except UserLoginNeeded as needed:
            if has_asked:
                raise
            deliver = partial(self.dispatch, call, exchange, target, request, round_, has_asked=True)
            return await self.input_required.logins.log_in(exchange, call, needed, round_, deliver)
        finally:
            self.in_flight -= 1

    async def _later_round(self, exchange: Exchange, target: Target, request: Request, state: State) -> CallResult:
        """Send a later round, which only the upstream that asked may get (basic/patterns/mrtr)."""
        self.input_required.use(state, exchange)
        upstream = next((it for it in target.upstreams if it.name == state.upstream), None)
        if upstream is None:
            self.input_required.give_back(state, exchange)
            raise RpcError.of_gateway(
                UPSTREAM_UNAVAILABLE, f"upstream {state.upstream}, which asked, does not serve this call any more"
            )
        exchange.attempt(upstream.name)
        if upstream.facts.state is _IDLE:
            await upstream.connections.start_for(exchange)
        try:
            reply = await self.input_required.resume(upstream, exchange, request, state)
        except NotSent as problem:
            self.input_required.give_back(state, exchange)
            _require_login({upstream.name: problem})
            return _unavailable(Target(target.original, (upstream,)), {upstream.name: drop_traceback(problem)})
        except RefusedUpstream as problem:
            self.input_required.give_back(state, exchange)
            return _refused(upstream, problem)
        except OutcomeUnknown as problem:
            return unknown_outcome(request.method, upstream.name, problem.reason)
        except asyncio.CancelledError:
            if not exchange.sent:
                self.input_required.give_back(state, exchange)
            raise
        return answered(upstream, reply, exchange)

    async def _repeat(
        self, call: Call, exchange: Exchange, candidates: Sequence[Upstream], request: Request, first: OutcomeUnknown
    ) -> CallResult:
        """Send a request once more, if there are `candidates`.

        Without a reply the outcome is unknown: the first attempt may have run.
        """
        if not candidates:
            return unknown_outcome(request.method, exchange.upstream or "", first.reason)
        try:
            upstream = self.choose(call, candidates)
        except RpcError:  # it says that the call was not sent
            return unknown_outcome(request.method, exchange.upstream or "", first.reason)
        exchange.mark("failed", exchange.upstream or "", first.reason)
        lost = exchange.upstream or upstream.name
        exchange.attempt(upstream.name)
        self._repeating += 1
        try:
            if upstream.facts.state is _IDLE:
                await upstream.connections.start_for(exchange)
            reply = await self.input_required.send(upstream, exchange, request)
        except (NotSent, RefusedUpstream):
            return unknown_outcome(request.method, lost, first.reason)
        except OutcomeUnknown as problem:
            return unknown_outcome(request.method, upstream.name, problem.reason)
        finally:
            self._repeating -= 1
        return answered(upstream, reply, exchange)

    def choose(self, call: Call, candidates: Sequence[Upstream]) -> Upstream:
        """Choose the upstream for the call among `candidates`. Raises `RpcError` if the routing plugin failed."""
        if len(candidates) == 1:
            return candidates[0]
        chosen = self._chain.route_tool(call, [upstream.view for upstream in candidates])
        for upstream in candidates:
            if chosen is None or upstream.view is chosen:
                return upstream
        raise AssertionError("the chain lets only candidates pass")

    def _where_to_repeat(
        self,
        exchange: Exchange,
        failed: Upstream,
        candidates: Sequence[Upstream],
        target: Target,
        request: Request,
    ) -> list[Upstream]:
        """Upstreams that may get a request with unknown outcome once more (rules R2, R4 and R7); usually none.

        Excludes the upstream that just failed if there are others. For a tool, each upstream must allow it.
        """
        if exchange.touched or self._repeating >= max(MIN_RETRIES, RETRY_SHARE * self.in_flight):
            return []
        if request.method == TOOLS_CALL:
            if not _declared_safe(failed, target):
                return []
            allowed = [upstream for upstream in candidates if _declared_safe(upstream, target)]
        elif request.method in _ONCE or RESPONSES in request.params or STATE in request.params:
            return []
        else:
            allowed = list(candidates)
        return [upstream for upstream in allowed if upstream is not failed] or allowed


def _declared_safe(upstream: Upstream, target: Target) -> bool:
    """Whether the configuration, or an annotation that the operator trusts, allows a tool to run twice (rule R2)."""
    retry = upstream.config.retry
    if (retry if isinstance(retry, str) else retry.get(target.original, "never")) == "safe":
        return True
    if not upstream.config.trust_annotations or upstream.fetched is None:
        return False
    item = upstream.fetched.find("tool", target.original)
    hints = item.definition.get("annotations") if item is not None else None
    return isinstance(hints, dict) and (hints.get("readOnlyHint") is True or hints.get("idempotentHint") is True)


def available(upstreams: Sequence[Upstream]) -> list[Upstream]:
    """The healthy and the idle upstreams, without those that are reconnecting if there are others.

    If none is healthy, the ejected one with the earliest retry.
    """
    if len(upstreams) == 1 and upstreams[0].facts.state is _HEALTHY:
        return [upstreams[0]]
    healthy = [one for one in upstreams if one.facts.state is _HEALTHY or one.facts.state is _IDLE]
    if len(healthy) == 1:
        return healthy
    if healthy:
        return [one for one in healthy if one.reachable or one.facts.state is _IDLE] or healthy
    ejected = [upstream for upstream in upstreams if upstream.facts.state is UpstreamState.EJECTED]
    return [min(ejected, key=lambda upstream: upstream.status.retry_in() or 0.0)] if ejected else []


def _with_task(request: Request, upstreams: Sequence[Upstream]) -> list[Upstream]:
    """The drained upstreams that still serve the task which the request is about."""
    if request.method not in TASKS:
        return []
    return [upstream for upstream in upstreams if upstream.status.drained and upstream.status.state is _HEALTHY]


def is_untried(target: Target) -> bool:
    """Whether none of the target's upstreams was reached or has failed since the start."""
    return all(upstream.facts.state is UpstreamState.CONNECTING for upstream in target.upstreams)


def answered(upstream: Upstream, reply: Reply, exchange: Exchange) -> CallResult:
    """The result of a call from an upstream's reply."""
    if reply.error is not None:
        error = bridge_error(foreign_error(reply.error), upstream.facts.era, exchange.agent.era)
        if exchange.missing is not None and exchange.agent.era == "modern" and upstream.facts.era == "legacy":
            # A legacy server asks and then fails; a modern one returns this error at once.
            required = {"requiredCapabilities": exchange.missing}
            error = RpcError(MISSING_CLIENT_CAPABILITY, f"{error.message} (upstream {upstream.name})", required)
        return CallResult(error=error, outcome=Outcome.ERROR, upstream=upstream.name, era=upstream.facts.era)
    outcome = _OK if reply.plain or not _is_tool_error(exchange.method, reply) else _TOOL_ERROR
    facts = upstream.facts
    return CallResult(reply.result, None, outcome, facts.name, reply.era or facts.era)


def _is_tool_error(method: str, reply: Reply) -> bool:
    """Whether a tool's result has a true `isError`. A cheap test comes first, because few results have one."""
    if method != TOOLS_CALL:
        return False
    members = reply.members
    if members is None:
        if not jsonrpc.has(reply.result, b'"isError"'):
            return False
        members = jsonrpc.members(reply.result)
    return "isError" in members and members["isError"] == _TRUE


def _require_login(failures: Mapping[str, NotSent]) -> None:
    """Raise the first failure that a login of the user would help against."""
    for failure in failures.values():
        if isinstance(failure, UserLoginNeeded):
            raise failure


def _unavailable(target: Target, failures: Mapping[str, NotSent]) -> CallResult:
    """The error if no upstream could take the call: each upstream's reason, and when to retry."""
    reasons, waits = [], []
    for upstream in target.upstreams:
        failure = failures.get(upstream.name)
        wait = upstream.status.retry_in() if failure is None else failure.retry_after
        if wait is not None:
            waits.append(wait)
        state = f"{upstream.facts.state} ({upstream.status.reason})"
        reasons.append(f"{upstream.name}: {state if failure is None else failure.reason}")
    data: dict[str, Any] = {"upstreams": [upstream.name for upstream in target.upstreams]}
    if waits:
        data |= retry_after(min(waits))
    message = f"no upstream could take the call, it was not executed. {'; '.join(reasons)}"
    return CallResult.failed(RpcError.of_gateway(UPSTREAM_UNAVAILABLE, message, **data), Outcome.UNAVAILABLE)


def _refused(upstream: Upstream, problem: RefusedUpstream) -> CallResult:
    data: dict[str, Any] = {"upstream": upstream.name, "status": problem.status}
    if problem.retry_after is not None:
        data |= retry_after(problem.retry_after)
    message = f"upstream {upstream.name} refused the call, it was not executed: {problem.reason}"
    return CallResult.failed(
        RpcError.of_gateway(UPSTREAM_UNAVAILABLE, message, **data), Outcome.UNAVAILABLE, upstream.name
    )


def unknown_outcome(method: str, upstream: str, reason: str) -> CallResult:
    """The result for a request that was sent without getting a reply (rule R9).

    For a tool it has `isError`, because agents show such results to their model, which can verify the outcome.
    """
    if method != TOOLS_CALL:
        error = RpcError.of_gateway(UPSTREAM_FAILED, f"upstream {upstream} did not answer: {reason}", upstream=upstream)
        return CallResult.failed(error, Outcome.UNKNOWN, upstream)
    text = (
        f"Outcome unknown: upstream {upstream} got the call and did not answer ({reason}). "
        "It may have been executed; verify before retrying."
    )
    content = {"content": [{"type": "text", "text": text}], "isError": True, "_meta": {OUTCOME_KEY: "unknown"}}
    return CallResult(raw=jsonrpc.encode(content), outcome=Outcome.UNKNOWN, upstream=upstream)
