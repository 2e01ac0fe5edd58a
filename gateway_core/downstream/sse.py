"""HTTP+SSE, the transport of 2024-11-05: one stream per agent by GET, its messages by POST to where the stream says.

Everything for the agent, answers too, goes over the stream; the session ends with it.
"""

from __future__ import annotations

from typing import Final

from aiohttp import web

from gateway_core.downstream.agents import principal_of
from gateway_core.downstream.duplex import Duplex
from gateway_core.downstream.intake import Refusal, accepts, read_message
from gateway_core.downstream.services import Services, overloaded
from gateway_core.downstream.sessions import TooManySessions
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

    async def get(self, request: web.BaseRequest, address: str) -> web.StreamResponse:
        """The stream of a new session."""
        if not accepts(request).stream:
            raise Refusal(406, "the answer to GET is text/event-stream")
        if self._services.gate.closing:
            raise Refusal.busy(overloaded("the gateway is stopping"))
        try:
            session = self._services.sessions.create(address, principal_of(b"", address).id)
        except TooManySessions as error:
            raise Refusal.busy(error, 503 if error.everybody else 429) from None
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

    async def post(self, request: web.BaseRequest, address: str) -> web.StreamResponse:
        """Take one message in; its answer goes over the stream."""
        session_id = request.query.get("session_id")
        if session_id is None:
            raise Refusal(400, f"the parameter session_id is missing; a session begins with GET {STREAM_PATH}")
        session = self._services.sessions.get(address, session_id)
        channel = self._channels.get(session_id)
        if session is None or channel is None:
            raise Refusal(404, f"no such session; begin a new one with GET {STREAM_PATH}")
        message = await read_message(request, self._services.config.limits.request_body)
        if session.mailbox.kept >= MAX_UNREAD:
            raise Refusal.busy("too many answers wait to be read from this session's stream", message=message)
        channel.receive(message)
        return web.Response(status=202, text="Accepted")
