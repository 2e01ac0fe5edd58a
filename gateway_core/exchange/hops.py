"""The requests of one exchange to upstreams: the trace context that goes along with them, and who follows them."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any, Final, Protocol, TypeVar

import msgspec

from gateway_core.api import UpstreamView, WaitedFor
from gateway_core.mcp import jsonrpc

CONTEXT_KEYS: Final = ("traceparent", "tracestate")
"""The keys of trace context, in `_meta` without a prefix (SEP-414) as in HTTP headers (W3C Trace Context)."""
MAX_CONTEXT: Final = 8192
"""Maximum characters of each value of trace context."""
_PLAIN: Final = re.compile(r"[0-9A-Za-z-]{1,256}")
_TEXT: Final = re.compile(rf"[ -~]{{1,{MAX_CONTEXT}}}")


class WrongContext(ValueError):
    """Trace context that cannot be sent."""

    def __init__(self) -> None:
        super().__init__(
            "returned no dict of a traceparent and perhaps a tracestate, which are printable ASCII of at most "
            f"{MAX_CONTEXT} characters"
        )


RequestT = TypeVar("RequestT", bound="Carrier")
ReplyT = TypeVar("ReplyT")
T = TypeVar("T")


class Hops(Protocol):
    """Follows the requests of an exchange to upstreams."""

    def hop(
        self, upstream: UpstreamView, request: RequestT, send: Callable[[RequestT], Coroutine[Any, Any, ReplyT]]
    ) -> Coroutine[Any, Any, ReplyT]:
        """Send one request; raises what `send` raises."""

    def resume(self, upstream: UpstreamView, waiting: Awaitable[T], is_reply: Callable[[T], bool]) -> Awaitable[T]:
        """Wait on for the reply to a request that an earlier exchange sent; raises what `waiting` raises.

        `is_reply`: whether what came is the reply, and not further questions.
        """

    def wait(self, upstream: str, waited_for: WaitedFor, waiting: Awaitable[T]) -> Awaitable[T]:
        """Wait for something that a request needs before it is sent; raises what `waiting` raises."""


class Carried(msgspec.Struct, frozen=True, eq=False):
    """Trace context that goes along with requests to upstreams, in each form in which it is sent.

    Implements `Hops`: it is the same for all requests of an exchange, and nothing is measured.
    """

    headers: Mapping[str, str]
    lines: bytes = b""
    """The headers as lines of a head."""
    members: bytes = b""
    """The members of `_meta`, each with a comma after it."""

    @classmethod
    def of(cls, context: Mapping[str, str]) -> Carried:
        """`context`: printable ASCII by key, with a `traceparent`. Raises `WrongContext`."""
        try:
            if _PLAIN.fullmatch(parent := context["traceparent"]) is None:
                raise WrongContext
        except (KeyError, TypeError):
            raise WrongContext from None
        data = parent.encode()
        lines, members = b"traceparent: %b\r\n" % data, b'"traceparent":"%b",' % data
        if len(context) > 1:
            state: Any = context.get("tracestate")
            if len(context) > 2 or not isinstance(state, str) or _TEXT.fullmatch(state) is None:
                raise WrongContext
            lines += b"tracestate: %b\r\n" % state.encode()
            members += b'"tracestate":%b,' % jsonrpc.encode(state)
        return cls(context, lines, members)

    def hop(
        self, upstream: UpstreamView, request: RequestT, send: Callable[[RequestT], Coroutine[Any, Any, ReplyT]]
    ) -> Coroutine[Any, Any, ReplyT]:
        """See `Hops`."""
        request.carry(self)
        return send(request)

    def resume(self, upstream: UpstreamView, waiting: Awaitable[T], is_reply: Callable[[T], bool]) -> Awaitable[T]:
        """See `Hops`."""
        return waiting

    def wait(self, upstream: str, waited_for: WaitedFor, waiting: Awaitable[T]) -> Awaitable[T]:
        """See `Hops`."""
        return waiting


NOTHING: Final = Carried({})


class Carrier(Protocol):
    """A request to an upstream."""

    def carry(self, carried: Carried) -> None:
        """Send this trace context along."""
