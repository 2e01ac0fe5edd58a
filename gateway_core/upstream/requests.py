"""What goes to an upstream and what comes back, on every transport."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Raw

from gateway_core.api import Era
from gateway_core.errors import RpcError

ARGUMENTS = "arguments"


class Request(msgspec.Struct, eq=False):
    """What is sent, to whichever upstream: the method, members of `params`, the agent's own `_meta` keys."""

    method: str
    params: Mapping[str, Any]
    """Without `_meta`, and without the arguments where `arguments` has them."""
    meta: Mapping[str, Any] | None = None
    key: str = ""
    """Its idempotency key, the same for all attempts (rule R11); empty for none."""
    arguments: bytes = b""
    """The JSON of the member `arguments`; empty for none."""
    templates: dict[str, tuple[object, Template | None]] | None = None
    """Where its plan keeps prepared bytes, by the name of the upstream; None for a request without a plan."""

    @property
    def members(self) -> Mapping[str, Any]:
        """The members of `params`, with the arguments."""
        return {**self.params, ARGUMENTS: Raw(self.arguments)} if self.arguments else self.params


class Template(msgspec.Struct, frozen=True, eq=False):
    """The bytes that requests of one plan on one connection share."""

    head: bytes
    """Of the HTTP request, up to the number of bytes in its body; empty for other transports."""
    body: bytes
    """Takes by `%`: the request's number, the member `arguments` (with a comma before it), the agent's own members of
    `_meta` (with a comma after them), the idempotency key, and the number again."""


class Reply(msgspec.Struct, frozen=True):
    """An upstream's answer: the JSON of its result object, or its error."""

    result: bytes = b""
    error: RpcError | None = None
    era: Era | None = None
    """The era that `result` is written in, where it is not the upstream's: it was made of what the server asked."""
    members: dict[str, Raw] | None = None
    """The members of `result`, where they were read already."""
    plain: bool = False
    """Whether `members` show that it is neither an error of a tool, nor a question or a task of a modern server."""
