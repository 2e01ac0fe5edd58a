"""Requests that an operator tries out, through the same admission, limits, plugins and pipeline as those of agents.

The operator is a modern agent: a server that asks something ends the request with `input_required`, and the next
request brings the answers and the state.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from gateway_core.api import OPERATOR
from gateway_core.catalog.current import CurrentCatalog
from gateway_core.downstream.agents import exchange_for, meta_of
from gateway_core.downstream.auth.caller import Caller, in_profile
from gateway_core.downstream.calls.calls import Calls, response_to
from gateway_core.downstream.calls.gate import restarting
from gateway_core.downstream.modern import admit
from gateway_core.errors import CANCELLED, RpcError
from gateway_core.exchange.back import NO_BACK
from gateway_core.http1.application import Deferred
from gateway_core.inline.driver import task_of
from gateway_core.mcp import jsonrpc
from gateway_core.mcp.decoder import decode_request
from gateway_core.mcp.names import (
    CLIENT_CAPABILITIES_KEY,
    CLIENT_INFO_KEY,
    MODERN_PROTOCOL_VERSIONS,
    PROTOCOL_VERSION_KEY,
)

_CALLER: Final = Caller("127.0.0.1", OPERATOR)
_META: Final[Mapping[str, Any]] = {
    PROTOCOL_VERSION_KEY: MODERN_PROTOCOL_VERSIONS[0],
    CLIENT_INFO_KEY: {"name": "control-plane", "version": "1"},
    CLIENT_CAPABILITIES_KEY: {"elicitation": {"form": {}, "url": {}}},
}


class Tried(msgspec.Struct, frozen=True):
    """One request and its response, as JSON-RPC."""

    request: dict[str, Any]
    response: dict[str, Any]
    seconds: float
    exchange: str
    """The id of the exchange, as in the log; empty for a request that was not admitted."""


class Trials:
    """Makes the requests of operators."""

    def __init__(self, catalog: CurrentCatalog, calls: Calls) -> None:
        self._catalog = catalog
        self._calls = calls
        self._made = 0

    async def run(self, method: str, params: Mapping[str, Any], profile: str = "") -> Tried:
        """Make one request and wait for its response. `params._meta` adds to that of the operator, or replaces parts.

        Cancelling this cancels the request. Raises `UnknownProfile`.
        """
        self._catalog.check_profile(profile)
        self._made += 1
        given = params.get("_meta")
        meta = {**_META, **given} if isinstance(given, dict) else dict(_META)
        request = {"jsonrpc": "2.0", "id": self._made, "method": method, "params": {**params, "_meta": meta}}
        began, exchange = time.monotonic(), None
        try:
            message = decode_request(jsonrpc.encode(request))
            members = meta_of(message.members)
            caller = in_profile(_CALLER, profile) if profile else _CALLER
            agent, log_level = admit(message, message.members, members, caller)
            exchange = exchange_for(agent, message, members, NO_BACK, log_level=log_level)
            running = self._calls.begin(exchange, message)
            try:
                await asyncio.wait({task_of(running)})
            except asyncio.CancelledError:
                running.cancel()
                raise
            if running.cancelled():
                raise RpcError.of_gateway(CANCELLED, "cancelled")
            response = response_to(message, running)[0]
        except RpcError as error:
            response = jsonrpc.error(str(request["id"]).encode(), error)
        except Deferred:  # the connection of the operator ends with this process
            response = jsonrpc.error(str(request["id"]).encode(), restarting())
        seconds = round(time.monotonic() - began, 6)
        return Tried(request, json.loads(response), seconds, "" if exchange is None else exchange.id)
