"""The pipeline that serves every call; each call is one `Delivery`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

from msgspec import Raw

from gateway_core.api import CallResult
from gateway_core.exchange.exchange import Exchange
from gateway_core.hooks import Chain
from gateway_core.inline.driver import InlineCall
from gateway_core.pipeline.delivery import Delivery, PipelineParts
from gateway_core.pipeline.params import Supplied
from gateway_core.pipeline.with_headers import AnyChain, ChainWithHeaders, headers_of

Deliver: TypeAlias = Callable[[PipelineParts, Exchange, Mapping[str, Raw], Supplied | None, AnyChain], Delivery]


class Pipeline(PipelineParts):
    """Serves calls; `calls` counts them."""

    calls = 0
    _delivery: Deliver

    def record_all(self, every: bool) -> None:
        super().record_all(every)
        chain = self.chain
        plain: Deliver = self.observed if chain.observers else self.plain
        delivery = _followed if chain.tracing else _watched if every else plain
        self._delivery = _with_headers(delivery, chain) if chain.call_headers else delivery

    @property
    def in_flight(self) -> int:
        """Number of calls being served."""
        return len(self.deadlines.running)

    def end_all(self, reason: str) -> None:
        """End every call in flight with an accurate error: not executed, or outcome unknown."""
        for call in list(self.deadlines.running):
            exchange: Exchange = call.about
            exchange.end(reason)

    def begin(
        self, exchange: Exchange, params: Mapping[str, Raw], answer: Supplied | None = None
    ) -> InlineCall[CallResult]:
        """Begin to serve one request. `params`: the members of its params; empty if it has none.

        `answer`: a result that the upstream sent unasked, or a function that serves the request; no request is sent.

        The call runs without a task until it waits for something other than its upstream's response. Its result is in
        the agent's era. It raises only `CancelledError`, if it was cancelled, after the last `after_call` has run.
        """
        self.calls += 1
        return self._delivery(self, exchange, params, answer, self.chain).begin()

    async def call(self, exchange: Exchange, params: Mapping[str, Raw], answer: Supplied | None = None) -> CallResult:
        """Serve one request as `begin` does. Cancelling this coroutine cancels the call."""
        return await self.begin(exchange, params, answer)


def _followed(
    pipeline: PipelineParts, exchange: Exchange, members: Mapping[str, Raw], answer: Supplied | None, chain: AnyChain
) -> Delivery:
    """The delivery of a call that a plugin may follow, or else operators watch."""
    traced = chain.tracing.begin(exchange, members)
    if traced is None:
        return _watched(pipeline, exchange, members, answer, chain)
    return pipeline.observed(pipeline, exchange, members, answer, chain.followed, timeline=traced)


def _watched(
    pipeline: PipelineParts, exchange: Exchange, members: Mapping[str, Raw], answer: Supplied | None, chain: AnyChain
) -> Delivery:
    """The delivery of a call that operators may watch."""
    delivery = pipeline.observed if chain.observers else pipeline.plain
    sample = pipeline.watched
    if sample is None or not sample.takes():
        return delivery(pipeline, exchange, members, answer, chain)
    timeline = chain.tracing.watch(exchange)
    return delivery(pipeline, exchange, members, answer, chain.followed, timeline=timeline)


def _with_headers(deliver: Deliver, of: Chain) -> Deliver:
    """`deliver` for calls in which plugins see headers of the request. `of`: the chain of these plugins."""

    def begin(
        pipeline: PipelineParts, exchange: Exchange, members: Mapping[str, Raw], answer: Supplied | None, _: AnyChain
    ) -> Delivery:
        shown = ChainWithHeaders(of, headers_of(of, exchange.back.fields))
        return deliver(pipeline, exchange, members, answer, shown)

    return begin
