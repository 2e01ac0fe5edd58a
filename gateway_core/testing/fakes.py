"""The parts of the gateway around one call of `run_call`: an upstream, a catalog and a router without a network."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import Final, cast

import msgspec

from gateway_core.api import Call, CallResult, Era, Outcome, Published, Tool, UpstreamFacts, UpstreamState, UpstreamView
from gateway_core.catalog import Target
from gateway_core.catalog.snapshot import Snapshot
from gateway_core.config import ProxyConfig
from gateway_core.errors import UPSTREAM_UNAVAILABLE, RpcError
from gateway_core.exchange.exchange import Agent, Exchange
from gateway_core.hooks import Chain
from gateway_core.mcp.read_only import read_only
from gateway_core.pipeline.input_required import InputRequired
from gateway_core.pipeline.router import Router, available
from gateway_core.sealing import Seal
from gateway_core.upstream.requests import Request
from gateway_core.upstream.upstream import Upstream


def make_tool(name: str, original: str, annotations: Mapping[str, object] | None, upstreams: tuple[str, ...]) -> Tool:
    """A catalog entry."""
    definition: dict[str, object] = {"name": name, "inputSchema": {"type": "object"}}
    if annotations is not None:
        definition["annotations"] = dict(annotations)
    return Tool(name, original, read_only(definition), upstreams)


def make_result(text: str = "ok", *, is_error: bool = False, upstream: str | None = "upstream") -> CallResult:
    """A tool result with one text block, as if `upstream` had sent it."""
    made = CallResult.text(text, is_error=is_error)
    return CallResult(raw=made.raw, outcome=made.outcome, upstream=upstream, era="modern")


class Place(msgspec.Struct, frozen=True, eq=False):
    """An upstream of a `Target` of the fake catalog, as far as the router looks at it."""

    view: UpstreamView
    timeout: float = 60.0
    reachable: bool = True

    @classmethod
    def of(cls, upstream: str | UpstreamView) -> Place:
        """The upstream that a plugin sees, or a healthy one of this name."""
        if isinstance(upstream, UpstreamView):
            return cls(upstream)
        return cls(UpstreamView(UpstreamFacts(upstream, "http", state=UpstreamState.HEALTHY)))

    @property
    def name(self) -> str:
        return self.view.name

    @property
    def facts(self) -> UpstreamView:
        return self.view

    @property
    def status(self) -> Place:
        return self

    def retry_in(self) -> None:
        """None: the time of the next attempt is not known."""


class Served(msgspec.Struct, frozen=True):
    """What stands behind the name of a call that was made for one hook."""

    original: str
    upstreams: tuple[Place, ...]


class GivenHeaders(dict[str, Mapping[str, str]]):
    """The headers of a call that was made for a test, in place of those of each plugin."""

    def __init__(self, fields: Mapping[str, str], names: Iterable[str] = ()) -> None:
        """`names`: the headers that the plugin under test sees."""
        super().__init__()
        self.fields = fields
        self._seen: Mapping[str, str] = read_only({name: fields[name] for name in names if name in fields})

    def get(self, plugin: str, default: object = None) -> Mapping[str, str]:
        return self._seen

    @classmethod
    def of(cls, call: Call) -> GivenHeaders:
        """The headers that a call was made with."""
        given: object = call._states.get("\0headers")
        return given if isinstance(given, GivenHeaders) else cls({})


class FakeUpstream:
    """An upstream without a network: records each call in `calls` and answers it as `answer` says."""

    def __init__(
        self, answer: CallResult | RpcError | Callable[[Call], CallResult] | str = "ok", *, delay: float = 0.0
    ) -> None:
        """`answer`: a text, a complete result, an error, or a function that returns the result of a call.

        `delay`: seconds from receiving the call until answering it.
        """
        self.answer = answer
        self.delay = delay
        self.calls: list[Call] = []
        self.chosen: list[str] = []
        """The name of the upstream that each call went to."""
        self.carried: list[Mapping[str, str]] = []
        """The trace context that came with each request; empty mappings without one."""

    def serve(self, call: Call, name: str = "upstream") -> CallResult:
        """Record `call` and answer it. `name`: of the upstream that it went to."""
        self.calls.append(call)
        self.chosen.append(name)
        if isinstance(self.answer, str):
            return make_result(self.answer, upstream=name)
        if isinstance(self.answer, RpcError):
            return CallResult.failed(self.answer, upstream=name)
        return self.answer if isinstance(self.answer, CallResult) else self.answer(call)


class FakeCatalog:
    """The part of the catalog that the pipeline uses; every name leads to the upstreams of the call."""

    snapshot: Final = Snapshot(linking={"upstream": frozenset()})

    def __init__(self, given: Call, upstream: FakeUpstream, timeout: float) -> None:
        self._given = given
        self._upstream = upstream
        places = given._served.upstreams if isinstance(given._served, Served) else (Place.of("upstream"),)
        self._upstreams = tuple(cast(Upstream, Place(place.view, timeout)) for place in places)
        self.tasks: Final = self
        self.ended: CallResult | None = None
        """The result of the call, after the plugins."""

    def seen_by(self, principal: str, profile: str) -> None:
        """None, so that the pipeline looks up every call and keeps no call plan."""

    async def prepare(self, exchange: Exchange) -> None:
        """Nothing: no name depends on the principal or the profile."""

    async def settled(self) -> bool:
        """False: there is no change to wait for."""
        return False

    def tool(self, name: str, principal: str, profile: str) -> Target | None:
        given = self._given
        tool = given.tool if name == given.name else make_tool(name, name, None, ("upstream",))
        return None if tool is None else Target(tool.original_name, self._upstreams, tool)

    def prompt(self, name: str, principal: str, profile: str) -> Target:
        given = self._given
        return Target(given.original_name if name == given.name else name, self._upstreams)

    resource = template = prompt

    def find(self, agent: Agent, task_id: str) -> Target:
        """The upstreams of the call, for any task id."""
        return Target(task_id, self._upstreams, self._given.tool)

    def listed(self, method: str, principal: str, profile: str) -> Mapping[str, Published]:
        """The names that the call was made with."""
        return self._given.listed

    def translated(self, call: Call, target: Target, result: CallResult) -> CallResult:
        """The result unchanged: task ids are the same on both sides."""
        return result

    async def linked(self, exchange: Exchange, result: CallResult) -> CallResult:
        """The result unchanged. The pipeline calls this once, after the last plugin; it records the result."""
        self.ended = result
        return result

    def page(self, method: str, era: Era, cursor: str | None, principal: str, profile: str) -> bytes:
        """A list result, which also comes from the upstream."""
        result = self._upstream.serve(self._given)
        if result.error is not None:
            raise result.error
        return result.raw


class FakeRouter:
    """The part of the router that the pipeline uses; every call gets the answer of the one fake upstream."""

    def __init__(self, given: Call, upstream: FakeUpstream, config: ProxyConfig, chain: Chain) -> None:
        self._given = given
        self._upstream = upstream
        self.input_required: Final = InputRequired(config, Seal())
        self._router = Router(chain, self.input_required)
        self.failure: Exception | None = None
        """The exception of `FakeUpstream.serve`: a mistake in the test."""

    async def dispatch(
        self, call: Call, exchange: Exchange, target: Target, request: Request, state: None = None
    ) -> tuple[CallResult, None]:
        given = self._given
        candidates = available(target.upstreams)
        if not candidates:
            names = [upstream.name for upstream in target.upstreams]
            error = RpcError.of_gateway(UPSTREAM_UNAVAILABLE, "no upstream could take the call", upstreams=names)
            return CallResult.failed(error, Outcome.UNAVAILABLE), None
        chosen = self._router.choose(call, candidates)
        exchange.attempt(chosen.name)
        exchange.mark_sent()
        is_rewritten = call.name != given.name or call.raw_arguments != given.raw_arguments

        async def send(request: Request) -> CallResult:
            self._upstream.carried.append(request.carried.headers)
            try:
                result = self._upstream.serve(call if is_rewritten else given, chosen.name)
            except Exception as error:
                self.failure = error
                raise
            if self._upstream.delay:
                await asyncio.sleep(self._upstream.delay)
            return result

        if exchange.hops is None:
            return await send(request), None
        return await exchange.hops.hop(chosen.view, request, send), None

    async def subscribed(self, target: Target) -> CallResult:
        """The upstream's answer to a `resources/subscribe`."""
        return self._upstream.serve(self._given)
