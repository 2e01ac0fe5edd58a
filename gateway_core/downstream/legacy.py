"""The protocol of legacy agents (up to 2025-11-25), independent of the transport.

`initialize` sets the agent of a session. Requests run in the background: a lost connection does not cancel them
(2025-11-25, basic/transports, Sending Messages to the Server), `notifications/cancelled` does.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from msgspec import Raw

from gateway_core.api import CallResult
from gateway_core.downstream.agents import exchange_for, principal_of, require_object, start, start_call
from gateway_core.downstream.logs import level_of
from gateway_core.downstream.services import Services
from gateway_core.downstream.sessions.live import RequestKey, Session, SessionBack, request_key
from gateway_core.downstream.subscriptions.resources import Watched
from gateway_core.errors import INVALID_REQUEST, RpcError
from gateway_core.exchange.exchange import Agent, BackChannel
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

    def __init__(self, services: Services) -> None:
        self._services = services

    def introduce(self, params: dict[str, Raw], address: str) -> Agent:
        """The agent that an `initialize` request describes, at the negotiated version; it has no session yet.

        Raises `RpcError(INVALID_PARAMS)`.
        """
        client_info = require_object(params.get("clientInfo"), "clientInfo")
        requested = jsonrpc.text(params.get("protocolVersion", Raw(b"null")), "protocolVersion")
        known = requested in HANDSHAKE_PROTOCOL_VERSIONS
        return Agent(
            principal=principal_of(client_info, address),
            era="legacy",
            protocol_version=requested if known else LATEST_HANDSHAKE_VERSION,
            client_info=client_info,
            capabilities=require_object(params.get("capabilities"), "capabilities") or b"{}",
        )

    def initialize(self, session: Session, message: Message, introduced: Agent) -> bytes:
        """Make `introduced` the agent of `session`; returns the response."""
        agent = Agent(
            principal=introduced.principal,
            era=introduced.era,
            protocol_version=introduced.protocol_version,
            client_info=introduced.client_info,
            capabilities=introduced.capabilities,
            session_id=session.id,
            standalone=SessionBack(session, limit=self._services.config.question_timeout),
        )
        session.introduce(agent)
        identity = self._services.catalog.identity("legacy")
        result: dict[str, Any] = {"protocolVersion": introduced.protocol_version, **identity}
        return jsonrpc.result(message.id, jsonrpc.encode(result))

    def request(
        self, session: Session, message: Message, meta: Mapping[str, Raw], back: BackChannel
    ) -> bytes | Running[CallResult]:
        """The response to a request other than `initialize`, or the call in flight that serves it."""
        try:
            if message.method == PING:
                return jsonrpc.result(message.id, b"{}")
            if session.agent is None:
                raise RpcError.of_gateway(INVALID_REQUEST, "the first request must be initialize")
            if message.method in _ABOUT_NOTIFICATIONS:
                return self._about_notifications(session, session.agent, message, message.members)
            exchange = exchange_for(session.agent, message, meta, back, log_level=session.log_level)
            return start_call(self._services, session, message, exchange)
        except RpcError as error:
            return jsonrpc.error(message.id, error)

    def _about_notifications(
        self, session: Session, agent: Agent, message: Message, params: dict[str, Raw]
    ) -> bytes | Running[CallResult]:
        """Serve `logging/setLevel`, `resources/subscribe` or `resources/unsubscribe`. Raises `RpcError`."""
        if message.method == SET_LEVEL:
            session.log_level = level_of(params.get("level", Raw(b"null")), "params.level")
            self._services.on_log_level(session.id, session.log_level)
            return jsonrpc.result(message.id, jsonrpc.EMPTY_OBJECT)
        uri = jsonrpc.text(params.get("uri", Raw(b"null")), "params.uri")
        if session.watched is None:
            session.watched = Watched(self._services.catalog, agent, session.updated)
        watched = session.watched
        if message.method == UNSUBSCRIBE:
            watched.remove(uri)
            return jsonrpc.result(message.id, jsonrpc.EMPTY_OBJECT)
        self._services.gate.check_open()

        async def subscribe() -> CallResult:
            try:
                await watched.add(uri)
            except RpcError as error:
                return CallResult.failed(bridge_error(error, agent.era))
            return CallResult(raw=b"{}")

        return start(self._services, session, message, subscribe())

    def notification(self, session: Session, message: Message) -> None:
        """Process a notification; ignores unknown ones, and cancellations of requests that are not in flight."""
        if message.method == "notifications/initialized":
            session.ready = session.agent is not None
        elif message.method == ROOTS_CHANGED:
            self._services.on_roots_changed(session.id)
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
