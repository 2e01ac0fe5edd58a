"""One message that an agent sent by POST."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from msgspec import Raw

from gateway_core.downstream.auth.caller import Caller
from gateway_core.http1.application import Client
from gateway_core.http1.head import RequestHead
from gateway_core.mcp.jsonrpc import Message


class Post(msgspec.Struct, eq=False):
    """A message and the HTTP request that carried it."""

    head: RequestHead
    message: Message
    client: Client
    caller: Caller
    meta: Mapping[str, Raw]
    """The members of `_meta` in the message's params."""
