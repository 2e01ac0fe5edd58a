"""How subscriptions put requests through the pipeline, so that plugins judge them."""

from __future__ import annotations

from collections.abc import Coroutine, Mapping
from typing import Any, Protocol

from msgspec import Raw

from gateway_core.api import CallResult
from gateway_core.exchange.exchange import Exchange
from gateway_core.pipeline.params import Supplied


class Ask(Protocol):
    """The signature of `Calls.call`."""

    def __call__(
        self, exchange: Exchange, params: Mapping[str, Raw], answer: Supplied | None = None
    ) -> Coroutine[Any, Any, CallResult]: ...
