"""One request in flight, from its arrival to its final answer, and its two channels back to the agent.

`notify` sends progress and log messages to the agent; `ask` sends questions (elicitation, sampling, roots) and returns
the answer. The downstream side delivers them (`BackChannel`); the upstream side creates and interprets them.
"""

from __future__ import annotations

import asyncio
import itertools
import secrets
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import msgspec
from msgspec import Raw

from gateway_core.api import Call, Era, Principal
from gateway_core.exchange.back import NO_BACK, BackChannel
from gateway_core.exchange.hops import Hops
from gateway_core.exchange.naming import naming
from gateway_core.exchange.no_answer import NoAnswer
from gateway_core.exchange.presented import NOTHING, Presented
from gateway_core.exchange.progress import ProgressThrottle
from gateway_core.exchange.trail import Happened, Trail
from gateway_core.exchange.unanswered import Unanswered
from gateway_core.inline.deadlines import Deadline
from gateway_core.mcp import jsonrpc
from gateway_core.mcp.names import LOG_LEVELS, LOG_MESSAGE, PROGRESS
from gateway_core.mcp.reserved import without_reserved

_PROCESS: Final = secrets.token_hex(4)
_NUMBERS: Final = itertools.count(1)


def _new_id() -> str:
    """An id that is unique in this process and, by its random prefix, among processes."""
    return f"{_PROCESS}{next(_NUMBERS)}"


@dataclass(frozen=True, slots=True)
class Agent:
    """The client that made a request: its claimed or proven identity, era, and declared capabilities."""

    principal: Principal
    era: Era
    protocol_version: str
    client_info: bytes = b""
    """The JSON of its `Implementation`; empty if it sent none."""
    capabilities: bytes = b"{}"
    """The JSON of its `ClientCapabilities`."""
    session_id: str | None = None
    """Id of its legacy session, which its upstream sessions are tied to; None for modern agents."""
    session_key: str = ""
    """What plugins get in place of `session_id`, which is a credential; empty for modern agents."""
    standalone: BackChannel | None = field(default=None, compare=False, repr=False)
    """Back channel to a legacy agent outside of requests, on its standalone stream; None for modern agents."""
    plans: dict[bytes, Any] = field(default_factory=dict, compare=False, repr=False)
    """Its cached call plans, by the JSON of the name in the call; see `pipeline/plans.py`."""
    presented: Presented = field(default=NOTHING, compare=False, repr=False)
    """Secrets that its request presents for single upstreams; plugins do not get them."""
    viewer: str = field(init=False, default="", compare=False, repr=False)
    """Whose lists it sees: the principal's id, with a digest of what it presents, because others may share the id."""

    def __post_init__(self) -> None:
        other = self.presented.viewer
        object.__setattr__(self, "viewer", f"{self.principal.id}#{other}" if other else self.principal.id)


class Limiter(Protocol):
    """A concurrency limiter. A call releases its slot while its agent answers questions."""

    def release(self) -> None:
        """Release the slot to other calls."""

    def reacquire(self) -> None:
        """Take a slot again for the rest of the call, without waiting."""


class Exchange(msgspec.Struct, eq=False):
    """One request of an agent, created by the downstream side and passed down to the upstream's connection."""

    agent: Agent
    method: str
    back: BackChannel = NO_BACK
    progress_token: bytes = b""
    """The agent's progress token as raw JSON; empty if it asked for no progress."""
    headers: tuple[tuple[str, str], ...] | None = None
    """`Mcp-Param-*` headers of the agent's request, which are passed on to modern upstreams over HTTP; None if the
    agent's era or transport has none."""
    log_level: str = ""
    """The lowest log level that the agent wants during this request; empty for no log messages."""
    meta: Mapping[str, Raw] | None = None
    """The members of `_meta` of the agent's request; None if they are not decoded yet."""
    id: str = msgspec.field(default_factory=_new_id)
    """Unique in this process and, by its random prefix, among processes; in every log record about the request."""
    generation: int = 0
    """The number of the configuration that judges and serves it; every log record about the request names it. 0 until
    a pipeline begins it: the gateway sends some requests in the name of an agent without one."""
    origin: Call | None = None
    """The call as the agent made it, before any plugin; None until its target is looked up."""
    upstream: str | None = None
    """The name of the upstream of the current attempt."""
    missing: Mapping[str, Any] | None = None
    """The undeclared `ClientCapabilities` because of which a question was not sent; None if there was none."""
    sent: bool = False
    """Whether a byte of any attempt may have left. Set by the connection just before it writes."""
    touched: bool = False
    """Whether anything was passed on to the agent; from then on the request is never sent again (rule R4)."""
    deadline: Deadline | None = None
    """The only deadline of the exchange; progress extends it."""
    ended: str = ""
    """The reason why the gateway ended it before its deadline; otherwise empty."""
    asker: Callable[[str, bytes], Awaitable[bytes]] | None = None
    """Sends questions instead of `back`, for an agent that gets questions as the answer to its request."""
    question_limit: float = 300.0
    """Seconds that the agent has to answer one question; this time does not count against the deadline."""
    held: tuple[Limiter, ...] = ()
    """The limiters that it holds a slot of, in order of acquisition."""
    away: bool = False
    """Whether the call is parked until its agent brings answers; its slots are released meanwhile."""
    unanswered: Unanswered | None = None
    """Its request, if it was abandoned after it was sent. Set by the connection."""
    trail: Trail | None = None
    """What happened to it; None as long as nothing did that a usual call lacks."""
    hops: Hops | None = None
    """Follows its requests to upstreams; None if no plugin traces it."""
    _progress: float = float("-inf")
    _throttle: ProgressThrottle | None = None
    _resumed: Exchange | None = None
    """The parked exchange that this one resumes."""
    waited: float = 0.0
    """Seconds spent waiting for the agent's answers."""
    asking: int = 0
    away_since: float = 0.0
    """Loop time at which the current wait for the agent's answers began; 0 before the first."""

    @property
    def conversation(self) -> str:
        """A key that all exchanges of one legacy session share; the exchange's own id without a session."""
        return self.agent.session_id or self.id

    @property
    def log_fields(self) -> dict[str, str | int]:
        """The fields of a log record about it."""
        if not self.generation:
            return {"exchange": self.id}
        return {"exchange": self.id, "generation": self.generation}

    def begin(self, deadline: Deadline, question_limit: float, generation: int) -> None:
        """Set its deadline, the seconds that its agent has for the answer to one question, and its generation."""
        self.deadline, self.question_limit, self.generation = deadline, question_limit, generation

    def identify(self, origin: Call) -> None:
        """Set `origin`."""
        self.origin = origin

    def follow(self, hops: Hops) -> None:
        """Set `hops`."""
        self.hops = hops

    def attempt(self, upstream: str) -> None:
        """Record the upstream that the next attempt goes to."""
        self.upstream = upstream

    def mark(self, what: Happened, upstream: str = "", text: str = "") -> None:
        """Add to `trail`."""
        if self.trail is None:
            self.trail = Trail()
        self.trail.add(what, upstream, text)

    def pass_on(self, headers: tuple[tuple[str, str], ...]) -> None:
        """Replace the headers that are passed on."""
        self.headers = headers

    def divert_questions(self, asker: Callable[[str, bytes], Awaitable[bytes]] | None) -> None:
        """Send questions through `asker` instead of the back channel; None: through the back channel again."""
        self.asker = asker

    def lacks(self, capabilities: Mapping[str, Any] | None) -> None:
        """Set `missing`."""
        self.missing = capabilities

    def hold(self, limiter: Limiter) -> None:
        """Record a slot that this exchange has acquired; the caller must call `let_go`."""
        self.held += (limiter,)

    def let_go(self, limiter: Limiter) -> None:
        """Give up the slot of `limiter`, and release it unless it is released already (`away`)."""
        held = self.held
        self.held = () if len(held) == 1 else tuple(it for it in held if it is not limiter)
        if not self.away:
            limiter.release()

    def give_up(self, unanswered: Unanswered) -> None:
        """Set `unanswered`."""
        self.unanswered = unanswered

    def mark_sent(self) -> None:
        """Set `sent`. A connection calls this just before it writes the first byte of the request."""
        self.sent = True

    def progress(self, params: Raw) -> None:
        """Pass an upstream's progress on with the agent's token, if it is increasing, and extend the deadline.

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
        if self.trail is None:
            self.trail = Trail()
        self.trail.progress(self.upstream or "")
        if not self.progress_token:
            return
        if "_meta" in members:
            members = jsonrpc.members(without_reserved(bytes(params)))
        if self._throttle is None:
            self._throttle = ProgressThrottle()
        self._throttle.put(members, self._tell_progress)

    def _tell_progress(self, members: dict[str, Raw]) -> None:
        members["progressToken"] = Raw(self.progress_token)
        self.tell(PROGRESS, jsonrpc.encode(members))

    def log(self, level: str, params: Raw) -> None:
        """Pass an upstream's log message on, if the agent wants messages of that `level` during this request."""
        if admits(self.log_level, level):
            self.tell(LOG_MESSAGE, bytes(params))

    def tell(self, method: str, params: bytes) -> None:
        """Pass a notification on to the agent."""
        self.touched = True
        self.back.notify(method, params)

    def close(self) -> None:
        """Close the back channel before the answer: send held progress, and drop later notifications."""
        if self._resumed is not None:
            self._resumed.close()
        if self._throttle is not None:
            self._throttle.flush(self._tell_progress)
        self.back = NO_BACK

    async def ask(self, upstream: str, method: str, params: bytes) -> bytes:
        """Send a question of `upstream` to the agent and wait for the result object; the deadline is suspended.

        Raises `RpcError` if the agent refuses, cannot be asked, or does not answer within `question_limit` seconds.
        """
        self.touched = True
        params = naming(upstream, params)
        if self.asker is not None:
            return await self._marked(upstream, method, self.asker(method, params))
        return await self._asked(upstream, method, self.back.ask(method, params), self.question_limit)

    async def ask_before_sending(
        self, who: str, method: str, asking: Coroutine[Any, Any, bytes], seconds: float, place: Limiter
    ) -> bytes:
        """Wait up to `seconds` for the answer that `asking` brings to a question of `who` in the gateway.

        `place` is released meanwhile. Raises as `ask`."""
        self.away = True
        place.release()
        try:
            return await self._asked(who, method, asking, min(seconds, self.question_limit))
        finally:
            self.away = False
            place.reacquire()

    async def _asked(self, who: str, method: str, asking: Coroutine[Any, Any, bytes], seconds: float) -> bytes:
        loop = asyncio.get_running_loop()
        if not self.asking:
            self.away_since = loop.time()
        self.asking += 1
        deadline = self.deadline
        if deadline is not None and not self.ended:
            # A missing answer must not end the call: the asker gets an error, and time to finish.
            deadline.suspend(self.question_limit)
            deadline.tell_asking()
        try:
            async with asyncio.timeout(seconds):
                return await self._marked(who, method, asking)
        except TimeoutError:
            raise NoAnswer(who, method, seconds) from None
        finally:
            self.asking -= 1
            if not self.asking:
                waited = loop.time() - self.away_since
                self.waited += waited
                if self.deadline is not None and not self.ended:
                    self.deadline.resume(waited)
                if deadline is not None:
                    deadline.tell_asking()

    async def _marked(self, who: str, method: str, asking: Awaitable[bytes]) -> bytes:
        """Wait for an answer, and add to `trail` when the question began and ended."""
        self.mark("asked", who, method)
        ended: Happened = "unanswered"
        try:
            answer = await asking
            ended = "answered"
            return answer
        finally:
            self.mark(ended, who, method)

    def leave(self) -> None:
        """Detach from the agent's request, which ended with questions: drops notifications, suspends the deadline."""
        if self._throttle is not None:
            self._throttle.flush(self._tell_progress)
        self.away_since = asyncio.get_running_loop().time()
        self.back, self.deadline, self.progress_token = NO_BACK, None, b""
        self.away = True
        self.mark("parked")
        for limiter in self.held:
            limiter.release()

    def rejoin(self, other: Exchange) -> None:
        """Attach to `other`, the agent's next request, which brings the answers and gets the result of this call."""
        self.waited += asyncio.get_running_loop().time() - self.away_since
        self.back, self.deadline, self.progress_token = other.back, other.deadline, other.progress_token
        other.upstream, other.sent, other.touched = self.upstream, True, True
        self.log_level, other._resumed = other.log_level, self
        self.away = False
        self.mark("resumed")
        other.trail = self.trail
        for limiter in self.held:
            limiter.reacquire()

    def end(self, reason: str) -> None:
        """End it now, by moving the deadline to the present; `reason` is kept in `ended`."""
        if self.deadline is not None and not self.deadline.passed:
            self.ended = reason
            self.deadline.expire()

    def extend(self) -> None:
        """Extend the deadline after progress, unless the gateway has ended the call or its agent is being asked."""
        if self.deadline is not None and not self.ended and not self.asking:
            self.deadline.extend()


def admits(wanted: str, level: str) -> bool:
    """Whether `level` is at least as severe as `wanted`; False if either is not a log level."""
    return wanted in LOG_LEVELS and level in LOG_LEVELS[LOG_LEVELS.index(wanted) :]
