"""What goes to an upstream and what comes back, whatever carries it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from gateway_core.errors import RpcError
from gateway_core.types import Era


class Request(msgspec.Struct, eq=False):
    """What is sent, whoever it is sent to: the method, members of `params`, the agent's own `_meta` keys."""

    method: str
    params: Mapping[str, Any]
    meta: Mapping[str, Any] | None


class Prepared(msgspec.Struct, frozen=True, eq=False):
    """What requests on one connection that differ in numbers and arguments only have in common."""

    method: str
    head: bytes
    """Of the HTTP request, up to the number of bytes in its body; empty for other transports."""
    body: bytes
    """Takes, as `%` does it, the request's number, `arguments` and `meta` as in `Connection.start`, the exchange's id,
    and the number again."""
    limit: int
    """Bytes of an answer."""


class Reply(msgspec.Struct, frozen=True):
    """An upstream's answer: the JSON of its result object, or its error."""

    result: bytes = b""
    error: RpcError | None = None
    era: Era | None = None
    """The era that `result` is written in, where it is not the upstream's: it was made of what the server asked."""
