"""What every hop to an upstream offers: a `Connection` that carries requests in the upstream's own era.

A connection is one MCP session over one transport: a child process, an SSE stream, or a Streamable HTTP session.
It mints its own request ids and progress tokens, so agents' ids never meet. Its `deliver`
ends in one of four ways, and the difference between the first two is what keeps a tool from running twice:

- raises `NotSent`: not one byte left, the caller may go elsewhere;
- raises `OutcomeUnknown`: a byte may have left and no answer came;
- raises `RefusedUpstream`: the upstream refused before executing (an HTTP status says so);
- returns a `Reply`: the upstream's own answer, final.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from msgspec import Raw

from gateway_core.api import Era
from gateway_core.errors import NotSent, OutcomeUnknown, RpcError
from gateway_core.exchange.exchange import Agent, Exchange
from gateway_core.mcp.cache_hints import Hint
from gateway_core.upstream.requests import Reply, Request, Template


class Watcher(Protocol):
    """What is announced on one connection. `watch` is for one caller at a time."""

    async def watch(self, uris: frozenset[str]) -> Mapping[str, RpcError | NotSent]:
        """Have changes of exactly these resources announced. Returns which of them the server refused, and why
        (`NotSent`: it gave no answer in time).

        Raises `DeliveryError` when it cannot be asked. The caller bounds the time.
        """


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """What negotiation found out about a server (`initialize` or `server/discover`)."""

    era: Era
    protocol_version: str
    capabilities: Mapping[str, Any] = field(default_factory=dict)
    name: str = ""
    version: str = ""
    instructions: str | None = None
    hint: Hint = field(default_factory=Hint)
    """For how long a modern server vouches for all this, and whether to everybody."""


@dataclass(frozen=True, slots=True)
class Host:
    """What a connection is opened for: who is on it, what the server may ask, where goes what it says by itself."""

    told: Callable[[str, Raw, Exchange | None], None]
    """Called with method and raw params of every notification but progress and cancellations, and with the exchange
    on whose stream it came, where the transport tells."""
    capabilities: Mapping[str, Any] = field(default_factory=dict)
    """The `ClientCapabilities` declared on it."""
    agent: Agent | None = None
    """The agent that has it for itself; None where agents share it."""


class NoMcpAnswer(OutcomeUnknown):
    """The peer answered, but not with an MCP message: an HTTP status, a web page, bytes that are no JSON-RPC.

    For a probe that is a verdict (a legacy server), for any other request it is a failure like the others.
    """


class SessionEnded(OutcomeUnknown):
    """A legacy server answered 404 to a session id: the session must be opened anew (2025-11-25, transports).

    A 404 can arrive after the tool ran, so it is an `OutcomeUnknown` (rule R6).
    """


class Connection(ABC):
    """One MCP session with an upstream. Made unopened; `open` connects and negotiates, `close` ends it."""

    name = ""
    """Of the upstream."""
    info: ServerInfo | None = None
    """Set once `open` succeeded."""
    watcher: Watcher | None = None
    """What is done about what the server tells by itself; set with `info`."""
    excused_until: float = 0.0
    """Loop time until which a call that its agent gave up may still keep the server busy: the call's deadline."""
    deaths: int = 0
    """How many attempts in a row, before this one, ended with the death of the server's process."""

    @abstractmethod
    async def open(self, known_era: Era | None) -> ServerInfo:
        """Connect the transport and negotiate the era, probing with the specification's own rules.

        `known_era` is what the same server spoke last time: it is tried first, and re-probed when that fails.
        Raises `NotSent` when the transport cannot be set up, `RpcError` when the server refuses every version,
        `OutcomeUnknown` when it goes away in the middle. The caller bounds the time.
        """

    @abstractmethod
    def deliver(
        self, request: Request, exchange: Exchange | None = None, headers: Mapping[str, str] | None = None
    ) -> Coroutine[Any, Any, Reply]:
        """Send one request and wait for its answer; the caller bounds the time by cancelling.

        The connection leaves out of `request.meta` the keys that belong to the agent's hop, and adds its own. With an
        `exchange`, progress is asked for and passed to it, and `exchange.mark_sent()` is called just before the first
        byte may leave. `headers` are `Mcp-Param-*` headers for a modern upstream over HTTP.

        Being cancelled tells the upstream, in its own era's way, without waiting for it.
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
        """`deliver` a request whose `params` are complete but for `_meta`."""
        return await self.deliver(Request(method, params, meta), exchange, headers)

    def template(self, request: Request, exchange: Exchange | None) -> Template | None:
        """The prepared bytes of requests like this one; None where each has to be encoded as a whole."""
        kept = request.templates
        if kept is None or exchange is None or exchange.log_level:
            return None
        found = kept.get(self.name)
        if found is None or found[0] is not self:
            found = kept[self.name] = (self, self._make_template(request, exchange))
        return found[1]

    def _make_template(self, request: Request, exchange: Exchange) -> Template | None:
        """Prepare them for the agent of this exchange."""
        return None

    @abstractmethod
    async def notify(self, method: str, params: Mapping[str, Any] | None = None) -> None:
        """Send a notification. Raises as `request` does."""

    @abstractmethod
    async def close(self) -> None:
        """End the session politely, then firmly; bounded in time; safe to call twice."""

    async def listen(self, params: Mapping[str, Any], take: Callable[[str, Raw], None]) -> None:
        """Send one `subscriptions/listen` to a modern server; `params` are complete, `_meta` included.

        `take` gets method and params of what is of this request alone: its acknowledgement, and the status of tasks.
        Returns when the server has ended it. Raises `DeliveryError` when it broke off, `RpcError` when the server
        refuses it. Cancelled, it tells the server.
        """
        raise NotSent("nobody can listen on this connection")

    async def watch(self, uris: frozenset[str]) -> Mapping[str, RpcError | NotSent]:
        """Have changes of exactly these resources announced; see `Watcher.watch`."""
        if self.closed or self.watcher is None:
            raise NotSent("the connection is not open")
        return await self.watcher.watch(uris)

    @property
    def stateful(self) -> bool:
        """Whether the server ties a session to this connection (`Mcp-Session-Id`), so that agents must not share it."""
        return False

    def in_flight(self) -> list[Exchange]:
        """The exchanges whose requests the server has and has not answered, the newest last."""
        return []

    def excuse(self, exchange: Exchange | None) -> None:
        """The agent of a request gave up waiting; the server may work on it until the request's deadline."""
        if exchange is not None and exchange.deadline is not None and not exchange.deadline.passed:
            self.excused_until = max(self.excused_until, exchange.deadline.when)

    @property
    def died(self) -> bool:
        """Whether the server's process ended by itself."""
        return False

    @property
    def last_words(self) -> str:
        """What the server said last about itself, outside the protocol: for operators, never for agents."""
        return ""

    @property
    @abstractmethod
    def closed(self) -> bool:
        """Whether it can carry no more requests (the child died, the stream ended, `close` was called)."""

    @abstractmethod
    async def wait_closed(self) -> str:
        """Wait until `closed`, and say why, for people: `exited with status 1`."""
