"""Requests to upstreams and their replies, the same for every transport."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Raw

from gateway_core.api import Era
from gateway_core.errors import RpcError
from gateway_core.exchange.hops import CONTEXT_KEYS, NOTHING, Carried

ARGUMENTS = "arguments"


class Request(msgspec.Struct, eq=False):
    """A request independent of the upstream: the method, members of `params`, the agent's `_meta` keys."""

    method: str
    params: Mapping[str, Any]
    """Without `_meta`, and without the arguments if `arguments` holds them."""
    meta: Mapping[str, Any] | None = None
    key: str = ""
    """The idempotency key, the same for all attempts (rule R11); empty for none."""
    arguments: bytes = b""
    """The JSON of the member `arguments`; empty if `params` holds it or there is none."""
    templates: dict[str, tuple[object, Template | None]] | None = None
    """Prepared bytes of its call plan, by upstream name; None for a request without a plan."""
    carried: Carried = NOTHING
    """The trace context that goes along with it."""

    @property
    def complete_meta(self) -> Mapping[str, Any] | None:
        """`meta` with the trace context that goes along."""
        return {**(self.meta or {}), **self.carried.headers} if self.carried.headers else self.meta

    def carry(self, carried: Carried) -> None:
        """Send this trace context along, in place of the agent's or that of an earlier attempt."""
        self.carried, meta = carried, self.meta
        if meta and ("traceparent" in meta or "tracestate" in meta):
            self.meta = {key: value for key, value in meta.items() if key not in CONTEXT_KEYS}

    @property
    def members(self) -> Mapping[str, Any]:
        """The members of `params`, with the arguments."""
        return {**self.params, ARGUMENTS: Raw(self.arguments)} if self.arguments else self.params

    def outdated(self) -> None:
        """Drop the prepared bytes: the definition that they were made from has changed."""
        self.templates = None


class Template(msgspec.Struct, frozen=True, eq=False):
    """The bytes that all requests of one call plan share on one connection."""

    head: bytes
    """The head of the HTTP request, up to the value of Content-Length; empty for other transports."""
    body: bytes
    """A `%` format for: the request id, the member `arguments` (with a comma before it), the agent's own `_meta`
    members (with a comma after them), the idempotency key, and the request id again."""


class Reply(msgspec.Struct, frozen=True):
    """An upstream's answer: the JSON of its result object, or its error."""

    result: bytes = b""
    error: RpcError | None = None
    era: Era | None = None
    """The era of `result`, if not the upstream's: the gateway made the result from the server's question."""
    members: dict[str, Raw] | None = None
    """The members of `result`, if already parsed."""
    plain: bool = False
    """Whether `members` show that it is neither a tool error, nor a question or a task of a modern server."""
