"""The pipeline that serves every call, from the agent's params to its result.

Steps: split the params, find the target, run `before_call` in order, route and deliver within one deadline, run
`after_call` in reverse, translate to the agent's era, log one line. `params.py` interprets the params of each method,
and `plans.py` caches the data that repeated calls share. `inline/driver.py` runs the coroutine, without a task while
the call waits only for its upstream's response.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, Final

from loguru import logger
from msgspec import Raw
from msgspec.structs import replace as _replace

from gateway_core.api import Call, CallResult, Outcome, Reject
from gateway_core.catalog import Catalog, Target
from gateway_core.config import ProxyConfig
from gateway_core.errors import (
    CANCELLED,
    INTERNAL_ERROR,
    PLUGIN_FAILED,
    UPSTREAM_UNAVAILABLE,
    RpcError,
    retry_after,
)
from gateway_core.exchange.exchange import Exchange
from gateway_core.hooks import Chain, ChainProgress
from gateway_core.inline.driver import InlineCall, InlineCalls
from gateway_core.internal_errors import where
from gateway_core.log import access, output
from gateway_core.mcp import jsonrpc
from gateway_core.mcp.names import IMPLEMENTATION, LISTS, TASKS
from gateway_core.pipeline.call_state import CallState
from gateway_core.pipeline.params import Params, check_headers, find, read, request_for, unknown
from gateway_core.pipeline.plans import CallPlans
from gateway_core.pipeline.router import Router, unknown_outcome
from gateway_core.upstream.bridge import bridge_result
from gateway_core.upstream.capabilities import takes_tasks

# Bound here, because looking up an enumeration's member is slow in Python 3.11.
_OK: Final = Outcome.OK
_ERROR: Final = Outcome.ERROR
_REFUSED: Final = Outcome.REFUSED
_SERVER: Final = jsonrpc.encode(IMPLEMENTATION)
_CANCELLED: Final = CallResult.failed(RpcError.of_gateway(CANCELLED, "cancelled"), Outcome.CANCELLED)


class Pipeline:
    """Serves calls; `calls` counts them."""

    def __init__(
        self,
        config: ProxyConfig,
        catalog: Catalog,
        router: Router,
        chain: Chain,
        wait_first_lists: Callable[[], Awaitable[bool]],
        *,
        clean: Callable[[bytes], bytes] = bytes,
    ) -> None:
        """`wait_first_lists` waits after the start for upstreams not tried yet, and returns whether it waited.

        `clean` hides secrets of the gateway in JSON.
        """
        self._timeout = config.timeout
        self._max_timeout = config.max_timeout
        self._question_timeout = config.question_timeout
        self._catalog = catalog
        self._router = router
        self._chain = chain
        self._wait_first_lists = wait_first_lists
        self._clean = clean
        self._plans = CallPlans(catalog)
        self._in_flight = InlineCalls()
        self.calls = 0

    @property
    def in_flight(self) -> int:
        """Number of calls being served."""
        return len(self._in_flight.running)

    def end_all(self, reason: str) -> None:
        """End every call in flight with an accurate error: not executed, or outcome unknown."""
        for call in list(self._in_flight.running):
            exchange: Exchange = call.about
            exchange.end(reason)

    def begin(
        self, exchange: Exchange, params: Mapping[str, Raw], answer: CallResult | None = None
    ) -> InlineCall[CallResult]:
        """Begin to serve one request. `params`: the members of its params; empty if it has none.

        `answer`: a result that the upstream sent unasked; the call then sends no request.

        The call runs without a task until it waits for something other than its upstream's response. Its result is
        in the agent's era. It raises only `CancelledError`, when the call was cancelled. By then the upstream's
        cancellation has begun, and every `after_call` that was due has run.
        """
        self.calls += 1
        state = CallState(params, time.monotonic(), answer)
        running = state.running = InlineCall(self._run(exchange, state), self._in_flight, exchange)
        exchange.deadline = running
        exchange.hard_deadline = state.started + self._max_timeout
        exchange.question_limit = self._question_timeout
        self._in_flight.begin(running, state.started + self._timeout)
        running.step()
        return running

    async def call(self, exchange: Exchange, params: Mapping[str, Raw], answer: CallResult | None = None) -> CallResult:
        """Serve one request (see `begin`) and return its result. Cancelling this coroutine cancels the call."""
        return await self.begin(exchange, params, answer)

    async def _run(self, exchange: Exchange, state: CallState) -> CallResult:
        """Serve any call completely: deliver it, run `after_call`, translate, log. Raises only `CancelledError`."""
        running = state.running
        assert running is not None, "set before the first step"
        result = _CANCELLED
        try:
            try:
                result = await self._serve(exchange, state)
            except asyncio.CancelledError:
                if not running.timed_out():
                    raise
                result = _timed_out(exchange, state)
            except RpcError as error:
                result = CallResult.failed(error, _REFUSED if error.code == PLUGIN_FAILED else _ERROR)
            running.close_deadline()
            if state.chain is not None:
                result = await self._chain.run_after(state.chain, result)
            result = self._published(exchange, state, result)
            return result
        except asyncio.CancelledError:
            running.close_deadline()
            if state.chain is not None:
                await self._chain.run_after(state.chain, _CANCELLED)
            result = _CANCELLED
            raise
        except Exception as error:  # noqa: BLE001 - a bug must end only its own call
            running.close_deadline()
            result = _internal_error(exchange, error)
            if state.chain is not None:
                result = await self._chain.run_after(state.chain, result)
            return result
        finally:
            self._in_flight.ended(running)
            _log(exchange, state, result)
            exchange.close()

    async def _serve(self, exchange: Exchange, state: CallState) -> CallResult:
        """Find the target, run `before_call`, and deliver the request."""
        found = self._plans.plan(exchange, state.members)
        if found is not None:
            plan, params = found
            state.plan, state.target = plan, plan.target
        else:
            plan, params = None, read(exchange, state.members)
            state.target = await self._find(exchange, params)
        call = state.call = exchange.origin = params.call(exchange, state.target)
        if plan is None and exchange.headers is not None:  # a plan's tool mirrors no argument
            check_headers(exchange, call, state.target)
        if exchange.method in self._chain.methods:
            state.chain = ChainProgress()
            look_up = partial(self._look_up, state, params)
            call, verdict = await self._chain.run_before(call, look_up, state.chain)
            state.call = call
            if verdict is not None:
                return _rejected(verdict) if isinstance(verdict, Reject) else verdict
        if call.method in LISTS:
            return self._list(call, exchange, params)
        target = state.target
        if target is None:
            raise unknown(call)
        result = state.answer
        if result is None:
            self._set_deadline(exchange, target, state)
            if plan is not None and target is plan.target:
                request = plan.request(call, exchange)
            else:
                request = request_for(call, params, target, exchange)
            result = await self._router.dispatch(call, exchange, target, request, state)
            if state.reply is not None and state.reply.plain and call.method not in TASKS:
                return result
        return self._catalog.tasks.translated(call, target, result)

    async def _find(self, exchange: Exchange, params: Params) -> Target | None:
        """The target of a request without a plan; None if no upstream serves the name, and for lists."""
        method, principal = exchange.method, exchange.agent.principal
        if self._catalog.snapshot.private:
            await self._catalog.prepare(exchange)
        target = find(self._catalog, method, params.name, principal, params)
        if target is not None and method not in TASKS:  # tasks may be older than this process
            return target
        # Shortly after the start, an upstream that was not tried yet may still serve it.
        if not await self._wait_first_lists():
            return target
        await self._catalog.prepare(exchange)
        return find(self._catalog, method, params.name, principal, params)

    def _look_up(self, state: CallState, params: Params, rewritten: Call) -> Call:
        """Look up the target of a rewritten call; return the call with its new tool."""
        found = state.target = find(self._catalog, rewritten.method, rewritten.name, rewritten.principal, params)
        return rewritten.with_tool(None if found is None else found.tool)

    def _list(self, call: Call, exchange: Exchange, params: Params) -> CallResult:
        raw = params.others.get("cursor")
        cursor = None if raw is None or bytes(raw) == b"null" else jsonrpc.text(raw, "cursor")
        era = exchange.agent.era
        return CallResult(raw=self._catalog.page(call.method, era, cursor, call.principal.id), era=era)

    def _set_deadline(self, exchange: Exchange, target: Target, state: CallState) -> None:
        """Apply the longest timeout of the target's upstreams to the exchange, within the hard maximum."""
        first, *others = target.upstreams
        timeout = max([first.timeout, *(upstream.timeout for upstream in others)]) if others else first.timeout
        exchange.idle_limit = timeout
        if timeout != self._timeout and exchange.deadline is not None:
            begun = asyncio.get_running_loop().time()
            exchange.deadline.move(min(begun + timeout, exchange.hard_deadline))

    def _published(self, exchange: Exchange, state: CallState, result: CallResult) -> CallResult:
        """The result in the agent's era, with the URIs that the gateway publishes."""
        if result.outcome is not _OK:
            result = self._cleaned(result)
        if self._catalog.snapshot.linking:
            result = self._catalog.linked(exchange, result)
        agent, method, raw, reply = exchange.agent, exchange.method, result.raw, state.reply
        if result.error is not None or (method in LISTS and result.era == agent.era):
            return result
        members = reply.members if reply is not None and reply.plain and raw is reply.result else None
        tasks = members is None and takes_tasks(agent)
        try:
            raw = bridge_result(method, raw, result.era, agent.era, members, server=_SERVER, tasks=tasks)
        except RpcError as error:
            return CallResult.failed(error, _ERROR, result.upstream)
        return result if raw is result.raw else _replace(result, raw=raw, era=agent.era)

    def _cleaned(self, result: CallResult) -> CallResult:
        """A failure without secrets, which the reasons that the gateway gives may quote. Servers' results are clean."""
        if result.error is None:
            raw = self._clean(result.raw)
            return result if raw is result.raw else _replace(result, raw=raw, _decoded=[])
        data = jsonrpc.encode([result.error.message, result.error.data])
        cleaned = self._clean(data)
        return result if cleaned is data else result.replace_error(*jsonrpc.value(cleaned))


def _internal_error(exchange: Exchange, error: Exception) -> CallResult:
    logger.error("exchange {}: a bug in the gateway: {}\n{}", exchange.id, type(error).__name__, where(error))
    message = f"internal error of the gateway, see its log for {exchange.id}"
    return CallResult.failed(RpcError.of_gateway(INTERNAL_ERROR, message))


def _timed_out(exchange: Exchange, state: CallState) -> CallResult:
    waiting = state.chain.running if state.chain is not None else None
    if waiting is not None:
        error = RpcError.of_gateway(PLUGIN_FAILED, f"plugin {waiting} did not decide in time", plugin=waiting)
        return CallResult.failed(error, Outcome.REFUSED)
    if exchange.upstream is None or not exchange.sent:
        why = f"ended ({exchange.ended})" if exchange.ended else "waited too long"
        place = f"upstream {exchange.upstream}" if exchange.upstream else "the gateway"
        error = RpcError.of_gateway(
            UPSTREAM_UNAVAILABLE, f"the call {why} in {place} and was not executed", **retry_after(1.0)
        )
        return CallResult.failed(error, Outcome.UNAVAILABLE, exchange.upstream)
    return unknown_outcome(exchange.method, exchange.upstream, exchange.ended or "timed out")


def _rejected(verdict: Reject) -> CallResult:
    data = {} if verdict.retry_after is None else retry_after(verdict.retry_after)
    return CallResult.failed(RpcError.of_gateway(verdict.code, verdict.message, **data), Outcome.REFUSED)


def _log(exchange: Exchange, state: CallState, result: CallResult) -> None:
    """Log one line for the call, with metadata only: agent, name, upstream, duration, outcome."""
    seconds, plan = time.monotonic() - state.started, state.plan
    agent, upstream = exchange.agent, result.upstream or exchange.upstream
    name = "" if state.call is None else state.call.name
    if result.outcome is _OK and plan is not None and name is plan.name and upstream is not None:
        output.note_line(plan.line(agent, upstream), (exchange.id, int(seconds * 10_000) / 10))
        return
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
    output.note(f"{method} {shown}" if shown else method, fields, members)
