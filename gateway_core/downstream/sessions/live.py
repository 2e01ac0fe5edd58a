"""The state of a legacy agent between its requests: identity, calls in flight, queued messages, resumable streams.

A session is looked up by its id and the address that opened it: to others it looks as if it did not exist. A session
id is not proof of identity (2025-11-25, Security Best Practices, Session Hijacking).
"""

from __future__ import annotations

import asyncio
import secrets
import time
from typing import Final

from msgspec import Raw

from gateway_core.api import CallResult
from gateway_core.downstream.streams.event_store import EventStore, StoredStream
from gateway_core.downstream.streams.questions import AgentQuestions
from gateway_core.downstream.streams.stream import Keep, Mailbox
from gateway_core.downstream.subscriptions.resources import Watched
from gateway_core.downstream.subscriptions.subscription import Subscription
from gateway_core.errors import CANCELLED, INVALID_REQUEST, RpcError
from gateway_core.exchange.exchange import NO_BACK, Agent
from gateway_core.inline.driver import Running
from gateway_core.mcp import jsonrpc
from gateway_core.mcp.names import CHANGING, UPDATED, list_changed

PRIMED_SINCE: Final = "2025-11-25"
"""The first revision whose agents accept events without data; older agents treat them as malformed messages."""
LIST_CHANGED: Final = {kind: jsonrpc.notification(list_changed(kind)) for kind in CHANGING}

RequestKey = int | str
"""The decoded id of a request; the type counts: `1` is not `"1"` (basic/index, Requests)."""


def request_key(raw_id: Raw) -> RequestKey:
    """A request's id as a key."""
    try:
        return int(raw_id)
    except ValueError:
        key: RequestKey = jsonrpc.value(raw_id)
        return key


class Session:
    """The session of one agent: identified by its id over HTTP, or bound to its channel (SSE, stdio)."""

    __slots__ = (
        "address",
        "agent",
        "busy_since",
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
        """`owner`: the principal's id for session limits; a later `initialize` does not change it."""
        self.id = secrets.token_urlsafe(32)
        self.address = address
        self.owner = owner
        self.agent: Agent | None = None
        """None before `initialize`; see `introduce`."""
        self.primed = False
        """Whether this agent's streams begin with an event without data."""
        self.ready = False
        """Whether the agent has sent `notifications/initialized`; before that it gets no change notifications."""
        self.mailbox = Mailbox()
        """Messages outside of requests. Standalone streams take from it; each message goes to one stream only."""
        self.streams = 0
        """The number of open GET streams."""
        self.kept = EventStore()
        """Event store: the streams that this agent can resume."""
        self.calls: dict[RequestKey, Running[CallResult]] = {}
        """Requests in flight, by the agent's request ids; `ended` removes them."""
        self.busy_since = 0.0
        """Monotonic time since which it has always had requests in flight; meaningless without any."""
        self.subscriptions: dict[RequestKey, Subscription] = {}
        """Open listen requests on this agent's channel, by the agent's request ids."""
        self.questions = AgentQuestions()
        self.watched: Watched | None = None
        """The resources that the agent has subscribed to; None before the first subscription."""
        self.log_level = ""
        """The lowest log level that the agent wants; empty (no log messages) until it sets one."""
        self.used = time.monotonic()
        """Monotonic time of the last use: a message came in, or a request or a GET stream ended."""
        self.own_channel = False
        """Whether it is bound to a two-way channel, the only way to reach its agent."""

    def introduce(self, agent: Agent) -> None:
        """Set the agent of the session."""
        self.agent = agent
        self.primed = agent.protocol_version >= PRIMED_SINCE

    def touch(self) -> None:
        self.used = time.monotonic()

    def new_key(self, raw_id: Raw) -> RequestKey:
        """The key of a new request. Raises `RpcError` if its id is already in flight (basic/index, Requests)."""
        key = request_key(raw_id)
        if key in self.calls or key in self.subscriptions:
            raise RpcError.of_gateway(INVALID_REQUEST, "a request with this id is still in flight")
        self.used = time.monotonic()
        if not self.calls:
            self.busy_since = self.used
        return key

    def ended(self, key: RequestKey) -> None:
        """Remove a request that has ended from those in flight."""
        del self.calls[key]
        self.used = time.monotonic()

    @property
    def busy(self) -> bool:
        """Whether it has open streams or calls in flight; if so, it does not expire."""
        return self.streams > 0 or bool(self.calls)

    @property
    def gives_way(self) -> bool:
        """Whether it may be evicted for a new one. After a 404 its agent initializes again; on a channel it cannot."""
        return not self.calls and not self.own_channel

    def keep(self, mailbox: Mailbox) -> StoredStream:
        """A resumable stream from `mailbox`, which is the session's mailbox or that of one request."""
        return self.kept.begin(mailbox, standalone=mailbox is self.mailbox, primed=self.primed)

    def changed(self, kinds: frozenset[str]) -> None:
        """Notify the agent that lists have changed, unless the same notification is already queued."""
        if self.ready:
            for kind in LIST_CHANGED.keys() & kinds:
                self.mailbox.put(LIST_CHANGED[kind], Keep.NOTICE, once=True)

    def updated(self, uri: str) -> None:
        """Notify the agent that a resource was updated, unless the same notification is already queued."""
        if self.ready:
            self.mailbox.put(jsonrpc.notification(UPDATED, {"uri": uri}), Keep.NOTICE, once=True)

    def end(self) -> None:
        """Cancel calls in flight and close the streams. Use `Services.end_session`: it also removes the session."""
        for task in list(self.calls.values()):
            task.cancel()
        self.questions.end()
        if self.watched is not None:
            self.watched.close()
        self.mailbox.close()
        self.kept.close()


class SessionBack:
    """Back channel through the mailbox of a session: to its two-way channel, or to its standalone streams."""

    __slots__ = ("_can_ask", "_limit", "_session")

    def __init__(self, session: Session, *, can_ask: bool = True, limit: float | None = None) -> None:
        """`limit`: seconds that the agent has to answer a question; None if the exchange bounds them."""
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
