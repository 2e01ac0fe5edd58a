"""The protocol of legacy agents (up to 2025-11-25), independent of the transport.

`initialize` sets the agent of a session. Requests run in the background: a lost connection does not cancel them
(2025-11-25, basic/transports, Sending Messages to the Server), `notifications/cancelled` does.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from msgspec import Raw

from gateway_core.api import CallResult
from gateway_core.catalog.current import CurrentCatalog
from gateway_core.downstream.agents import exchange_for, level_of, principal_of, require_object
from gateway_core.downstream.auth.caller import Caller
from gateway_core.downstream.calls.calls import Calls
from gateway_core.downstream.sessions.live import LiveSession, RequestKey, request_key
from gateway_core.downstream.sessions.sessions import Sessions
from gateway_core.errors import INVALID_REQUEST, RpcError
from gateway_core.exchange.back import BackChannel
from gateway_core.exchange.exchange import Agent
from gateway_core.inline.driver import Running
from gateway_core.mcp import jsonrpc
from gateway_core.mcp.jsonrpc import Message
from gateway_core.mcp.names import (
    CANCELLED_NOTICE,
    HANDSHAKE_PROTOCOL_VERSIONS,
    LATEST_HANDSHAKE_VERSION,
    PING,
    ROOTS_CHANGED,
    SET_LEVEL,
    SUBSCRIBE,
    UNSUBSCRIBE,
)
from gateway_core.upstream.bridge import bridge_error

_ABOUT_NOTIFICATIONS: Final = frozenset({SUBSCRIBE, UNSUBSCRIBE, SET_LEVEL})


class Legacy:
    """The legacy protocol on a session."""

    def __init__(self, catalog: CurrentCatalog, calls: Calls, sessions: Sessions) -> None:
        self._catalog = catalog
        self._calls = calls
        self._sessions = sessions

    def introduce(self, params: dict[str, Raw], caller: Caller) -> Agent:
        """The agent that an `initialize` request describes, at the negotiated version; it has no session yet.

        Raises `RpcError(INVALID_PARAMS)`.
        """
        client_info = require_object(params.get("clientInfo"), "clientInfo")
        requested = jsonrpc.text(params.get("protocolVersion", Raw(b"null")), "protocolVersion")
        known = requested in HANDSHAKE_PROTOCOL_VERSIONS
        return Agent(
            principal=principal_of(client_info, caller),
            era="legacy",
            protocol_version=requested if known else LATEST_HANDSHAKE_VERSION,
            client_info=client_info,
            capabilities=require_object(params.get("capabilities"), "capabilities") or b"{}",
            presented=caller.presented,
        )

    def initialize(self, session: LiveSession, message: Message, introduced: Agent) -> bytes:
        """Make `introduced` the agent of `session`; returns the response.

        Raises `RpcError(OVERLOADED)` while the gateway is stopping or short of memory.
        """
        self._sessions.check_open()
        self._sessions.introduce(session, introduced)
        identity = self._catalog.identity("legacy", introduced.principal.profile)
        result: dict[str, Any] = {"protocolVersion": introduced.protocol_version, **identity}
        return jsonrpc.result(message.id, jsonrpc.encode(result))

    def request(
        self, session: LiveSession, message: Message, meta: Mapping[str, Raw], back: BackChannel
    ) -> bytes | Running[CallResult]:
        """The response to a request other than `initialize`, or the call in flight that serves it."""
        try:
            if message.method == PING:
                return jsonrpc.result(message.id, b"{}")
            if session.agent is None:
                raise RpcError.of_gateway(INVALID_REQUEST, "the first request must be initialize")
            if message.method in _ABOUT_NOTIFICATIONS:
                return self._about_notifications(session, session.agent, message, message.members)
            exchange = exchange_for(session.agent, message, meta, back, log_level=session.record.log_level)
            return self._calls.begin(exchange, message, session)
        except RpcError as error:
            return jsonrpc.error(message.id, error)

    def _about_notifications(
        self, session: LiveSession, agent: Agent, message: Message, params: dict[str, Raw]
    ) -> bytes | Running[CallResult]:
        """Serve `logging/setLevel`, `resources/subscribe` or `resources/unsubscribe`. Raises `RpcError`."""
        if message.method == SET_LEVEL:
            self._sessions.set_log_level(session, level_of(params.get("level", Raw(b"null")), "params.level"))
            return jsonrpc.result(message.id, jsonrpc.EMPTY_OBJECT)
        uri = jsonrpc.text(params.get("uri", Raw(b"null")), "params.uri")
        if message.method == UNSUBSCRIBE:
            self._sessions.unsubscribe(session, uri)
            return jsonrpc.result(message.id, jsonrpc.EMPTY_OBJECT)
        self._sessions.check_open()

        async def subscribe() -> CallResult:
            try:
                await self._sessions.subscribe(session, uri)
            except RpcError as error:
                return CallResult.failed(bridge_error(error, None, agent.era))
            return CallResult(raw=b"{}")

        return self._calls.begin_task(session, agent, message, subscribe())

    def notification(self, session: LiveSession, message: Message) -> None:
        """Process a notification; ignores unknown ones, and cancellations of requests that are not in flight."""
        if message.method == "notifications/initialized":
            self._sessions.initialized(session)
        elif message.method == ROOTS_CHANGED:
            self._sessions.roots_changed(session)
        elif message.method == CANCELLED_NOTICE:
            cancelled = cancelled_key(message)
            task = session.calls.get(cancelled) if cancelled is not None else None
            if task is not None:
                task.cancel()


def cancelled_key(message: Message) -> RequestKey | None:
    """The key (`request_key`) of the request that a `notifications/cancelled` names; None without a valid id."""
    try:
        raw = jsonrpc.members(message.params).get("requestId", Raw())
        key = request_key(raw) if bytes(raw) else None
    except RpcError:
        return None
    return key if type(key) in {int, str} else None
