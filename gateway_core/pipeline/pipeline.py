"""The pipeline that serves every call; each call is one `Delivery`."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Raw

from gateway_core.api import CallResult
from gateway_core.exchange.exchange import Exchange
from gateway_core.hooks import Chain
from gateway_core.inline.driver import InlineCall
from gateway_core.pipeline.delivery import Delivery, PipelineParts
from gateway_core.pipeline.params import Supplied
from gateway_core.pipeline.with_headers import Deliver, with_headers


class Pipeline(PipelineParts):
    """Serves calls; `calls` counts them."""

    calls = 0
    _delivery: Deliver

    def record_all(self, every: bool) -> None:
        super().record_all(every)
        chain = self.chain
        delivery: Deliver = _followed if every or chain.tracing else self.observed if chain.observers else self.plain
        self._delivery = with_headers(delivery) if chain.call_headers else delivery

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
    pipeline: PipelineParts, exchange: Exchange, members: Mapping[str, Raw], answer: Supplied | None, chain: Chain
) -> Delivery:
    """The delivery of a call that a plugin may follow, or operators watch."""
    tracing = chain.tracing
    traced = tracing.begin(exchange, members) if tracing else None
    timeline = tracing.watch(exchange) if traced is None and pipeline.watched else traced
    delivery = pipeline.plain if traced is None and not chain.observers else pipeline.observed
    return delivery(
        pipeline, exchange, members, answer, chain if timeline is None else chain.followed, timeline=timeline
    )
