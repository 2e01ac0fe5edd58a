"""What this process holds of a legacy session: calls in flight, queued messages, questions, resumable streams.

A `LiveSession` is built around a `SessionRecord`, which holds everything that may leave the process. It can be built
from that record alone. A session is looked up by its id and the key of the caller that opened it: to others it looks as
if it did not exist. A session id is not proof of identity (2025-11-25, Security Best Practices, Session Hijacking).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection
from typing import Final

import msgspec
from msgspec import Raw

from gateway_core.api import CallResult
from gateway_core.catalog.current import CurrentCatalog
from gateway_core.downstream.agents import principal_of
from gateway_core.downstream.auth.caller import Caller
from gateway_core.downstream.sessions.record import SessionRecord
from gateway_core.downstream.streams.event_store import EventStore, StoredStream
from gateway_core.downstream.streams.questions import AgentQuestions
from gateway_core.downstream.streams.stream import Keep, Mailbox
from gateway_core.downstream.subscriptions.asking import Ask
from gateway_core.downstream.subscriptions.resources import Watched
from gateway_core.downstream.subscriptions.subscription import Subscription
from gateway_core.errors import CANCELLED, INVALID_REQUEST, RpcError
from gateway_core.exchange.back import NO_BACK, NO_FIELDS
from gateway_core.exchange.exchange import Agent
from gateway_core.inline.driver import Running
from gateway_core.limits.accounts import UNCOUNTED, Account
from gateway_core.limits.budget import MemoryBudget
from gateway_core.mcp import jsonrpc
from gateway_core.mcp.names import CHANGING, UPDATED, list_changed
from gateway_core.upstream.upstream import Upstream

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


class SessionEvents(msgspec.Struct, frozen=True):
    """Callbacks about legacy sessions. All but `counted` are called with the id of a session first."""

    ended: Callable[[str], Awaitable[None] | None]
    """Closes the upstream sessions that depend on it."""
    log_level: Callable[[str, str], None] = lambda session_id, level: None
    """Called with its new log level."""
    roots_changed: Callable[[str], None] = lambda session_id: None
    """Called when its agent has changed its roots."""
    counted: Callable[[str, str, bool], None] = lambda key, owner, open_: None
    """Called with the key of a session, its owner, and whether it is open: when it begins and when it ends."""


class LiveSession:
    """The session of one agent: identified by its id over HTTP, or bound to its channel (SSE, stdio)."""

    __slots__ = (
        "_clock",
        "_question_timeout",
        "_watched",
        "agent",
        "calls",
        "kept",
        "mailbox",
        "questions",
        "record",
        "resumed",
        "subscriptions",
        "suspended",
    )

    def __init__(
        self,
        record: SessionRecord,
        clock: Callable[[], float] = time.monotonic,
        question_timeout: float | None = None,
        budget: MemoryBudget | None = None,
    ) -> None:
        """`clock`: the clock of the record's times. `question_timeout`: seconds that the agent has to answer a question
        outside of a call; None for no limit. `budget` counts what is queued and stored for the agent.
        """
        account = UNCOUNTED if budget is None else Account(budget, record.caller.network)
        self.record: Final = record
        self._clock = clock
        self._question_timeout = question_timeout
        self.agent: Agent | None = None
        """None before `initialize`; see `introduce`."""
        self.mailbox = Mailbox(account)
        """Messages outside of requests. Standalone streams take from it; each message goes to one stream only."""
        self.kept = EventStore(account)
        """Event store: the streams that this agent can resume."""
        self.calls: dict[RequestKey, Running[CallResult]] = {}
        """Requests in flight, by the agent's request ids; `began` adds and `ended` removes them."""
        self.subscriptions: dict[RequestKey, Subscription] = {}
        """Open listen requests on this agent's channel, by the agent's request ids."""
        self.questions = AgentQuestions()
        self.resumed = False
        """Whether an earlier process served it, whose streams have ended."""
        self.suspended = False
        """Whether it watches no resources until its agent comes back; the record says which."""
        self._watched: Watched | None = None
        """The resources that the agent has subscribed to; None before the first subscription."""
        if record.protocol_version:
            self._create_agent()

    def introduce(self, agent: Agent) -> None:
        """Make `agent`, as its `initialize` request described it, the agent of the session."""
        self.record.introduce(agent.protocol_version, agent.client_info, agent.capabilities)
        self._create_agent()

    def _create_agent(self) -> None:
        record = self.record
        self.agent = Agent(
            principal=principal_of(record.client_info, record.caller),
            era="legacy",
            protocol_version=record.protocol_version,
            client_info=record.client_info,
            capabilities=record.capabilities,
            session_id=record.id,
            session_key=record.key,
            standalone=SessionBack(self, limit=self._question_timeout),
            presented=record.caller.presented,
        )

    def renew(self, caller: Caller) -> None:
        """Let later requests have the rights that the caller has now. `caller` has the key of the session's."""
        before = self.record.caller
        if caller is before:
            return
        self.record.renew(caller)
        if self.agent is not None and not caller.proves_same(before):
            self._create_agent()
            if self._watched is not None:
                self._watched.renew(self.agent)

    def touch(self) -> None:
        self.record.touch(self._clock())

    def new_key(self, raw_id: Raw) -> RequestKey:
        """The key of a new request. Raises `RpcError` if its id is already in flight (basic/index, Requests)."""
        key = request_key(raw_id)
        if key in self.calls or key in self.subscriptions:
            raise RpcError.of_gateway(INVALID_REQUEST, "a request with this id is still in flight")
        return key

    def began(self, key: RequestKey, running: Running[CallResult]) -> None:
        """Add a request to those in flight."""
        if not self.calls:
            self.record.calls_begun(self._clock())
        self.calls[key] = running

    def ended(self, key: RequestKey) -> None:
        """Remove a request that has ended from those in flight."""
        del self.calls[key]
        if not self.calls:
            self.record.calls_ended(self._clock())

    def stream_opened(self) -> None:
        """Count a new GET stream; the caller must call `stream_ended` exactly once."""
        self.record.stream_opened()

    def stream_ended(self) -> None:
        self.record.stream_ended(self._clock())

    def watched(self, catalog: CurrentCatalog, call: Ask) -> Watched:
        """The resources that the agent watches, found in `catalog`. `call`: see `Watched`. Only after `initialize`."""
        if self._watched is None:
            assert self.agent is not None
            self._watched = Watched(catalog, self.agent, call, self.updated)
        return self._watched

    def reconsider(self, gone: Collection[Upstream]) -> None:
        """See `Watched.reconsider`."""
        if self._watched is not None:
            self._watched.reconsider(gone)

    def suspend_if_ended(self, now: float) -> None:
        """Watch no resources from now on if the credentials of its last request have ended. `now`: since the epoch."""
        principal, watched = self.record.caller.principal, self._watched
        if watched is None or principal is None or principal.expires is None or principal.expires > now:
            return
        if not self.record.on_channel:  # the channel ends with its credentials, and the session with it
            watched.close()
            self._watched, self.suspended = None, True

    def wake(self) -> None:
        """Its agent is back, with valid credentials."""
        self.suspended = False

    def resume(self) -> None:
        """Go on with the session of an earlier process: its agent may have missed that lists changed."""
        self.resumed = True
        self.changed(frozenset(CHANGING))

    def keep(self, mailbox: Mailbox) -> StoredStream:
        """A resumable stream from `mailbox`, which belongs to the session or to one request."""
        primed = self.record.protocol_version >= PRIMED_SINCE
        return self.kept.begin(mailbox, standalone=mailbox is self.mailbox, primed=primed)

    def changed(self, kinds: frozenset[str], principal: str = "") -> None:
        """Notify the agent that lists have changed, unless the same notification is already queued.

        `principal`: the one whose lists have changed; empty for all.
        """
        is_meant = not principal or (self.agent is not None and self.agent.principal.id == principal)
        if self.record.ready and is_meant:
            for kind in LIST_CHANGED.keys() & kinds:
                self.mailbox.put(LIST_CHANGED[kind], Keep.NOTICE, once=True)

    def updated(self, uri: str) -> None:
        """Notify the agent that a resource was updated, unless the same notification is already queued."""
        if self.record.ready:
            self.mailbox.put(jsonrpc.notification(UPDATED, {"uri": uri}), Keep.NOTICE, once=True)

    def end(self) -> None:
        """Cancel calls in flight and close the streams. Use `Sessions.end`: it also removes the session."""
        for task in list(self.calls.values()):
            task.cancel()
        self.questions.end()
        if self._watched is not None:
            self._watched.close()
        self.mailbox.close()
        self.kept.close()


class SessionBack:
    """Back channel through the mailbox of a session: to its two-way channel, or to its standalone streams."""

    __slots__ = ("_can_ask", "_limit", "_mailbox", "_questions", "_record")
    fields = NO_FIELDS

    def __init__(self, session: LiveSession, *, can_ask: bool = True, limit: float | None = None) -> None:
        """`limit`: seconds that the agent has to answer a question; None if the exchange bounds them."""
        # Not the session itself, whose agent has this channel: a cycle would keep the memory of ended sessions.
        self._record = session.record
        self._mailbox = session.mailbox
        self._questions = session.questions
        self._can_ask = can_ask
        self._limit = limit

    def notify(self, method: str, params: bytes) -> None:
        self._mailbox.notify(method, params)

    async def ask(self, method: str, params: bytes) -> bytes:
        if not self._can_ask or not (self._record.on_channel or self._record.streams):
            return await NO_BACK.ask(method, params)
        try:
            async with asyncio.timeout(self._limit):
                return await self._questions.ask(
                    lambda message: self._mailbox.put(message, Keep.ALWAYS), method, params
                )
        except TimeoutError:
            error = f"the client did not answer {method} within {self._limit:g} s"
            raise RpcError.of_gateway(CANCELLED, error) from None
