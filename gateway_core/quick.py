"""Calls without a task: those that wait for nothing but the usual answer of their upstream.

Of one agent's calls of one tool nearly everything is the same: who may serve them, what plugins see, what the upstream
is sent. A **road** remembers it, for as long as the catalog stays as it is. Whatever is unusual (a hook that waits, no
free connection, an answer that is no plain result, a call that takes long or is cancelled) gives the call a task, which
goes on with it in `pipeline.py`; nothing that was done for the call is done again then.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any, Final, Protocol, TypeVar

import msgspec
from loguru import logger
from msgspec import Raw

from gateway_core import jsonrpc
from gateway_core.bugs import internal_error, where
from gateway_core.catalog import Catalog, Target
from gateway_core.chain import Chain, Passed
from gateway_core.course import Course
from gateway_core.errors import RpcError
from gateway_core.exchange import Exchange
from gateway_core.log import access
from gateway_core.log.lines import Differs, Line
from gateway_core.router import Router, available
from gateway_core.types import Call, CallResult, Outcome, UpstreamState
from gateway_core.upstream.apart import each_call, has_own
from gateway_core.upstream.base import Connection
from gateway_core.upstream.begun_call import BegunCall
from gateway_core.upstream.capabilities import can_be_asked
from gateway_core.upstream.era import passed_on
from gateway_core.upstream.requests import Prepared
from gateway_core.upstream.sessions import Lease
from gateway_core.upstream.upstream import Upstream

METHOD: Final = "tools/call"
_BRACE: Final = ord("{")
_COMPLETE: Final = Raw(b'"complete"')
_TRUE: Final = Raw(b"true")
MAX_ROADS: Final = 64
"""Roads that are remembered of one agent."""
MAX_NAME: Final = 1024
"""Bytes of a name that is remembered."""
# Looking a member of an enumeration up costs as much as a call (until Python 3.12).
_HEALTHY: Final = UpstreamState.HEALTHY
_OK: Final = Outcome.OK
_TOOL_ERROR: Final = Outcome.TOOL_ERROR
SHORTEST_TIMEOUT: Final = 5.0
"""Seconds of time-out below which calls have a task from the start: those without one are looked at once a second."""

T_co = TypeVar("T_co", covariant=True)


class Running(Protocol[T_co]):
    """Something that goes on in the background: a task, or what can do without one."""

    def done(self) -> bool: ...
    def cancelled(self) -> bool: ...
    def result(self) -> T_co: ...
    def cancel(self) -> object: ...
    def add_done_callback(self, callback: Callable[[Any], object], /) -> None: ...


def task_of(running: Running[Any]) -> asyncio.Task[Any]:
    """The task of something in the background; it gets one if it has none."""
    if isinstance(running, QuickCall):
        running.take_over()
        return running.task
    assert isinstance(running, asyncio.Task)
    return running


class Host(Protocol):
    """What calls without a task need of the pipeline."""

    def go_on(self, exchange: Exchange, course: Course) -> asyncio.Task[CallResult]: ...
    def conclude(
        self, exchange: Exchange, course: Course, result: CallResult, members: dict[str, Raw] | None, seconds: float
    ) -> CallResult: ...


class _Road:
    """What is the same in all calls of one tool by one agent."""

    __slots__ = ("name", "seen", "target", "ways")

    def __init__(self, seen: object, name: str, target: Target | None) -> None:
        self.seen = seen
        """It is good as long as the agent sees this: `Catalog.seen_by`. No snapshot: an idle agent would keep it."""
        self.name = name
        self.target = target
        """None where such calls have a task from the start."""
        self.ways: dict[Upstream, _Way] = {}


class _Way(msgspec.Struct, frozen=True, eq=False):
    """What is the same in those that go to one upstream."""

    main: Connection
    """It is good as long as this is the upstream's main one."""
    lease: Lease | None
    """And this the agent's own one; None where it shares the main one."""
    connection: Connection
    """The one of the two that is used."""
    prepared: Prepared | None
    """What is sent; None where such calls have a task from the start."""
    line: Line
    """What is logged of those that end well."""


def _line(road: _Road, exchange: Exchange, upstream: Upstream) -> Line:
    agent = exchange.agent.principal.id
    fields = {
        "exchange": Differs.WORD,
        "agent": agent,
        "outcome": Outcome.OK.value,
        "ms": Differs.NUMBER,
        "upstream": upstream.name,
    }
    name = access.shown_name(METHOD, road.name)
    return Line(f"{METHOD} {name}", fields, access.members(METHOD, name, agent))


class QuickCalls:
    """Begins calls without a task."""

    def __init__(self, catalog: Catalog, router: Router, chain: Chain, host: Host) -> None:
        self.catalog = catalog
        self.router = router
        self.chain = chain
        self.host = host
        self._judged_by_plugins = chain.wants(METHOD)

    def begin(self, exchange: Exchange, course: Course) -> QuickCall | None:
        """Begin a call; None where a task is to go on with it, from where `course` says that it is."""
        members, agent = course.members, exchange.agent
        if exchange.method != METHOD or "name" not in members or exchange.headers or exchange.log_level:
            return None
        seen = self.catalog.seen_by(agent.principal.id)
        name, known, raw_arguments, raw_meta = bytes(members["name"]), 1, b"", b""
        if "arguments" in members:
            raw_arguments, known = bytes(members["arguments"]), known + 1
        if "_meta" in members:
            raw_meta, known = bytes(members["_meta"]), known + 1
        if seen is None or len(members) != known:
            return None
        road: _Road | None = agent.roads.get(name)
        if road is None or road.seen is not seen:
            road = self._road(exchange, seen, name)
        target = course.target = road.target
        course.named = road.name
        if target is None or (raw_arguments and raw_arguments[0] != _BRACE):
            return None
        judged = self._judged_by_plugins
        if judged or len(target.upstreams) > 1:
            course.call = exchange.origin = Call(
                METHOD, road.name, agent.principal, agent.era, exchange.id, raw_arguments, raw_meta, target.tool
            )
        if judged and not self._judged(course):
            return None
        quick = self._on_its_way(exchange, course, road, target)
        sent_arguments = b',"arguments":' + raw_arguments if raw_arguments else b""
        if quick is None or not quick.send(sent_arguments, passed_on(raw_meta) if raw_meta else b""):
            return None
        self.router.in_flight += 1
        return quick

    def _road(self, exchange: Exchange, seen: object, name: bytes) -> _Road:
        """The road of calls with this name, found anew."""
        try:
            text = jsonrpc.text(name, "params.name")
        except RpcError:
            text = ""
        target = self.catalog.tool(text, exchange.agent.principal.id) if text else None
        road = _Road(seen, text, None if target is None or target.mirrored else target)
        if len(name) <= MAX_NAME:
            roads = exchange.agent.roads
            if len(roads) >= MAX_ROADS:
                roads.clear()
            roads[name] = road
        return road

    def _judged(self, course: Course) -> bool:
        """Ask the plugins; whether they let the call pass as it is, and at once."""
        call = course.call
        assert call is not None
        passed = course.passed = Passed()
        course.call, course.verdict = self.chain.before_now(call, partial(self._looked_up, course), passed)
        return course.call is call and course.verdict is None and passed.awaited is None

    def _looked_up(self, course: Course, rewritten: Call) -> Call:
        """A call that a plugin has rewritten, with the tool that it names now."""
        found = course.target = self.catalog.tool(rewritten.name, rewritten.principal.id)
        return rewritten.with_tool(None if found is None else found.tool)

    def _on_its_way(self, exchange: Exchange, course: Course, road: _Road, target: Target) -> QuickCall | None:
        """The call, ready to be sent to one of its upstreams; None where that cannot be done at once."""
        upstream = target.upstreams[0]
        if len(target.upstreams) > 1:
            candidates = available(target.upstreams)
            if not candidates:
                return None
            assert course.call is not None, "it was made for the choice"
            try:
                upstream = self.router.choose(course.call, candidates)
            except RpcError as error:
                course.verdict = CallResult.failed(error, Outcome.REFUSED)
                return None
        elif upstream.facts.state is not _HEALTHY:
            return None
        course.chosen = upstream
        way = road.ways.get(upstream)
        if (
            way is None
            or way.main is not upstream.connection
            or (way.lease is not None and upstream.own.ready(exchange.agent) is not way.lease)
        ):
            way = self._way(exchange, road, target, upstream)
        prepared = None if way is None else way.prepared
        if way is None or prepared is None:
            return None
        course.line = way.line
        return QuickCall(
            exchange,
            prepared,
            course.started,
            upstream=upstream,
            connection=way.connection,
            lease=way.lease,
            _calls=self,
            _course=course,
        )

    def _way(self, exchange: Exchange, road: _Road, target: Target, upstream: Upstream) -> _Way | None:
        """The way that calls to this upstream have now; None where there is none yet."""
        main, agent, lease = upstream.connection, exchange.agent, None
        if main is None:
            return None
        if has_own(upstream.config, upstream.facts.era, agent, main):
            lease = upstream.own.ready(agent)
            if lease is None:
                return None  # the first call opens it
        connection = main if lease is None else lease.connection
        prepared = self._prepared(exchange, target, upstream, connection)
        way = road.ways[upstream] = _Way(main, lease, connection, prepared, _line(road, exchange, upstream))
        return way

    @staticmethod
    def _prepared(exchange: Exchange, target: Target, upstream: Upstream, connection: Connection) -> Prepared | None:
        """What the upstream is sent; None where the calls have a task from the start."""
        agent, era = exchange.agent, upstream.facts.era
        tools = upstream.offer.tools_for(agent.principal.id)
        item = None if tools is None else tools.find("tool", target.original)
        if (
            each_call(upstream.config, era, agent)
            or upstream.timeout < SHORTEST_TIMEOUT
            or (item is not None and item.header_map)
            or (agent.era == "modern" and era == "legacy" and can_be_asked(agent))
        ):
            return None
        return connection.prepare(METHOD, {"name": target.original}, exchange)


class QuickCall(BegunCall, kw_only=True):
    """One call without a task; `Running`."""

    _calls: QuickCalls
    _course: Course
    _callbacks: list[Callable[[Any], object]] = msgspec.field(default_factory=list)
    _result: CallResult | None = None
    _task: asyncio.Task[CallResult] | None = None

    def is_plain(self, members: dict[str, Raw]) -> bool:
        # Legacy servers have no questions and tasks in their results.
        kind = members.get("resultType")
        return kind is None or kind == _COMPLETE or self.upstream.facts.era == "legacy"

    def answered(self, result: bytes, members: dict[str, Raw], seconds: float) -> None:
        calls, exchange, course, upstream = self._calls, self.exchange, self._course, self.upstream.facts
        exchange.upstream = upstream.name
        calls.router.in_flight -= 1
        outcome = _TOOL_ERROR if "isError" in members and members["isError"] == _TRUE else _OK
        try:
            end = CallResult(result, None, outcome, upstream.name, upstream.era)
            if course.passed is not None:
                end = calls.chain.after_now(course.passed, end)
                if course.passed.awaited is not None:
                    course.answer = end
                    self.give_task()
                    return
            members_of_end = members if end.raw is result else None
            self._result = calls.host.conclude(exchange, course, end, members_of_end, seconds)
        except Exception as error:  # noqa: BLE001 - one call's bug must end that call only
            logger.error("exchange {}: {} at its end\n{}", exchange.id, type(error).__name__, where(error))
            self._result = CallResult.failed(internal_error())
        for callback in self._callbacks:
            callback(self)

    def give_task(self) -> None:
        if self._task is not None:
            return
        if self.exchange.begun is not None:
            self._calls.router.in_flight -= 1  # whoever dispatches it counts it
        task = self._task = self._calls.host.go_on(self.exchange, self._course)
        for callback in self._callbacks:
            task.add_done_callback(partial(_tell, callback, self))

    @property
    def task(self) -> asyncio.Task[CallResult]:
        """Its task, once it has been taken over."""
        assert self._task is not None
        return self._task

    # -- Running ------------------------------------------------------------------------------------------------

    def done(self) -> bool:
        return self._result is not None or (self._task is not None and self._task.done())

    def cancelled(self) -> bool:
        return self._task is not None and self._task.cancelled()

    def result(self) -> CallResult:
        if self._task is not None:
            return self._task.result()
        assert self._result is not None, "it is done"
        return self._result

    def cancel(self) -> None:
        if not self.done():
            self.take_over()
            asyncio.get_running_loop().call_soon(self.task.cancel)  # once it has begun: it has much to tidy up

    def add_done_callback(self, callback: Callable[[Any], object], /) -> None:
        """`callback` gets this call. It is called at the moment of the end, and must not raise."""
        if self._task is not None:
            self._task.add_done_callback(partial(_tell, callback, self))
        else:
            self._callbacks.append(callback)


def _tell(callback: Callable[[Any], object], call: QuickCall, _: object) -> None:
    """Who waits for the end of a call gets the call, whatever has come to its end."""
    callback(call)
