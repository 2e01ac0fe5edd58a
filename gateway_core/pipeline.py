"""The one function that every call goes through, from an agent's params to the result that it gets.

Take the params apart, find the target, `before_call` in order, route and deliver inside one deadline, `after_call`
in reverse, bridge to the agent's era, one line in the log. `targets.py` knows what each method's params mean.
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

from gateway_core import jsonrpc
from gateway_core.bugs import where
from gateway_core.catalog import Catalog, Target
from gateway_core.chain import Chain, Passed
from gateway_core.config import ProxyConfig
from gateway_core.course import Course
from gateway_core.deadlines import Deadline, Deadlines
from gateway_core.errors import (
    CANCELLED,
    INTERNAL_ERROR,
    PLUGIN_FAILED,
    UPSTREAM_UNAVAILABLE,
    RpcError,
    retry_after,
)
from gateway_core.exchange import Exchange
from gateway_core.log import access, output
from gateway_core.protocol import IMPLEMENTATION, LISTS, TASKS
from gateway_core.quick import QuickCalls, Running
from gateway_core.router import Router, unknown_outcome
from gateway_core.targets import Params, check_headers, find, read, request_for, unknown
from gateway_core.types import Call, CallResult, Outcome, Reject
from gateway_core.upstream.bridge import bridge_result
from gateway_core.upstream.capabilities import takes_tasks

_OK: Final = Outcome.OK
_SERVER: Final = jsonrpc.encode(IMPLEMENTATION)
_CANCELLED: Final = CallResult.failed(RpcError.of_gateway(CANCELLED, "cancelled"), Outcome.CANCELLED)


class Pipeline:
    """Serves calls; `calls` counts them."""

    def __init__(
        self, config: ProxyConfig, catalog: Catalog, router: Router, chain: Chain, settle: Callable[[], Awaitable[bool]]
    ) -> None:
        """`settle` waits, shortly after the start, for upstreams that were not tried yet; it tells whether it did."""
        self._timeout = config.timeout
        self._max_timeout = config.max_timeout
        self._question_timeout = config.question_timeout
        self._deadlines = Deadlines()
        self._catalog = catalog
        self._router = router
        self._chain = chain
        self._settle = settle
        self._quick = QuickCalls(catalog, router, chain, self)
        self.calls = 0
        self._running: dict[str, Exchange] = {}
        self._told: set[asyncio.Task[CallResult]] = set()

    @property
    def in_flight(self) -> int:
        """Calls that are being served now."""
        return len(self._running)

    def end_all(self, reason: str) -> None:
        """End every call in flight with the answer that is true of it: not executed, or outcome unknown."""
        for exchange in list(self._running.values()):
            if exchange.begun is not None:
                exchange.begun.take_over()
            exchange.end(reason)

    async def call(self, exchange: Exchange, params: Mapping[str, Raw], answer: CallResult | None = None) -> CallResult:
        """Serve one request. `params` are the members of its params, none when it has none.

        `answer`: what the upstream said without being asked, so that it need not be.

        The result is already in the agent's era. Never raises, except `CancelledError` when the agent cancelled:
        the upstream is being told then, and every `after_call` that was due has run.
        """
        self.calls += 1
        return await self._call(exchange, Course(params, time.monotonic(), answer))

    def begin(self, exchange: Exchange, params: Mapping[str, Raw]) -> Running[CallResult]:
        """Serve one request in the background, as `call` does: in a task, if it needs one."""
        self.calls += 1
        course = Course(params, time.monotonic())
        begun = self._quick.begin(exchange, course)
        if begun is not None:
            self._running[exchange.id] = exchange
            return begun
        task = asyncio.get_running_loop().create_task(self._call(exchange, course))
        if course.passed is not None:
            task.add_done_callback(partial(self._never_began, exchange, course))
        return task

    def _never_began(self, exchange: Exchange, course: Course, _: object) -> None:
        """Where a task was cancelled before its first step, plugins that were asked are told all the same."""
        if exchange.deadline is None and course.passed is not None:
            course.passed.forget()
            telling = asyncio.get_running_loop().create_task(self._chain.after(course.passed, _CANCELLED))
            self._told.add(telling)
            telling.add_done_callback(self._told.discard)

    # -- for calls that were begun without a task ---------------------------------------------------------------

    def go_on(self, exchange: Exchange, course: Course) -> asyncio.Task[CallResult]:
        """A task that goes on with a call."""
        task = asyncio.get_running_loop().create_task(self._call(exchange, course))
        exchange.deadline = self._deadlines.begin(task, course.started + self._timeout)
        return task

    def conclude(
        self, exchange: Exchange, course: Course, result: CallResult, members: dict[str, Raw] | None, seconds: float
    ) -> CallResult:
        """The end of a call that needed none, after `seconds`: the result as its agent gets it. `members`: see
        `bridge_result`."""
        try:
            result = self._published(exchange, result, members)
            return result
        finally:
            del self._running[exchange.id]
            _log(exchange, course, result, seconds)
            exchange.close()

    # -- in a task ----------------------------------------------------------------------------------------------

    async def _call(self, exchange: Exchange, course: Course) -> CallResult:
        exchange.hard_deadline = course.started + self._max_timeout
        exchange.question_limit = self._question_timeout
        if exchange.deadline is None:
            task = asyncio.current_task()
            assert task is not None
            exchange.deadline = self._deadlines.begin(task, course.started + self._timeout)
        self._running[exchange.id] = exchange
        result = _CANCELLED
        try:
            result = await self._until_deadline(exchange, exchange.deadline, course)
            return result
        except asyncio.CancelledError:
            if course.passed is not None:
                await self._chain.after(course.passed, result)
            raise
        finally:
            del self._running[exchange.id]
            _log(exchange, course, result, time.monotonic() - course.started)
            exchange.close()

    async def _until_deadline(self, exchange: Exchange, deadline: Deadline, course: Course) -> CallResult:
        try:
            result = await self._serve(exchange, course)
        except asyncio.CancelledError:
            if not deadline.caused():
                raise
            result = _timed_out(exchange, course)
        except RpcError as error:
            outcome = Outcome.REFUSED if error.code == PLUGIN_FAILED else Outcome.ERROR
            result = CallResult.failed(error, outcome)
        except Exception as error:  # noqa: BLE001 - one call's bug must end that call only
            logger.error("exchange {}: a bug in the gateway: {}\n{}", exchange.id, type(error).__name__, where(error))
            result = CallResult.failed(
                RpcError.of_gateway(INTERNAL_ERROR, f"internal error of the gateway, see its log for {exchange.id}")
            )
        finally:
            deadline.end()
        if course.passed is not None:
            result = await self._chain.after(course.passed, result)
        return self._published(exchange, result)

    async def _serve(self, exchange: Exchange, course: Course) -> CallResult:
        params = read(exchange, course.members)
        if course.call is None:
            await self._look_up(exchange, params, course)
        if course.chosen is None and course.verdict is None:
            await self._judge(exchange, params, course)
        call, target, verdict = course.call, course.target, course.verdict
        assert call is not None
        if verdict is not None:
            return _rejected(verdict) if isinstance(verdict, Reject) else verdict
        if call.method in LISTS:
            return self._list(call, exchange, params)
        if target is None:
            raise unknown(call)
        answer = course.answer
        if answer is None:
            self._set_deadline(exchange, target, course)
            request = request_for(call, params, target, exchange)
            answer = await self._router.dispatch(call, exchange, target, request, course.chosen)
        return self._catalog.tasks.translated(call, target, answer)

    async def _look_up(self, exchange: Exchange, params: Params, course: Course) -> None:
        """Find out who serves it, unless that is known, and what plugins see of it."""
        method, target = exchange.method, course.target
        if target is None:
            if self._catalog.snapshot.private:
                await self._catalog.prepare(exchange)
            target = find(self._catalog, method, params.name, exchange.agent.principal, params)
            if target is None or method in TASKS:  # a task of before the start may come back
                target = await self._looked_for(exchange, params, target)
            course.target = target
        course.call = exchange.origin = params.call(exchange, target)
        if exchange.headers is not None:
            check_headers(exchange, course.call, target)

    async def _judge(self, exchange: Exchange, params: Params, course: Course) -> None:
        """Ask the plugins; those that were asked already are not asked again."""
        if course.call is None or not self._chain.wants(exchange.method):
            return

        def look_up(rewritten: Call) -> Call:
            found = course.target = find(self._catalog, rewritten.method, rewritten.name, rewritten.principal, params)
            return rewritten.with_tool(None if found is None else found.tool)

        if course.passed is None:
            course.passed = Passed()
        course.call, course.verdict = await self._chain.before(course.call, look_up, course.passed)

    async def _looked_for(self, exchange: Exchange, params: Params, found: Target | None) -> Target | None:
        """The target of a request, looked for again: shortly after the start, what nobody has yet may still come."""
        if not await self._settle():
            return found
        await self._catalog.prepare(exchange)
        return find(self._catalog, exchange.method, params.name, exchange.agent.principal, params)

    def _list(self, call: Call, exchange: Exchange, params: Params) -> CallResult:
        raw = params.others.get("cursor")
        cursor = None if raw is None or bytes(raw) == b"null" else jsonrpc.text(raw, "cursor")
        era = exchange.agent.era
        return CallResult(raw=self._catalog.page(call.method, era, cursor, call.principal.id), era=era)

    def _set_deadline(self, exchange: Exchange, target: Target, course: Course) -> None:
        """Give the exchange the time that its target's upstreams are configured with, within the hard maximum."""
        first, *others = target.upstreams
        timeout = max([first.timeout, *(upstream.timeout for upstream in others)]) if others else first.timeout
        exchange.idle_limit = timeout
        if timeout != self._timeout and exchange.deadline is not None:
            begun = course.started if exchange.begun is not None else asyncio.get_running_loop().time()
            exchange.deadline.move(min(begun + timeout, exchange.hard_deadline))

    def _published(self, exchange: Exchange, result: CallResult, members: dict[str, Raw] | None = None) -> CallResult:
        """The result in the agent's era, with URIs as it has to know them."""
        linked = self._catalog.linked(exchange, result)
        era, raw = exchange.agent.era, linked.raw
        if linked.error is not None or (linked.era == era and exchange.method in LISTS):
            return linked
        if linked is not result:
            members = None
        try:
            raw = bridge_result(
                exchange.method,
                raw,
                from_era=linked.era,
                to_era=era,
                members=members,
                server=_SERVER,
                tasks=members is None and takes_tasks(exchange.agent),
            )
        except RpcError as error:
            return CallResult.failed(error, Outcome.ERROR, linked.upstream)
        return linked if raw is linked.raw else _replace(linked, raw=raw, era=era)


def _timed_out(exchange: Exchange, course: Course) -> CallResult:
    waiting = course.passed.running if course.passed is not None else None
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


def _log(exchange: Exchange, course: Course, result: CallResult, seconds: float) -> None:
    """One line a call, metadata only: who, what, where, how long, how it ended."""
    if course.line is not None and result.outcome is _OK:
        output.note_line(course.line, (exchange.id, int(seconds * 10_000) / 10))
        return
    fields: dict[str, Any] = {
        "exchange": exchange.id,
        "agent": exchange.agent.principal.id,
        "outcome": result.outcome,
        "ms": round(seconds * 1000, 1),
    }
    upstream = result.upstream or exchange.upstream
    if upstream is not None:
        fields["upstream"] = upstream
    if result.error is not None:
        fields["code"] = result.error.code
    method, name = exchange.method, access.shown_name(exchange.method, course.name)
    members = access.members(method, name, exchange.agent.principal.id)
    output.note(f"{method} {name}" if name else method, fields, members)
