"""One request in flight, from its arrival to its final answer, and the two channels back to its agent.

`notify` carries progress (and, later, log messages) to the agent; `ask` carries questions (elicitation, sampling,
roots) and brings the answer. How they reach the agent is the downstream side's business (a `BackChannel`); what
they mean is the upstream side's.
"""

from __future__ import annotations

import asyncio
import itertools
import secrets
from dataclasses import dataclass, field
from typing import Final, Protocol

import msgspec
from msgspec import Raw

from gateway_core import jsonrpc
from gateway_core.errors import METHOD_NOT_FOUND, RpcError
from gateway_core.types import Era, Principal

_PROCESS: Final = secrets.token_hex(4)
_NUMBERS: Final = itertools.count(1)


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


class BackChannel(Protocol):
    """How one exchange reaches its agent. Implemented by the downstream side."""

    def notify(self, method: str, params: bytes) -> None:
        """Queue a notification for the agent; never blocks. When its bounded queue is full the oldest is dropped."""

    async def ask(self, method: str, params: bytes) -> bytes:
        """Put a question to the agent and wait for the result object. Raises `RpcError` when it refuses."""


class NoBackChannel:
    """For agents that can be told nothing before the answer: notifications are dropped, questions refused."""

    def notify(self, method: str, params: bytes) -> None:
        return

    async def ask(self, method: str, params: bytes) -> bytes:
        raise RpcError.of_gateway(METHOD_NOT_FOUND, f"this client cannot be asked: {method}")


@dataclass(slots=True)
class Exchange:
    """One request of an agent. Created by the downstream side, passed down to the upstream's connection."""

    agent: Agent
    method: str
    back: BackChannel = field(default_factory=NoBackChannel)
    progress_token: bytes = b""
    """The agent's own token as raw JSON; empty when it asked for no progress."""
    headers: tuple[tuple[str, str], ...] | None = None
    """`Mcp-Param-*` headers of the agent's request, which a modern upstream over HTTP gets too; None for an agent
    whose era or transport has none."""
    id: str = field(default_factory=lambda: f"{_PROCESS}{next(_NUMBERS):x}")
    """Unique in this process and, by its random beginning, among processes; in every log record about it."""
    upstream: str | None = None
    """The upstream that the current attempt goes to."""
    sent: bool = False
    """Whether a byte of any attempt may have left. Set by the connection just before it writes."""
    touched: bool = False
    """Whether anything went to the agent; from then on the request is never sent again (rule R4)."""
    timeout: asyncio.Timeout | None = None
    """The one deadline of the exchange; progress moves it."""
    ended: str = ""
    """Why it was ended before its deadline, by the gateway itself; empty otherwise."""
    idle_limit: float = 60.0
    """Seconds that one progress notification buys."""
    hard_deadline: float = float("inf")
    """Loop time past which progress buys nothing more."""
    _progress: float = float("-inf")

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
        members["progressToken"] = Raw(self.progress_token)
        self.touched = True
        self.back.notify("notifications/progress", jsonrpc.encode(members))

    def end(self, reason: str) -> None:
        """End it now, as if its deadline had passed, for `reason`."""
        if self.timeout is not None and not self.timeout.expired():
            self.ended = reason
            self.timeout.reschedule(asyncio.get_running_loop().time())

    def extend(self) -> None:
        """Move the deadline to `idle_limit` from now, never past the hard one."""
        if self.timeout is None or self.timeout.expired() or self.ended:
            return
        when = min(asyncio.get_running_loop().time() + self.idle_limit, self.hard_deadline)
        current = self.timeout.when()
        if current is not None and when > current:
            self.timeout.reschedule(when)
