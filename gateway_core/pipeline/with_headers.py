"""Calls in which plugins see headers of the request.

Only a pipeline with such a plugin uses this module, so that it costs other calls nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, cast

from msgspec import Raw

from gateway_core.api import Call, CallResult, Reject
from gateway_core.exchange.exchange import Exchange
from gateway_core.hooks import Chain, ChainProgress, Question
from gateway_core.hooks.observers import Observers
from gateway_core.hooks.tracing import Tracing
from gateway_core.mcp.names import PLUGIN_METHODS
from gateway_core.mcp.read_only import read_only
from gateway_core.pipeline.delivery import Delivery, PipelineParts
from gateway_core.pipeline.params import Supplied

Deliver = Callable[[PipelineParts, Exchange, Mapping[str, Raw], Supplied | None, Chain], Delivery]


class ChainWithHeaders:
    """The part of a chain that a delivery uses, for one request: shows its headers to the plugins."""

    def __init__(self, chain: Chain, headers: Mapping[str, Mapping[str, str]]) -> None:
        """`headers`: plugin -> those that it sees."""
        self._chain = chain
        self._headers = headers
        self.methods: Final = PLUGIN_METHODS
        """All of them, because a plugin that only routes sees headers, too."""
        self.tracing: Final[Tracing] = chain.tracing
        self.observers: Final[Observers] = chain.observers
        self.run_after: Final = chain.run_after

    @property
    def followed(self) -> ChainWithHeaders:
        return ChainWithHeaders(self._chain.followed, self._headers)

    async def run_before(
        self,
        call: Call,
        lookup: Callable[[Call], Call],
        progress: ChainProgress,
        answered: Question | None = None,
    ) -> tuple[Call, Reject | CallResult | Question | None]:
        """See `Chain.run_before`."""
        call.present(self._headers)
        return await self._chain.run_before(call, lookup, progress, answered)


def with_headers(deliver: Deliver) -> Deliver:
    """`deliver` for a chain with plugins that see headers of the request."""

    def begin(
        pipeline: PipelineParts, exchange: Exchange, members: Mapping[str, Raw], answer: Supplied | None, chain: Chain
    ) -> Delivery:
        shown = ChainWithHeaders(chain, headers_of(chain, exchange.back.fields))
        return deliver(pipeline, exchange, members, answer, cast(Chain, shown))

    return begin


def headers_of(chain: Chain, fields: Mapping[str, str]) -> dict[str, Mapping[str, str]]:
    """Plugin -> those of the headers `fields` that it sees."""
    return {
        plugin: read_only({name: fields[name] for name in names if name in fields})
        for plugin, names in chain.call_headers.items()
    }
