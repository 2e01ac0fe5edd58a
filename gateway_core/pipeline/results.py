"""Results that the pipeline makes itself, of refusals, deadlines and bugs; their log lines, and hiding of secrets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from loguru import logger
from msgspec.structs import replace as _replace

from gateway_core.api import Call, CallResult, Outcome, Reject
from gateway_core.errors import INTERNAL_ERROR, PLUGIN_FAILED, UPSTREAM_UNAVAILABLE, RpcError, retry_after
from gateway_core.exchange.exchange import Exchange
from gateway_core.hooks import Question
from gateway_core.inline.deadlines import Deadline
from gateway_core.internal_errors import where
from gateway_core.log import access, output
from gateway_core.mcp import jsonrpc
from gateway_core.pipeline.plans import CallPlan
from gateway_core.pipeline.router import unknown_outcome

_OK: Final = Outcome.OK  # bound here, because looking up an enumeration's member is slow in Python 3.11


def cleaned(result: CallResult, clean: Callable[[bytes], bytes]) -> CallResult:
    """A failure without secrets, which the reasons that the gateway gives may quote. Servers' results are clean."""
    if result.error is None:
        raw = clean(result.raw)
        return result if raw is result.raw else _replace(result, raw=raw, _decoded=[])
    data = jsonrpc.encode([result.error.message, result.error.data])
    hidden = clean(data)
    return result if hidden is data else result.replace_error(*jsonrpc.value(hidden))


def failed(exchange: Exchange, error: Exception) -> CallResult:
    """The result of a call that a bug ended, which is logged."""
    logger.bind(**exchange.log_fields).error(
        "exchange {}: a bug in the gateway: {}\n{}", exchange.id, type(error).__name__, where(error)
    )
    message = f"internal error of the gateway, see its log for {exchange.id}"
    return CallResult.failed(RpcError.of_gateway(INTERNAL_ERROR, message))


def is_refusal(verdict: Reject | CallResult | Question) -> bool:
    """Whether a plugin ends the call with an error."""
    return isinstance(verdict, Reject) or (isinstance(verdict, CallResult) and verdict.is_error)


def rejected(verdict: Reject) -> CallResult:
    """The result of a call that a plugin refused."""
    data = verdict.data if verdict.retry_after is None else {**verdict.data, **retry_after(verdict.retry_after)}
    return CallResult.failed(RpcError(verdict.code, verdict.message, {**data, "source": "gateway"}), Outcome.REFUSED)


def timed_out(exchange: Exchange, deadline: Deadline, plugin: str | None, longest: float) -> CallResult:
    """The result of a call whose deadline has passed.

    `plugin`: the one whose `before_call` was running. `longest`: the value of `max_timeout`.
    """
    if plugin is not None and not exchange.ended:
        error = RpcError.of_gateway(PLUGIN_FAILED, f"plugin {plugin} did not decide in time", plugin=plugin)
        return CallResult.failed(error, Outcome.REFUSED)
    if exchange.upstream is None or not exchange.sent:
        why = f"ended ({exchange.ended})" if exchange.ended else "waited too long"
        place = f"upstream {exchange.upstream}" if exchange.upstream else "the gateway"
        error = RpcError.of_gateway(
            UPSTREAM_UNAVAILABLE, f"the call {why} in {place} and was not executed", **retry_after(1.0)
        )
        return CallResult.failed(error, Outcome.UNAVAILABLE, exchange.upstream)
    return unknown_outcome(exchange.method, exchange.upstream, exchange.ended or _limit(deadline, longest))


def _limit(deadline: Deadline, longest: float) -> str:
    """The limit that ended a call, and its key."""
    if deadline.when >= deadline.hard_limit:
        return f"timed out after {longest:g} s; the key max_timeout sets this"
    return f"timed out after {deadline.idle_limit:g} s without an answer or progress; the key timeout sets this"


def log(exchange: Exchange, call: Call | None, plan: CallPlan | None, result: CallResult, seconds: float) -> bool:
    """Log one line for a call, with metadata only: agent, name, upstream, duration, outcome.

    Returns whether it went wrong.
    """
    agent, upstream = exchange.agent, result.upstream or exchange.upstream
    name = "" if call is None else call.name
    if result.outcome is _OK and plan is not None and name is plan.name and upstream is not None:
        output.note_line(plan.line(agent, upstream), (exchange.id, int(seconds * 10_000) / 10))
        return False
    note(exchange, name, result, seconds)
    return result.outcome is not _OK


def log_of_recorded(
    exchange: Exchange, call: Call | None, plan: CallPlan | None, result: CallResult, seconds: float
) -> bool:
    """Log a call that is recorded however it ends: as `log`, and always returns True."""
    log(exchange, call, plan, result, seconds)
    return True


def note(exchange: Exchange, name: str, result: CallResult, seconds: float) -> None:
    """Log the line of a call without a plan."""
    agent, upstream = exchange.agent, result.upstream or exchange.upstream
    fields: dict[str, Any] = {
        "exchange": exchange.id,
        "agent": agent.principal.id,
        "outcome": result.outcome,
        "ms": round(seconds * 1000, 1),
    }
    if upstream is not None:
        fields["upstream"] = upstream
    if result.error is not None:
        fields["code"] = result.error.code
    method, shown = exchange.method, access.shown_name(exchange.method, name)
    members = access.members(method, shown, agent.principal.id, agent.session_id)
    line = f"{method} {shown}" if shown else method
    output.note(line, access.completed(fields, exchange.generation, agent.principal.profile), members)
