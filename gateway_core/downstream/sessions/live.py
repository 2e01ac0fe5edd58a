"""Legacy agents between their requests: who they are, what they have in flight, what they are still to be told or may
ask to be told again.

A session is found by the address that opened it together with its id, so that somebody else's session and one that
never was look alike. It is not proof of identity (2025-11-25, Security Best Practices, Session Hijacking).
"""

from __future__ import annotations

import asyncio
import secrets
import time
from typing import Final

from msgspec import Raw

from gateway_core.api import CallResult
from gateway_core.downstream.streams.event_store import KeptStream, KeptStreams
from gateway_core.downstream.streams.questions import Questions
from gateway_core.downstream.streams.stream import Keep, Mailbox
from gateway_core.downstream.subscriptions.resources import Watched
from gateway_core.downstream.subscriptions.subscription import Subscription
from gateway_core.errors import CANCELLED, INVALID_REQUEST, RpcError
from gateway_core.exchange.exchange import NO_BACK, Agent
from gateway_core.inline.driver import Running
from gateway_core.mcp import jsonrpc
from gateway_core.mcp.names import CHANGING, UPDATED, list_changed

PRIMED_SINCE: Final = "2025-11-25"
"""The first revision whose agents know events without data; others take them for broken messages."""
LIST_CHANGED: Final = {kind: jsonrpc.notification(list_changed(kind)) for kind in CHANGING}

RequestKey = int | str
"""A request's id, of whatever spelling, but with its type: `1` is not `"1"` (basic/index, Requests)."""


def request_key(raw_id: Raw) -> RequestKey:
    """A request's id as a key."""
    try:
        return int(raw_id)
    except ValueError:
        key: RequestKey = jsonrpc.value(raw_id)
        return key


class Session:
    """One legacy agent: by its session id over HTTP, or for the life of its channel (SSE, stdio)."""

    __slots__ = (
        "address",
        "agent",
        "calls",
        "id",
        "kept",
        "log_level",
        "mailbox",
        "own_channel",
        "owner",
        "primed",
        "questions",
        "ready",
        "streams",
        "subscriptions",
        "used",
        "watched",
    )

    def __init__(self, address: str, owner: str) -> None:
        """`owner` is the principal's id, which caps are counted under; it stays, whatever the agent says later."""
        self.id = secrets.token_urlsafe(32)
        self.address = address
        self.owner = owner
        self.agent: Agent | None = None
        """None until `initialize`; see `introduce`."""
        self.primed = False
        """Whether this agent's streams begin with an event that says nothing."""
        self.ready = False
        """Whether the agent has sent `notifications/initialized`; before, it is told nothing unasked."""
        self.mailbox = Mailbox()
        """What belongs to no request: the standalone streams take from it, each message on one stream only."""
        self.streams = 0
        """Streams by GET that are open."""
        self.kept = KeptStreams()
        """Streams that this agent can resume."""
        self.calls: dict[RequestKey, Running[CallResult]] = {}
        """Requests in flight by the agent's own ids; `ended` takes them out."""
        self.subscriptions: dict[RequestKey, Subscription] = {}
        """Listen requests that are open on this agent's channel, by the agent's own ids."""
        self.questions = Questions()
        self.watched: Watched | None = None
        """The resources that the agent has subscribed to; None before the first."""
        self.log_level = ""
        """The least severe log messages that the agent wants; empty for none, as long as it has set no level."""
        self.used = time.monotonic()
        """When a request of it last began or ended."""
        self.own_channel = False
        """Whether it lives on a two-way channel, which alone reaches it."""

    def introduce(self, agent: Agent) -> None:
        """The session is this agent's from now on."""
        self.agent = agent
        self.primed = agent.protocol_version >= PRIMED_SINCE

    def touch(self) -> None:
        self.used = time.monotonic()

    def new_key(self, raw_id: Raw) -> RequestKey:
        """The key of a request that begins. Raises `RpcError` for an id in flight already (basic/index, Requests)."""
        key = request_key(raw_id)
        if key in self.calls or key in self.subscriptions:
            raise RpcError.of_gateway(INVALID_REQUEST, "a request with this id is still in flight")
        self.used = time.monotonic()
        return key

    def ended(self, key: RequestKey) -> None:
        """A request is not in flight any more."""
        del self.calls[key]
        self.used = time.monotonic()

    @property
    def busy(self) -> bool:
        """In use right now, however long ago its last request came."""
        return self.streams > 0 or bool(self.calls)

    @property
    def gives_way(self) -> bool:
        """Whether it may end for a new one. Its agent gets 404 and initializes again, which one on a channel cannot."""
        return not self.calls and not self.own_channel

    def keep(self, mailbox: Mailbox) -> KeptStream:
        """A stream written from `mailbox`, the session's own or that of one request, that the agent can resume."""
        return self.kept.begin(mailbox, standing=mailbox is self.mailbox, primed=self.primed)

    def changed(self, kinds: frozenset[str]) -> None:
        """Tell the agent that lists have changed; a message that waits already is not repeated."""
        if self.ready:
            for kind in LIST_CHANGED.keys() & kinds:
                self.mailbox.put(LIST_CHANGED[kind], Keep.NOTICE, once=True)

    def updated(self, uri: str) -> None:
        """Tell the agent that a resource was updated."""
        if self.ready:
            self.mailbox.put(jsonrpc.notification(UPDATED, {"uri": uri}), Keep.NOTICE, once=True)

    def end(self) -> None:
        """Cancel what is in flight and close the streams. Use `Services.end_session`, which tells everybody else."""
        for task in list(self.calls.values()):
            task.cancel()
        self.questions.end()
        if self.watched is not None:
            self.watched.close()
        self.mailbox.close()
        self.kept.close()


class SessionBack:
    """Reaches the agent of a session through its mailbox: its two-way channel, or its standing streams."""

    __slots__ = ("_can_ask", "_limit", "_session")

    def __init__(self, session: Session, *, can_ask: bool = True, limit: float | None = None) -> None:
        """`limit`: seconds that the agent has to answer a question, where no exchange bounds them."""
        self._session = session
        self._can_ask = can_ask
        self._limit = limit

    def notify(self, method: str, params: bytes) -> None:
        self._session.mailbox.notify(method, params)

    async def ask(self, method: str, params: bytes) -> bytes:
        session = self._session
        if not self._can_ask or not (session.own_channel or session.streams):
            return await NO_BACK.ask(method, params)
        try:
            async with asyncio.timeout(self._limit):
                return await session.questions.ask(
                    lambda message: session.mailbox.put(message, Keep.ALWAYS), method, params
                )
        except TimeoutError:
            error = f"the client did not answer {method} within {self._limit:g} s"
            raise RpcError.of_gateway(CANCELLED, error) from None
