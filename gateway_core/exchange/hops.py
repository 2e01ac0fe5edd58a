"""The requests of one exchange to upstreams: what goes along with them, and who follows them."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Final, Protocol, TypeVar

import msgspec
from msgspec import Raw

from gateway_core.api import UpstreamView
from gateway_core.mcp import jsonrpc

CONTEXT_KEYS: Final = ("traceparent", "tracestate")
"""The keys of trace context, in `_meta` without a prefix (SEP-414) as in HTTP headers (W3C Trace Context)."""


class Carried(msgspec.Struct, frozen=True, eq=False):
    """The trace context that goes along with a request to an upstream, in each form in which it is sent."""

    headers: Mapping[str, str]
    lines: bytes = b""
    """The headers as lines of a head."""
    members: bytes = b""
    """The members of `_meta`, each with a comma after it."""

    @classmethod
    def of(cls, context: Mapping[str, str]) -> Carried:
        """`context`: printable ASCII by key, with a `traceparent`."""
        lines = members = ""
        for key, value in context.items():
            lines += f"{key}: {value}\r\n"
            members += f'"{key}":{jsonrpc.encode(value).decode()},'
        return cls(context, lines.encode(), members.encode())

    def replacing(self, meta: Mapping[str, Raw] | Mapping[str, Any] | None) -> Mapping[str, Any] | None:
        """`_meta` without what this replaces: the context of another hop."""
        if meta is None or not self.headers or not any(key in meta for key in CONTEXT_KEYS):
            return meta
        return {key: value for key, value in meta.items() if key not in CONTEXT_KEYS}


NOTHING: Final = Carried({})


class Carrier(Protocol):
    """A request to an upstream."""

    def carry(self, carried: Carried) -> None:
        """Send this trace context along."""


RequestT = TypeVar("RequestT", bound=Carrier)
ReplyT = TypeVar("ReplyT")


class Hops(Protocol):
    """Follows the requests of an exchange to upstreams."""

    def hop(
        self, upstream: UpstreamView, request: RequestT, send: Callable[[RequestT], Coroutine[Any, Any, ReplyT]]
    ) -> Coroutine[Any, Any, ReplyT]:
        """Send one request; raises what `send` raises."""


class Passing(msgspec.Struct, frozen=True, eq=False):
    """Sends the same trace context along with each request, and measures nothing."""

    carried: Carried

    def hop(
        self, upstream: UpstreamView, request: RequestT, send: Callable[[RequestT], Coroutine[Any, Any, ReplyT]]
    ) -> Coroutine[Any, Any, ReplyT]:
        """See `Hops`."""
        request.carry(self.carried)
        return send(request)
