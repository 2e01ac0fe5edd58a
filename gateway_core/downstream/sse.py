"""HTTP+SSE, the transport of 2024-11-05: one stream per agent by GET, its messages by POST to where the stream says.

Everything for the agent, answers too, goes over the stream; the session ends with it.
"""

from __future__ import annotations

from typing import Final

from aiohttp import web

from gateway_core.downstream.agents import principal_of
from gateway_core.downstream.answer import Answer, Refusal
from gateway_core.downstream.duplex import Duplex
from gateway_core.downstream.head import Head
from gateway_core.downstream.intake import read_message, require_stream
from gateway_core.downstream.services import Services
from gateway_core.downstream.sessions import Session
from gateway_core.downstream.stream import event, event_stream, write_events

STREAM_PATH: Final = "/sse"
MESSAGE_PATH: Final = "/messages"
MAX_UNREAD: Final = 1024
"""Answers that may wait for an agent to read them before it may send more."""


class SseHttp:
    """Serves `GET /sse` and `POST /messages`."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._channels: dict[str, Duplex] = {}

    async def get(self, request: web.BaseRequest, head: Head, address: str) -> web.StreamResponse:
        """The stream of a new session."""
        require_stream(head.accepts())
        session = self._services.open_session(address, principal_of(b"", address).id)
        channel = self._channels[session.id] = Duplex(self._services, session, modern=False)
        session.streams += 1
        response = event_stream()
        try:
            await response.prepare(request)
            await response.write(event(f"{MESSAGE_PATH}?session_id={session.id}".encode(), "endpoint"))
            await write_events(response, session.mailbox)
        finally:
            session.streams -= 1
            del self._channels[session.id]
            channel.close()
            self._services.end_session(session)
        return response

    async def post(self, request: web.BaseRequest, head: Head, address: str) -> Answer:
        """Take one message in; its answer goes over the stream."""
        session_id = request.query.get("session_id")
        if session_id is None:
            raise Refusal(400, f"the parameter session_id is missing; a session begins with GET {STREAM_PATH}")
        self._open(address, session_id)
        message = await read_message(request, head, self._services.config.limits.request_body)
        session, channel = self._open(address, session_id)  # its stream may have ended meanwhile
        if session.mailbox.kept >= MAX_UNREAD:
            raise Refusal.busy("too many answers wait to be read from this session's stream", message=message)
        channel.receive(message)
        return Answer(b"", 202)

    def _open(self, address: str, session_id: str) -> tuple[Session, Duplex]:
        """The session of an open stream, and its channel. Raises `Refusal` (404)."""
        session = self._services.sessions.get(address, session_id)
        channel = self._channels.get(session_id)
        if session is None or channel is None:
            raise Refusal(404, f"no such session; begin a new one with GET {STREAM_PATH}")
        return session, channel
