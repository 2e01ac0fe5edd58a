"""One request in flight, from its arrival to its final answer, and the two channels back to its agent.

`notify` carries progress and log messages to the agent; `ask` carries questions (elicitation, sampling, roots) and
brings the answer. How they reach the agent is the downstream side's business (a `BackChannel`); what they mean is the
upstream side's.
"""

from __future__ import annotations

import asyncio
import itertools
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import msgspec
from msgspec import Raw

from gateway_core.api import Call, Era, Principal
from gateway_core.errors import CANCELLED, METHOD_NOT_FOUND, RpcError
from gateway_core.mcp import jsonrpc
from gateway_core.mcp.names import LOG_LEVELS, LOG_MESSAGE, PROGRESS, UPSTREAM_KEY

_IDS: Final = map(f"{secrets.token_hex(4)}{{}}".format, itertools.count(1))

PROGRESS_BURST: Final = 64
"""Progress notifications of one request that are passed on as they come."""
PROGRESS_SPACING: Final = 0.05
"""Seconds between those above that; of what comes meanwhile the last one counts (basic/patterns/progress)."""


@dataclass(frozen=True, slots=True)
class Agent:
    """The client behind an exchange: proven or claimed identity, era, and what it declared."""

    principal: Principal
    era: Era
    protocol_version: str
    client_info: bytes = b""
    """The JSON of its `Implementation`; empty when it gave none."""
    capabilities: bytes = b"{}"
    """The JSON of its `ClientCapabilities`."""
    session_id: str | None = None
    """Key of its legacy session, which upstream sessions are tied to; None for modern agents."""
    standing: BackChannel | None = field(default=None, compare=False, repr=False)
    """Reaches a legacy agent outside of any request, on its standing stream; None for modern agents."""
    plans: dict[bytes, Any] = field(default_factory=dict, compare=False, repr=False)
    """Its call plans, by the JSON of the name in the call; see `plans.py`."""


class BackChannel(Protocol):
    """How one exchange reaches its agent. Implemented by the downstream side."""

    def notify(self, method: str, params: bytes) -> None:
        """Queue a notification for the agent; never blocks. When its bounded queue is full the oldest is dropped."""

    async def ask(self, method: str, params: bytes) -> bytes:
        """Put a question to the agent and wait for the result object. Raises `RpcError` when it refuses.

        Whoever stops waiting takes the question back.
        """


class Limiter(Protocol):
    """A limit on calls at an upstream. A call releases its place while its agent thinks about a question."""

    def release(self) -> None:
        """Let others have the place."""

    def reacquire(self) -> None:
        """Have it again at once, for what is left of the call."""


class Deadline(Protocol):
    """When an exchange has to end; its call keeps it, see `driver.InlineCall`."""

    when: float
    """Loop time."""
    passed: bool

    def move(self, when: float) -> None:
        """Set it to the loop time `when`; without effect once it has passed."""


class NoBackChannel:
    """For agents that can be told nothing before the answer: notifications are dropped, questions refused."""

    def notify(self, method: str, params: bytes) -> None:
        return

    async def ask(self, method: str, params: bytes) -> bytes:
        raise RpcError.of_gateway(METHOD_NOT_FOUND, f"this client cannot be asked: {method}")


class _Pace:
    """One request's progress on its way to the agent: as it comes, but in a storm the last of each moment."""

    __slots__ = ("_held", "_left", "_since", "_timer")

    def __init__(self) -> None:
        self._left = float(PROGRESS_BURST)
        self._since = 0.0
        self._held: dict[str, Raw] | None = None
        self._timer: asyncio.TimerHandle | None = None

    def put(self, members: dict[str, Raw], send: Callable[[dict[str, Raw]], None]) -> None:
        loop = asyncio.get_running_loop()
        if self._timer is not None:
            self._held = members
            return
        now = loop.time()
        self._left = min(PROGRESS_BURST, self._left + (now - self._since) / PROGRESS_SPACING)
        self._since = now
        if self._left >= 1:
            self._left -= 1
            send(members)
        else:
            self._held = members
            self._timer = loop.call_later(PROGRESS_SPACING, self.flush, send)

    def flush(self, send: Callable[[dict[str, Raw]], None]) -> None:
        """Send now what is held back."""
        held, self._held = self._held, None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._since += PROGRESS_SPACING  # what is sent now has used up what these seconds would have given
        if held is not None:
            send(held)


NO_BACK: Final = NoBackChannel()


@dataclass(slots=True, eq=False)
class Exchange:
    """One request of an agent. Created by the downstream side, passed down to the upstream's connection."""

    agent: Agent
    method: str
    back: BackChannel = NO_BACK
    progress_token: bytes = b""
    """The agent's own token as raw JSON; empty when it asked for no progress."""
    headers: tuple[tuple[str, str], ...] | None = None
    """`Mcp-Param-*` headers of the agent's request, which a modern upstream over HTTP gets too; None for an agent
    whose era or transport has none."""
    log_level: str = ""
    """The least severe log messages that the agent wants during this request; empty for none at all."""
    meta: Mapping[str, Raw] | None = None
    """The members of `_meta` of the agent's request, where they were taken apart already."""
    id: str = field(default_factory=_IDS.__next__)
    """Unique in this process and, by its random beginning, among processes; in every log record about it."""
    origin: Call | None = None
    """The call as the agent made it, before any plugin; set by the pipeline."""
    upstream: str | None = None
    """The upstream that the current attempt goes to."""
    missing: Mapping[str, Any] | None = None
    """The `ClientCapabilities` that a question would have needed which was not put, because they are not declared."""
    sent: bool = False
    """Whether a byte of any attempt may have left. Set by the connection just before it writes."""
    touched: bool = False
    """Whether anything went to the agent; from then on the request is never sent again (rule R4)."""
    deadline: Deadline | None = None
    """The one deadline of the exchange; progress moves it."""
    ended: str = ""
    """Why it was ended before its deadline, by the gateway itself; empty otherwise."""
    idle_limit: float = 60.0
    """Seconds that one progress notification buys."""
    asker: Callable[[str, bytes], Awaitable[bytes]] | None = None
    """Takes the questions in place of `back`, for an agent that can only be asked by an answer to its request."""
    question_limit: float = 300.0
    """Seconds that the agent has to answer one question; they do not count against the deadline."""
    held: tuple[Limiter, ...] = ()
    """The limiters that it holds a place of, the last one first to be released."""
    away: bool = False
    """Whether its agent looks for answers; then others have its places."""
    hard_deadline: float = float("inf")
    """Loop time past which progress buys nothing more."""
    _progress: float = float("-inf")
    _pace: _Pace | None = None
    _resumed: Exchange | None = None
    """The earlier exchange that this one brings its agent back to."""
    waited: float = 0.0
    """Seconds that went by while the agent was looking for answers."""
    _asking: int = 0
    _away_since: float = 0.0
    """Loop time since when the agent looks for answers, as long as it does."""

    @property
    def conversation(self) -> str:
        """What it is part of: exchanges of one legacy session have the same one, any other stands alone."""
        return self.agent.session_id or self.id

    def hold(self, limiter: Limiter) -> None:
        """It has acquired a place; `let_go` is due."""
        self.held += (limiter,)

    def let_go(self, limiter: Limiter) -> None:
        """Release the place that it holds of `limiter`; others have it already while the agent is away."""
        held = self.held
        self.held = () if len(held) == 1 else tuple(it for it in held if it is not limiter)
        if not self.away:
            limiter.release()

    def mark_sent(self) -> None:
        """Called by a connection just before the first byte of the request may leave."""
        self.sent = True

    def progress(self, params: Raw) -> None:
        """Pass an upstream's progress on under the agent's own token, if it is increasing, and move the deadline.

        Source: basic/patterns/progress (tokens are per request; `progress` must increase).
        """
        members = jsonrpc.members(params)
        try:
            value = msgspec.json.decode(members.get("progress", Raw(b"null")), type=float)
        except msgspec.DecodeError:
            return
        if value <= self._progress:
            return
        self._progress = value
        self.extend()
        if not self.progress_token:
            return
        if self._pace is None:
            self._pace = _Pace()
        self._pace.put(members, self._tell_progress)

    def _flush_progress(self) -> None:
        if self._pace is not None:
            self._pace.flush(self._tell_progress)

    def _tell_progress(self, members: dict[str, Raw]) -> None:
        members["progressToken"] = Raw(self.progress_token)
        self.tell(PROGRESS, jsonrpc.encode(members))

    def log(self, level: str, params: Raw) -> None:
        """Pass an upstream's log message on, if the agent asked for messages of that `level` during this request."""
        if admits(self.log_level, level):
            self.tell(LOG_MESSAGE, bytes(params))

    def tell(self, method: str, params: bytes) -> None:
        """Pass a notification on to the agent."""
        self.touched = True
        self.back.notify(method, params)

    def close(self) -> None:
        """The answer is next: what is held back goes before it, and nothing after it."""
        if self._resumed is not None:
            self._resumed.close()
        if self._pace is not None:
            self._flush_progress()
        self.back = NO_BACK

    async def ask(self, upstream: str, method: str, params: bytes) -> bytes:
        """Put a question of `upstream` to the agent and wait for the result object; the deadline waits, too.

        Raises `RpcError` when the agent refuses, cannot be asked, or does not answer within `question_limit` seconds.
        """
        self.touched = True
        params = naming(upstream, params)
        if self.asker is not None:
            return await self.asker(method, params)
        loop = asyncio.get_running_loop()
        if not self._asking:
            self._away_since = loop.time()
        self._asking += 1
        # An agent that does not answer must not end the call: its server is told, and has its usual time then.
        self._wait_until(loop.time() + self.question_limit + self.idle_limit)
        try:
            async with asyncio.timeout(self.question_limit):
                return await self.back.ask(method, params)
        except TimeoutError:
            error = f"the client did not answer {method} of {upstream} within {self.question_limit:g} s"
            raise RpcError.of_gateway(CANCELLED, error) from None
        finally:
            self._asking -= 1
            if not self._asking:
                waited = loop.time() - self._away_since
                self.waited += waited
                self.hard_deadline += waited
                self._wait_until(min(loop.time() + self.idle_limit, self.hard_deadline))

    def _wait_until(self, when: float) -> None:
        if self.deadline is not None and not self.ended:
            self.deadline.move(when)

    def leave(self) -> None:
        """The agent has gone to find answers: nothing reaches it, and no deadline of a request runs meanwhile."""
        self._flush_progress()
        self._away_since = asyncio.get_running_loop().time()
        self.back, self.deadline, self.progress_token = NO_BACK, None, b""
        self.away = True
        for limiter in self.held:
            limiter.release()

    def rejoin(self, other: Exchange) -> None:
        """The agent is back with another request, `other`, whose call this one goes on to be."""
        self.waited += asyncio.get_running_loop().time() - self._away_since
        self.back, self.deadline, self.progress_token = other.back, other.deadline, other.progress_token
        self.hard_deadline, self.idle_limit = other.hard_deadline, other.idle_limit
        other.upstream, other.sent, other.touched = self.upstream, True, True
        self.log_level, other._resumed = other.log_level, self
        self.away = False
        for limiter in self.held:
            limiter.reacquire()

    def end(self, reason: str) -> None:
        """End it now, as if its deadline had passed, for `reason`."""
        if self.deadline is not None and not self.deadline.passed:
            self.ended = reason
            self.deadline.move(asyncio.get_running_loop().time())

    def extend(self) -> None:
        """Move the deadline to `idle_limit` from now, never past the hard one."""
        deadline = self.deadline
        if deadline is None or self.ended or self._asking:
            return
        now = asyncio.get_running_loop().time()
        when = min(now + self.idle_limit, self.hard_deadline)
        if now < deadline.when < when:
            deadline.move(when)


def admits(wanted: str, level: str) -> bool:
    """Whether who wants log messages from the level `wanted` on gets one of `level`; with none wanted, none."""
    return wanted in LOG_LEVELS and level in LOG_LEVELS[LOG_LEVELS.index(wanted) :]


def naming(upstream: str, params: bytes) -> bytes:
    """The params of a question with the name of the upstream that asks, since agents see one server, the gateway.

    Those that are no object, or whose `_meta` is none, stay as they are, for the agent to refuse.
    """
    try:
        members = jsonrpc.members(params)
        meta = jsonrpc.members(members.get("_meta", Raw()))
    except RpcError:
        return params
    meta[UPSTREAM_KEY] = Raw(jsonrpc.encode(upstream))
    return jsonrpc.encode(members | {"_meta": Raw(jsonrpc.encode(meta))})
