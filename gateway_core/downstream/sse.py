"""HTTP+SSE, the transport of 2024-11-05: one GET stream per agent; the agent POSTs to the address on that stream.

All messages to the agent, including responses, go over the stream. The session ends with it.
"""

from __future__ import annotations

from typing import Final
from urllib.parse import parse_qs

from gateway_core.downstream.agents import principal_of
from gateway_core.downstream.auth.caller import Caller
from gateway_core.downstream.batch import decode_all
from gateway_core.downstream.duplex import Duplex
from gateway_core.downstream.http_errors import RpcHttpError, busy
from gateway_core.downstream.legacy import Legacy
from gateway_core.downstream.pending_response import PendingStream
from gateway_core.downstream.request_headers import require_stream
from gateway_core.downstream.sessions.sessions import Sessions
from gateway_core.downstream.streams.stream import write_events
from gateway_core.errors import RpcError
from gateway_core.http1.application import Client
from gateway_core.http1.head import HttpError, RequestHead
from gateway_core.http1.response import Response
from gateway_core.http1.sse import SSE_HEADERS, event
from gateway_core.mcp.profile_address import profile_path, split_address

STREAM_PATH: Final = "/sse"
MESSAGE_PATH: Final = "/messages"
MAX_UNREAD: Final = 1024
"""Unread answers of one session at which its POST requests are refused."""


class SseHttp:
    """Serves `GET /sse` and `POST /messages`."""

    def __init__(self, legacy: Legacy, sessions: Sessions) -> None:
        self._legacy = legacy
        self._sessions = sessions
        self._channels: dict[str, Duplex] = {}
        """Session id -> the channel of an open stream."""

    @property
    def is_in_use(self) -> bool:
        """Whether a stream is open."""
        return bool(self._channels)

    def get(self, caller: Caller, client: Client, head: RequestHead, _: bytes) -> PendingStream:
        """Open a session and its stream. Raises `HttpError`, `RpcError`."""
        require_stream(head)
        session = self._sessions.open(caller, principal_of(b"", caller).id, on_channel=True)
        session_id = session.record.id
        channel = self._channels[session_id] = Duplex(session, self._legacy)
        session.stream_opened()
        return PendingStream(self._write(client, channel, _endpoint(head.path, session_id)))

    async def _write(self, client: Client, channel: Duplex, endpoint: str) -> None:
        session = channel.session
        try:
            stream = await client.begin_stream(SSE_HEADERS)
            await stream.write(event(endpoint.encode(), "endpoint"))
            await write_events(stream, session.mailbox)
        finally:
            session.stream_ended()
            del self._channels[session.record.id]
            channel.close()
            self._sessions.end(session)

    def post(self, caller: Caller, client: Client, head: RequestHead, body: bytes) -> Response:
        """Receive a message or a batch; the stream carries each response separately. Raises `HttpError`."""
        channel = self._open(caller, _session_id(head))  # its stream may have ended meanwhile
        session = channel.session
        try:
            messages = decode_all(body, session.agent)
        except RpcError as error:
            raise RpcHttpError(400, error) from None
        if session.mailbox.kept >= MAX_UNREAD:
            raise busy("too many answers wait to be read from this session's stream", message=messages[0])
        for message in messages:
            channel.receive(message)
        return Response(status=202)

    def _open(self, caller: Caller, session_id: str) -> Duplex:
        """The channel of an open stream. Raises `HttpError` (404) if this caller has no such session."""
        channel = self._channels.get(session_id)
        if channel is None or channel.session.mailbox.closed or channel.session.record.caller.key != caller.key:
            raise HttpError(404, f"no such session; begin a new one with GET {STREAM_PATH}")
        channel.session.renew(caller)
        return channel


def _endpoint(path: str, session_id: str) -> str:
    """The address for messages, relative to the stream's `path`: a proxy may serve both under another base path."""
    named = split_address(path)[1]
    base = "../" * (path.count("/") - 1)
    return f"{base}{profile_path(MESSAGE_PATH, named)[1:]}?session_id={session_id}"


def _session_id(head: RequestHead) -> str:
    """The session id in the query. Raises `HttpError` (400) if it is missing."""
    found = parse_qs(head.query).get("session_id")
    if found is None:
        raise HttpError(400, f"the parameter session_id is missing; a session begins with GET {STREAM_PATH}")
    return found[0]
