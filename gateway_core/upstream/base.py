"""The interface of an upstream transport: a `Connection` carries requests in the upstream's era.

A connection is one MCP session over one transport: a child process, an SSE stream, or a Streamable HTTP session.
It generates its own request ids and progress tokens, so ids of different agents cannot collide. `deliver` has four
outcomes. The difference between the first two keeps a tool from running twice:

- raises `NotSent`: no byte was sent; the caller may try another upstream;
- raises `OutcomeUnknown`: bytes may have been sent and no answer came;
- raises `RefusedUpstream`: the upstream refused before executing (an HTTP status says so);
- returns a `Reply`: the upstream's final answer.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import msgspec
from msgspec import Raw

from gateway_core.api import Era
from gateway_core.errors import NotSent, OutcomeUnknown, RefusedUpstream, RpcError, UnusableAnswer
from gateway_core.exchange.exchange import Agent, Exchange
from gateway_core.exchange.unanswered import Unanswered
from gateway_core.limits.accounts import UNCOUNTED, Account
from gateway_core.mcp.cache_hints import Hint
from gateway_core.upstream.requests import Reply, Request, Template


class Watcher(Protocol):
    """Resource subscriptions of one connection. Calls of `watch` must not overlap."""

    async def watch(self, uris: frozenset[str]) -> Mapping[str, RpcError | NotSent]:
        """Subscribe to exactly these resources. Returns the resources that the server refused, with the error
        (`NotSent`: no answer in time).

        Raises `DeliveryError` if the server cannot be asked. The caller bounds the time.
        """


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """What a server said about itself during negotiation (`initialize` or `server/discover`)."""

    era: Era
    protocol_version: str
    capabilities: Mapping[str, Any] = field(default_factory=dict)
    name: str = ""
    version: str = ""
    instructions: str | None = None
    hint: Hint = field(default_factory=Hint)
    """How long a modern server declares this valid, and whether for all callers."""


class ClientContext(msgspec.Struct, frozen=True):
    """The client session context of a connection: its agent, declared capabilities, and notification callback."""

    on_notification: Callable[[str, Raw, Exchange | None], None]
    """Called on every notification except progress and cancellations, with its method and raw params. The third
    argument is the exchange on whose stream it arrived, if the transport knows it."""
    capabilities: Mapping[str, Any] = msgspec.field(default_factory=dict)
    """The `ClientCapabilities` declared to the server."""
    agent: Agent | None = None
    """The only agent on the connection; None if agents share it."""
    clean: Callable[[bytes], bytes] = bytes
    """Hides secrets of the gateway in a message from the server."""
    account: Account = UNCOUNTED
    """Counts large messages of the server."""


class NoMcpAnswer(OutcomeUnknown):
    """The peer answered, but not with an MCP message: an HTTP status, a web page, bytes that are not JSON-RPC.

    In an era probe this means a legacy server. For any other request it is a failed delivery.
    """


class SessionEnded(OutcomeUnknown):
    """A legacy server answered 404 to a session id: a new session is needed (2025-11-25, transports).

    A 404 can arrive after the tool ran, so it is an `OutcomeUnknown` (rule R6).
    """


class SessionGone(NotSent):
    """The session with the server ended before the request was sent: a new session can serve it."""

    def __init__(self, why: str) -> None:
        """`why`: why the session ended."""
        super().__init__(f"its session is over: {why}")


ANSWERED: Final = (RefusedUpstream, UnusableAnswer, SessionEnded)
"""Failures in which the server answered: they say nothing against its health."""


class Connection(ABC):
    """One MCP session with an upstream. `open` connects and negotiates, `close` ends it."""

    name = ""
    """The upstream's name."""
    info: ServerInfo | None = None
    """Set when `open` succeeds."""
    watcher: Watcher | None = None
    """Handles resource subscriptions; set together with `info`."""
    closed: bool = False
    """Whether it can no longer carry requests (the child died, the stream ended, `close` was called)."""
    stateful: bool = False
    """Whether the server opened a session on it (`Mcp-Session-Id`), so that agents must not share it."""
    excused_until: float = 0.0
    """Loop time until which a cancelled call may still keep the server busy: the call's deadline."""

    @abstractmethod
    async def open(self, known_era: Era | None) -> ServerInfo:
        """Connect the transport and negotiate the era by the specification's probing rules.

        `known_era` is the era that the server spoke last time. It is tried first; if it fails, the era is probed.
        Raises `NotSent` if the transport cannot be set up, `RpcError` if the server refuses every version,
        `OutcomeUnknown` if the server disconnects during the handshake. The caller bounds the time.
        """

    @abstractmethod
    def deliver(
        self, request: Request, exchange: Exchange | None = None, headers: Mapping[str, str] | None = None
    ) -> Coroutine[Any, Any, Reply]:
        """Send one request and wait for its answer; the caller bounds the time by cancelling.

        The connection removes from `request.meta` the keys that belong to the agent's hop, and adds its own. With an
        `exchange`, it requests progress and passes it on, and calls `exchange.mark_sent()` just before the first
        byte may be sent. `headers` are `Mcp-Param-*` headers for a modern upstream over HTTP.

        On cancellation it notifies the upstream, in the form of its era, without waiting.
        """

    async def request(
        self,
        method: str,
        params: Mapping[str, Any],
        *,
        meta: Mapping[str, Any] | None = None,
        exchange: Exchange | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        """`deliver` a request with `params` that lack only `_meta`."""
        return await self.deliver(Request(method, params, meta), exchange, headers)

    def template(self, request: Request, exchange: Exchange | None) -> Template | None:
        """The prepared bytes for requests of this plan; None if each request must be encoded completely."""
        kept = request.templates
        if kept is None or exchange is None or exchange.log_level:
            return None
        found = kept.get(self.name)
        if found is None or found[0] is not self:
            found = kept[self.name] = (self, self._make_template(request, exchange))
        return found[1]

    def _make_template(self, request: Request, exchange: Exchange) -> Template | None:
        """Prepare the bytes for the agent of this exchange."""
        return None

    @abstractmethod
    async def notify(self, method: str, params: Mapping[str, Any] | None = None) -> None:
        """Send a notification. Raises `NotSent`, `OutcomeUnknown` or `RefusedUpstream`."""

    @abstractmethod
    async def close(self) -> None:
        """Close the session gracefully, then by force. Bounded in time; idempotent."""

    async def listen(self, params: Mapping[str, Any], take: Callable[[str, Raw], None]) -> None:
        """Send one `subscriptions/listen` to a modern server; `params` are complete, `_meta` included.

        `take` receives method and params of the messages for this request alone: its acknowledgement and task status.
        Returns when the server ends the stream. Raises `DeliveryError` if the stream breaks off, `RpcError` if the
        server refuses. On cancellation it notifies the server.
        """
        raise NotSent("this connection has no stream to listen on")

    async def watch(self, uris: frozenset[str]) -> Mapping[str, RpcError | NotSent]:
        """Subscribe to exactly these resources; see `Watcher.watch`."""
        if self.closed or self.watcher is None:
            raise NotSent("the connection is not open")
        return await self.watcher.watch(uris)

    def in_flight(self) -> list[Exchange]:
        """The exchanges whose requests were sent and not yet answered, newest last."""
        return []

    def excuse(self, exchange: Exchange | None) -> Unanswered | None:
        """Record that an agent's request was cancelled after it was sent. The server may work on it until its deadline.

        Returns what the connection ends when the server answers after all; None without an exchange.
        """
        if exchange is None:
            return None
        if exchange.deadline is not None and not exchange.deadline.passed:
            self.excused_until = max(self.excused_until, exchange.deadline.when)
        unanswered = Unanswered()
        exchange.give_up(unanswered)
        return unanswered

    @property
    def died(self) -> bool:
        """Whether the server's process exited on its own."""
        return False

    @property
    def last_words(self) -> str:
        """The server's last output outside the protocol (stderr): for operators, never for agents."""
        return ""

    @property
    def last_lines(self) -> Sequence[str]:
        """The last lines of that output, oldest first."""
        return ()

    @property
    def noisy(self) -> bool:
        """Whether it was closed because the server sent too much that answers no request."""
        return False

    @abstractmethod
    async def wait_closed(self) -> str:
        """Wait until `closed`. Returns the reason as text: `exited with status 1`."""
