"""The chain of plugins that see headers of the request. Only calls with such a plugin use it."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Concatenate, Final, ParamSpec, TypeAlias, TypeVar

from gateway_core.api import Call
from gateway_core.hooks import Chain
from gateway_core.hooks.observers import Observers
from gateway_core.hooks.tracing import Tracing
from gateway_core.mcp.names import PLUGIN_METHODS
from gateway_core.mcp.read_only import read_only

P = ParamSpec("P")
T = TypeVar("T")


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
        self.run_before: Final = _showing(headers, chain.run_before)
        self.run_after: Final = chain.run_after

    @property
    def followed(self) -> ChainWithHeaders:
        return ChainWithHeaders(self._chain.followed, self._headers)


AnyChain: TypeAlias = Chain | ChainWithHeaders
"""The chain of one call."""


def _showing(
    headers: Mapping[str, Mapping[str, str]], run: Callable[Concatenate[Call, P], Coroutine[Any, Any, T]]
) -> Callable[Concatenate[Call, P], Coroutine[Any, Any, T]]:
    """`run`, which shows the headers in its call first."""

    def shown(call: Call, /, *others: P.args, **named: P.kwargs) -> Coroutine[Any, Any, T]:
        call.present(headers)
        return run(call, *others, **named)

    return shown


def headers_of(chain: Chain, fields: Mapping[str, str]) -> dict[str, Mapping[str, str]]:
    """Plugin -> those of the headers `fields` that it sees."""
    return {
        plugin: read_only({name: fields[name] for name in names if name in fields})
        for plugin, names in chain.call_headers.items()
    }
