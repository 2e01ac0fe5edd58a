"""Streamable HTTP of legacy agents: sessions by header, POST for messages, GET for a standalone stream."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from msgspec import Raw

from gateway_core.api import CallResult
from gateway_core.downstream.agents import meta_of
from gateway_core.downstream.auth.caller import Caller
from gateway_core.downstream.batch import PendingBatch, decode_batch
from gateway_core.downstream.calls.calls import response_to
from gateway_core.downstream.calls.gate import Gate, restarting
from gateway_core.downstream.http_errors import RpcHttpError, busy
from gateway_core.downstream.legacy import Legacy
from gateway_core.downstream.pending_response import PendingCall, PendingStream
from gateway_core.downstream.post import Post
from gateway_core.downstream.request_headers import SESSION_FIELD, facts_of, require_stream, session_of
from gateway_core.downstream.sessions.live import LiveSession
from gateway_core.downstream.sessions.sessions import Sessions
from gateway_core.downstream.streams.event_store import StoredStream, is_of_standalone
from gateway_core.downstream.streams.stream import PostResponse
from gateway_core.errors import CANCELLED, INVALID_REQUEST, RpcError
from gateway_core.http1.application import Client, Deferred
from gateway_core.http1.head import HttpError, RequestHead
from gateway_core.http1.response import Response
from gateway_core.http1.sse import SSE_HEADERS
from gateway_core.inline.driver import Running
from gateway_core.limits.budget import MemoryBudget
from gateway_core.mcp import jsonrpc
from gateway_core.mcp.jsonrpc import Message
from gateway_core.mcp.names import HANDSHAKE_PROTOCOL_VERSIONS, INITIALIZE, MCP_SESSION_ID_HEADER

ACCEPTED: Final = Response(status=202)
LAST_EVENT_HEADER: Final = "Last-Event-ID"
MAX_STREAMS: Final = 8
"""Open GET streams of one session at which another one is refused; resuming a stream is not limited."""


class LegacyHttp:
    """Serves the requests of legacy agents to `/mcp`."""

    def __init__(self, legacy: Legacy, sessions: Sessions, gate: Gate, budget: MemoryBudget | None = None) -> None:
        """`budget` counts the messages that agents do not read."""
        self._legacy = legacy
        self._sessions = sessions
        self._gate = gate
        self._budget = budget

    def post(self, post: Post) -> Response | PendingCall:
        """Answer a message. Raises `HttpError`.

        A disconnect leaves the call running (clause: Disconnection). The agent can resume the stream, if one has
        begun, to get the result.
        """
        message, accepted = post.message, facts_of(post.head).accepted
        if message.method == INITIALIZE and message.is_request:
            return self._initialize(post)
        session = self._session(post.head, post.caller)
        if not message.is_request:
            self._take(session, message)
            return ACCEPTED
        reply = PostResponse(post.client, post.head, accepted, self._budget, session.questions, session.keep)
        answer = self._legacy.request(session, message, post.meta, reply)
        if isinstance(answer, bytes):
            session.touch()
            return Response(answer)
        return PendingCall(answer, reply, message, _respond, True)

    def batch(self, caller: Caller, client: Client, head: RequestHead, body: bytes) -> Response | PendingBatch:
        """Answer an array of messages. Raises `HttpError`."""
        accepted = facts_of(head).accepted
        session = self._session(head, caller) if SESSION_FIELD in head.fields else None
        try:
            messages = decode_batch(body, session.agent if session is not None else None)
            requests = [(message, meta_of(message.members)) for message in messages if message.is_request]
        except RpcError as error:
            raise RpcHttpError(400, error) from None
        assert session is not None, "without a session no revision is negotiated"
        for message in messages:
            if not message.is_request:
                self._take(session, message)
        if not requests:
            return ACCEPTED
        session.touch()
        reply = PostResponse(client, head, accepted, self._budget, session.questions, session.keep)

        def begin(message: Message, meta: Mapping[str, Raw]) -> bytes | Running[CallResult]:
            if self._sessions.get(caller, session.record.id) is not session:
                return jsonrpc.error(message.id, _cancelled())
            try:
                return self._legacy.request(session, message, meta, reply)
            except Deferred:  # others of the batch may have begun
                return jsonrpc.error(message.id, restarting())

        return PendingBatch(reply, requests, begin, _respond)

    def _take(self, session: LiveSession, message: Message) -> None:
        """Process a notification or a response."""
        session.touch()
        if message.is_response:
            session.questions.answer(message)
        else:
            self._legacy.notification(session, message)

    def get(self, caller: Caller, client: Client, head: RequestHead, _: bytes) -> PendingStream:
        """A standalone stream for messages outside of requests, or the rest of a stream whose connection broke.

        Several standalone streams share the session's messages: each message goes to one of them. Raises `HttpError`,
        `RpcError`.
        """
        require_stream(head)
        session = self._session(head, caller)
        self._sessions.check_open()
        stream, after = self._stream(session, head.once(LAST_EVENT_HEADER.lower()))
        session.stream_opened()
        return PendingStream(self._write(session, stream, after, client))

    @staticmethod
    async def _write(session: LiveSession, stream: StoredStream, after: int | None, client: Client) -> None:
        try:
            await stream.serve(await client.begin_stream(SSE_HEADERS), after)
        finally:
            session.stream_ended()

    def _stream(self, session: LiveSession, last_event: str | None) -> tuple[StoredStream, int | None]:
        """The stream that a GET requests, and the number of the last event that the agent has. Raises `HttpError`.

        400 for an event that no stream can be resumed from: 404 would mean that the session has ended. After a restart,
        a new standalone stream takes the place of one that ended with the earlier process.
        """
        found = session.kept.find(last_event) if last_event else None
        if not last_event or (found is None and session.resumed and is_of_standalone(last_event)):
            if session.record.streams >= MAX_STREAMS:
                raise busy(f"this session has {MAX_STREAMS} streams open, which is the limit", 429)
            return session.keep(session.mailbox), None
        if found is None:
            problem = f"{LAST_EVENT_HEADER} names no event after which a stream of this session can go on"
            raise HttpError(400, f"{problem}; a GET without it opens a new one")
        return found

    def delete(self, caller: Caller, client: Client, head: RequestHead, _: bytes) -> Response:
        """End a session; its calls in flight are cancelled. Raises `HttpError`."""
        self._sessions.end(self._session(head, caller))
        return Response(status=204)

    def _initialize(self, post: Post) -> Response:
        head, message, caller = post.head, post.message, post.caller
        stale = head.once(SESSION_FIELD)
        if stale is not None and self._sessions.get(caller, stale) is not None:
            problem = RpcError.of_gateway(INVALID_REQUEST, "this session is initialized already")
            raise RpcHttpError(400, problem, message=message)
        try:
            agent = self._legacy.introduce(message.members, caller)
        except RpcError as error:
            return Response(jsonrpc.error(message.id, error))
        try:
            session = self._sessions.open(caller, agent.principal.id)
        except RpcError as error:
            raise RpcHttpError.of(error, message) from None
        return Response(
            self._legacy.initialize(session, message, agent), headers={MCP_SESSION_ID_HEADER: session.record.id}
        )

    def _session(self, head: RequestHead, caller: Caller) -> LiveSession:
        """The session of a request.

        Raises `HttpError`: 400 without an id or with an unsupported version, 404 if this caller has no such session;
        and `Deferred` in place of 404 amid a restart, because the next process continues sessions that ended here.
        """
        session_id, version_known = session_of(head)
        if session_id is None:
            raise HttpError(400, f"the header {MCP_SESSION_ID_HEADER} is missing; a session begins with initialize")
        session = self._sessions.get(caller, session_id)
        if session is None:
            self._gate.check_deferring()
            raise HttpError(404, "no such session; begin a new one with initialize")
        if not version_known:
            raise HttpError(400, f"unsupported protocol version; supported: {', '.join(HANDSHAKE_PROTOCOL_VERSIONS)}")
        return session


def _respond(message: Message, running: Running[CallResult]) -> Response:
    """The response to a call that has ended; an error if it was cancelled."""
    if running.cancelled():
        return Response(jsonrpc.error(message.id, _cancelled()))
    return Response(response_to(message, running)[0])


def _cancelled() -> RpcError:
    return RpcError.of_gateway(CANCELLED, "the request was cancelled")
