"""One call on its way through the pipeline, from the agent's params to its result.

Steps: split the params, find the target, run `before_call` in order, route and deliver within one deadline, run
`after_call` in reverse, translate to the agent's era, log one line. `params.py` interprets the params of each method,
and `plans.py` caches the data that repeated calls share. `inline/driver.py` runs the coroutine, without a task while
the call waits only for its upstream's response.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

import msgspec
from msgspec import Raw
from msgspec.structs import replace as _replace

from gateway_core.api import Call, CallResult, Outcome, Reject
from gateway_core.api.call import unknown_name
from gateway_core.catalog import Catalog, Target
from gateway_core.config import ProxyConfig
from gateway_core.errors import CANCELLED, PLUGIN_FAILED, RpcError
from gateway_core.exchange.exchange import Exchange
from gateway_core.hooks import Chain, ChainProgress, Question
from gateway_core.hooks.tracing import Timeline
from gateway_core.inline.deadlines import Deadlines
from gateway_core.inline.driver import InlineCall, in_task
from gateway_core.mcp import jsonrpc
from gateway_core.mcp.names import IMPLEMENTATION, LISTS, MAY_ASK, STATE, TASKS
from gateway_core.pipeline.input_required import Round
from gateway_core.pipeline.observed import NO_RECORDER, Recorder, call_ended, hider
from gateway_core.pipeline.params import PLAIN, Params, Supplied, checked, find, read, request_for, with_names
from gateway_core.pipeline.plans import CallPlan, CallPlans, limit_of
from gateway_core.pipeline.results import cleaned, failed, is_refusal, log, log_of_recorded, rejected, timed_out
from gateway_core.pipeline.router import Router
from gateway_core.pipeline.sample import MEASURED, Sample
from gateway_core.pipeline.targets import find_in_time
from gateway_core.pipeline.with_headers import AnyChain
from gateway_core.upstream.bridge import bridge_result
from gateway_core.upstream.capabilities import takes_tasks
from gateway_core.upstream.requests import Reply

# Bound here, because looking up an enumeration's member is slow in Python 3.11.
_OK: Final = Outcome.OK
_ERROR: Final = Outcome.ERROR
_REFUSED: Final = Outcome.REFUSED
_SERVER: Final = jsonrpc.encode(IMPLEMENTATION)
CANCELLED_CALL: Final = CallResult.failed(RpcError.of_gateway(CANCELLED, "cancelled"), Outcome.CANCELLED)
"""The result of a call that was cancelled."""


class PipelineParts:
    """What the calls of one pipeline share."""

    def __init__(
        self,
        config: ProxyConfig,
        catalog: Catalog,
        router: Router,
        chain: Chain,
        wait_first_lists: Callable[..., Awaitable[bool]],
        *,
        clean: Callable[[bytes], bytes] = bytes,
        generation: int = 1,
        recorder: Recorder = NO_RECORDER,
    ) -> None:
        """`wait_first_lists`: see `Common`. `clean` hides secrets of the gateway in JSON. `generation`: for the log.
        `recorder` gets the calls that went wrong, and those that are a `RecordedDelivery`."""
        self.timeout, self.max_timeout = config.timeout, config.max_timeout
        self.question_timeout = config.question_timeout
        self.catalog, self.router = catalog, router
        self.chain, self.wait_first_lists = chain, wait_first_lists
        self.clean, self.hide = clean, hider(clean)
        self.generation: Final = generation
        self.recorder: Final = recorder
        self.plans = CallPlans(catalog, generation, config.timeout)
        self.deadlines = Deadlines()
        self.watched: Sample | None
        """Which of the calls that begin now are measured for operators; None while none of them watches."""
        self.plain: type[Delivery]
        self.observed: type[ObservedDelivery]
        self.record_all(False)

    def record_all(self, every: bool) -> None:
        """Give the recorder every call that begins from now on, or only those that go wrong."""
        self.chain.keep_decisions(every)
        self.watched = Sample(MEASURED) if every else None
        self.plain = RecordedDelivery if every else Delivery
        self.observed = RecordedObservedDelivery if every else ObservedDelivery


class Delivery(msgspec.Struct, eq=False):
    """One call on its way through the pipeline, and what the pipeline has found out about it."""

    pipeline: PipelineParts
    exchange: Exchange
    members: Mapping[str, Raw]
    """The members of the request's params."""
    answer: Supplied | None
    """See `Pipeline.begin`."""
    chain: AnyChain
    started: float = msgspec.field(default_factory=time.monotonic)
    """Start time in seconds on the monotonic clock."""
    _running: InlineCall[CallResult] | None = None
    """The inline call, which is also the deadline."""
    _plan: CallPlan | None = None
    _params: Params = PLAIN
    _call: Call | None = None
    """The call as plugins see it; None until its target is looked up."""
    _target: Target | None = None
    """The result of the latest look-up, so that the call goes to the target that plugins judged."""
    _chain: ChainProgress | None = None
    """Its progress through the plugin chain; None if no plugin hooks its method."""
    _reply: Reply | None = None
    """The upstream's reply that the result was made of; None for a later round, and after a repetition."""
    _round: Round | None = None
    """What the request state of a request says that continues a call; None for any other request."""
    timeline: Timeline | None = None
    """Records what happens to the call; None if it is not followed."""

    def begin(self) -> InlineCall[CallResult]:
        """Put the deadline in force and run the call until it waits."""
        pipeline, started = self.pipeline, self.started
        timeout, longest = pipeline.timeout, pipeline.max_timeout
        running = self._running = InlineCall(
            pipeline.deadlines, self.exchange, started, started + timeout, timeout, longest, coroutine=self._run()
        )
        self.exchange.begin(running, pipeline.question_timeout, pipeline.generation)
        running.begin()
        running.step()
        return running

    async def _run(self) -> CallResult:
        """Serve any call completely: deliver it, run `after_call`, translate, log. Raises only `CancelledError`."""
        running, chain = self._running, self.chain
        assert running is not None, "set before the first step"
        result = CANCELLED_CALL
        try:
            try:
                result = await self._serve()
            except asyncio.CancelledError:
                if not running.timed_out():
                    raise
                result = self._timed_out()
            except RpcError as error:
                result = CallResult.failed(error, _REFUSED if error.code == PLUGIN_FAILED else _ERROR)
            running.close_deadline()
            if self._chain is not None and self._chain.due:
                result = await chain.run_after(self._chain, result)
            if self.pipeline.catalog.snapshot.linking or self.exchange.agent.principal.profile:
                result = await self.pipeline.catalog.linked(self.exchange, result)
            result = self._published(result)
            return result
        except asyncio.CancelledError:
            running.close_deadline()
            if not self.exchange.sent:
                self._give_back()
            if self._chain is not None:
                await chain.run_after(self._chain, CANCELLED_CALL)
            result = CANCELLED_CALL
            raise
        except Exception as error:  # noqa: BLE001 - a bug must end only its own call
            running.close_deadline()
            result = failed(self.exchange, error)
            if self._chain is not None:
                result = await chain.run_after(self._chain, result)
            return result
        finally:
            running.end()
            seconds = time.monotonic() - self.started
            if self._log(self.exchange, self._call, self._plan, result, seconds):
                self._record(result, seconds)
            self.exchange.close()

    async def _serve(self) -> CallResult:
        """Find the target, run `before_call`, and deliver the request."""
        exchange, pipeline, chain = self.exchange, self.pipeline, self.chain
        planned = pipeline.plans.plan(exchange, self.members)
        if planned is not None:  # its tool mirrors no argument, and its calls have no request state
            plan, call = self._plan, self._call = planned
            target = self._target = plan.target
            exchange.identify(call)
        else:
            plan, params = None, read(exchange, self.members)
            target = self._target = await find_in_time(pipeline.catalog, exchange, params, pipeline.wait_first_lists)
            call = self._checked(params)
        if exchange.method in chain.methods:
            progress = self._chain = ChainProgress()
            given = with_names(call, pipeline.catalog, exchange.agent) if exchange.method in LISTS else call
            call, verdict = await chain.run_before(given, self._look_up, progress)
            if verdict is not None:
                call, ended = await self._decided(call, verdict, progress)
                if ended is not None:
                    return ended
            self._call, target = call, self._target
        if call.method in LISTS:
            agent, page = exchange.agent, pipeline.catalog.page
            raw = page(call.method, agent.era, self._params.cursor, agent.viewer, agent.principal.profile)
            return CallResult(raw=raw, era=agent.era)
        if target is None:
            raise unknown_name(call)
        if self.answer is not None:
            return await self._supplied(call, target, self.answer)
        if plan is not None and target is plan.target:
            limit, request = plan.limit, plan.request(call, exchange)
        else:
            limit, request = limit_of(target, pipeline.timeout), request_for(call, self._params, target, exchange)
        if limit is not None and self._running is not None:
            self._running.limit(limit)
        result, reply = await pipeline.router.dispatch(call, exchange, target, request, self._round)
        self._reply = reply
        if reply is not None and reply.plain and call.method not in TASKS:
            return result
        return pipeline.catalog.tasks.translated(call, target, result)

    async def _supplied(self, call: Call, target: Target, answer: Supplied) -> CallResult:
        """The result of a call that needs no upstream's response."""
        if isinstance(answer, CallResult):
            return self.pipeline.catalog.tasks.translated(call, target, answer)
        await in_task()
        return await answer(target)

    def _checked(self, params: Params) -> Call:
        """The call, with its headers checked and the answers to plugins; sets the params, which lack those.

        Raises `RpcError`.
        """
        exchange, target = self.exchange, self._target
        call, params = checked(exchange, params, target)
        self._call, self._params = call, params
        exchange.identify(call)
        if params.mismatch is not None:
            return call
        if STATE not in params.others or exchange.method not in MAY_ASK or exchange.agent.era == "legacy":
            return call
        resumed = self._round = self.pipeline.router.input_required.of_plugins.resume(call, params.others)
        exchange.identify(resumed.call)
        self._params = _replace(params, others=resumed.others)
        return resumed.call

    async def _decided(
        self, call: Call, verdict: Reject | CallResult | Question, progress: ChainProgress
    ) -> tuple[Call, CallResult | None]:
        """The call and its result after a verdict; no result if the user was asked, and the call goes on."""
        mismatch = self._params.mismatch
        if mismatch is not None and not is_refusal(verdict):
            raise mismatch
        pipeline, exchange = self.pipeline, self.exchange
        questions, look_up = pipeline.router.input_required.of_plugins, self._look_up
        end: Reject | CallResult | Question | None = verdict
        while isinstance(end, Question):
            answers = await questions.put(exchange, call, end, self._round, pipeline.clean)
            if isinstance(answers, CallResult):
                return call, answers
            # The catalog may have changed while the user was asked: then the answer is to another question.
            call, end = await self.chain.run_before(look_up(call).with_answers(answers), look_up, progress, end)
        self._call = call
        return call, rejected(end) if isinstance(end, Reject) else end

    def _look_up(self, call: Call) -> Call:
        """Look up the target of a rewritten call; return the call with its new tool."""
        found = self._target = find(self.pipeline.catalog, call.method, call.name, self.exchange.agent, self._params)
        return call.with_target(None, None) if found is None else call.with_target(found, found.tool, found.preset)

    def _published(self, result: CallResult) -> CallResult:
        """The result in the agent's era, without secrets."""
        if result.outcome is not _OK:
            if result.outcome is Outcome.UNAVAILABLE and not self.exchange.sent:
                self._give_back()
            result = cleaned(result, self.pipeline.clean)
        reply, agent, method, raw = self._reply, self.exchange.agent, self.exchange.method, result.raw
        if result.error is not None or (method in LISTS and result.era == agent.era):
            return result
        members = reply.members if reply is not None and reply.plain and raw is reply.result else None
        tasks = members is None and takes_tasks(agent)
        try:
            raw = bridge_result(method, raw, result.era, agent.era, members, server=_SERVER, tasks=tasks)
        except RpcError as error:
            return CallResult.failed(error, _ERROR, result.upstream)
        return result if raw is result.raw else _replace(result, raw=raw, era=agent.era)

    def _give_back(self) -> None:
        """Make the answer to a plugin count again: the call was not sent."""
        if self._round is not None:
            self.pipeline.router.input_required.of_plugins.give_back(self._round)

    def _timed_out(self) -> CallResult:
        running, chain = self._running, self._chain
        assert running is not None, "set before the first step"
        return timed_out(self.exchange, running, None if chain is None else chain.running, self.pipeline.max_timeout)

    _log = staticmethod(log)

    def _record(self, result: CallResult, seconds: float) -> None:
        """Give the recorder a call that has ended."""
        recorder = self.pipeline.recorder
        recorder.call_ended(self.exchange, self._call, self._chain, result, self.timeline, seconds=seconds)


class ObservedDelivery(Delivery, eq=False):
    """A call whose end plugins observe."""

    async def _run(self) -> CallResult:
        try:
            result = await super()._run()
        except asyncio.CancelledError:
            await self._tell(CANCELLED_CALL)
            raise
        await self._tell(result)
        return result

    async def _tell(self, result: CallResult) -> None:
        seconds, timeline = time.monotonic() - self.started, self.timeline
        if timeline is not None and timeline.trace is None:
            timeline = None  # it is only for operators
        hide = self.pipeline.hide
        ended = call_ended(self.exchange, self._call, self._chain, result, timeline, seconds=seconds, hide=hide)
        if timeline is not None:
            self.chain.tracing.ended(timeline, ended)
        await self.chain.observers.call_ended(ended)


class RecordedDelivery(Delivery, eq=False):
    """A call that is recorded however it ends, and whose hooks, waits and requests are measured."""

    _log = staticmethod(log_of_recorded)

    def _record(self, result: CallResult, seconds: float) -> None:
        super()._record(result, seconds)
        if self.timeline is not None:
            self.chain.tracing.forget(self.exchange.id)


class RecordedObservedDelivery(ObservedDelivery, RecordedDelivery, eq=False):
    """A call that is recorded, and whose end plugins observe."""
