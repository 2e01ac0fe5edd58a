"""Streamable HTTP as legacy agents speak it: sessions by header, POST for messages, GET for a standing stream."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final, TypeVar

from gateway_core import jsonrpc
from gateway_core.downstream.agents import response_to, result_of
from gateway_core.downstream.answer import Answer, Refusal
from gateway_core.downstream.head import SESSION_HEADER, Head
from gateway_core.downstream.intake import Post, require_stream
from gateway_core.downstream.legacy import Legacy
from gateway_core.downstream.replay import KeptStream
from gateway_core.downstream.services import Services
from gateway_core.downstream.serving import Serving
from gateway_core.downstream.sessions import Session
from gateway_core.downstream.stream import Reply, Writer
from gateway_core.driver import Running
from gateway_core.errors import CANCELLED, RpcError
from gateway_core.jsonrpc import Message
from gateway_core.protocol import HANDSHAKE_PROTOCOL_VERSIONS, INITIALIZE
from gateway_core.types import CallResult

ACCEPTED: Final = Answer(b"", 202)
LAST_EVENT_HEADER: Final = "Last-Event-ID"
MAX_STREAMS: Final = 8
"""Streams by GET that one session may have open when it opens another."""


W = TypeVar("W", bound=Writer)


class LegacyHttp:
    """Serves the requests of legacy agents to `/mcp`."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._legacy = Legacy(services)

    def post(self, post: Post) -> Answer | Serving:
        """Answer a message. Raises `Refusal`.

        A disconnect leaves the call running (clause: Disconnection), and the agent may resume its stream, if one has
        begun, to get the answer. One begins with the first thing said, or when the call takes its time.
        """
        message, accepted = post.message, post.head.accepts()
        if message.method == INITIALIZE and message.is_request:
            return self._initialize(post)
        session = self._session(post.head, post.address)
        if not message.is_request:
            session.touch()
            if message.is_response:
                session.questions.answer(message)
            else:
                self._legacy.notification(session, message)
            return ACCEPTED
        reply = Reply(post.begin_stream, accepted, session.questions, session.keep)
        answer = self._legacy.request(session, message, post.meta, reply, swept=post.swept)
        if isinstance(answer, bytes):
            session.touch()
            return Answer(answer)
        return Serving(answer, reply, message, _answer, True, session.primed)

    def get(self, head: Head, address: str, begin: Callable[[], Awaitable[W]]) -> Coroutine[Any, Any, W]:
        """A standing stream for what belongs to no request, or the rest of any stream whose connection broke.

        Several standing streams share the session's messages, one each. What comes back writes it to what `begin` gives
        until it ends. Raises `Refusal`, `RpcError`.
        """
        require_stream(head.accepts())
        session = self._session(head, address)
        self._services.gate.check_open()
        stream, after = self._stream(session, head.once(LAST_EVENT_HEADER))
        session.streams += 1
        return self._write(session, stream, after, begin)

    @staticmethod
    async def _write(session: Session, stream: KeptStream, after: int | None, begin: Callable[[], Awaitable[W]]) -> W:
        try:
            response = await begin()
            await stream.serve(response, after)
        finally:
            session.streams -= 1
            session.touch()
        return response

    def _stream(self, session: Session, last_event: str | None) -> tuple[KeptStream, int | None]:
        """The stream that a GET asks for, and the last event that the agent has of it. Raises `Refusal`.

        400 for an event after which no stream goes on (any more): 404 would say that the session is over.
        """
        if not last_event:
            if session.streams >= MAX_STREAMS:
                raise Refusal.busy(f"this session has {MAX_STREAMS} streams open, which is the limit", 429)
            return session.keep(session.mailbox), None
        found = session.kept.find(last_event)
        if found is None:
            problem = f"{LAST_EVENT_HEADER} names no event after which a stream of this session can go on"
            raise Refusal(400, f"{problem}; a GET without it opens a new one")
        return found

    def delete(self, head: Head, address: str) -> Answer:
        """End a session; its calls in flight are cancelled."""
        self._services.end_session(self._session(head, address))
        return Answer(b"", 204)

    def _initialize(self, post: Post) -> Answer:
        head, message, address = post.head, post.message, post.address
        if head.once(SESSION_HEADER) is not None:
            self._session(head, address)
            raise Refusal(400, "this session is initialized already", message=message)
        try:
            agent = self._legacy.introduce(message.members, address)
        except RpcError as error:
            return Answer(jsonrpc.error(message.id, error))
        try:
            session = self._services.open_session(address, agent.principal.id)
        except RpcError as error:
            raise Refusal.of(error, message) from None
        return Answer(self._legacy.initialize(session, message, agent), headers={SESSION_HEADER: session.id})

    def _session(self, head: Head, address: str) -> Session:
        """The session of a request. Raises `Refusal`: 400 without an id, 404 for one that is not this agent's."""
        session_id, version_known = head.session()
        if session_id is None:
            raise Refusal(400, f"the header {SESSION_HEADER} is missing; a session begins with initialize")
        session = self._services.sessions.get(address, session_id)
        if session is None or session.own_channel:
            raise Refusal(404, "no such session; begin a new one with initialize")
        if not version_known:
            raise Refusal(400, f"unsupported protocol version; supported: {', '.join(HANDSHAKE_PROTOCOL_VERSIONS)}")
        return session


def _answer(message: Message, running: Running[CallResult]) -> Answer:
    """What a request is answered with that has come to its end."""
    if running.cancelled():
        return Answer(jsonrpc.error(message.id, RpcError.of_gateway(CANCELLED, "the request was cancelled")))
    return Answer(response_to(message, result_of(running)))
