"""Dependencies of the agents' side on the rest of the gateway, and admission of requests, sessions, subscriptions."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from loguru import logger
from msgspec import Raw

from gateway_core.api import CallResult
from gateway_core.budget import MemoryBudget
from gateway_core.catalog import Catalog
from gateway_core.config import ProxyConfig
from gateway_core.downstream.sessions.live import Session
from gateway_core.downstream.sessions.store import SessionStore
from gateway_core.downstream.streams.stream import Mailbox
from gateway_core.downstream.subscriptions.subscription import Subscription
from gateway_core.errors import TooManySessions, overloaded
from gateway_core.exchange.exchange import Agent, Exchange
from gateway_core.inline.driver import Running
from gateway_core.internal_errors import internal_error, where
from gateway_core.log.sparing import Sparing
from gateway_core.log.wording import count
from gateway_core.mcp import jsonrpc
from gateway_core.mcp.jsonrpc import Message
from gateway_core.mcp.names import LISTS, MAY_ASK, STATE
from gateway_core.pipeline.pipeline import Pipeline


@dataclass(slots=True)
class Gate:
    """Counts requests in flight in the whole gateway, and rejects new ones when it is full or stopping."""

    limit: int
    budget: MemoryBudget
    in_flight: int = 0
    closing: bool = False
    _emptied: asyncio.Future[None] | None = None

    def enter(self, message: Message) -> None:
        """Count a request; the caller must call `leave` exactly once. Raises `RpcError(OVERLOADED)` if rejected."""
        if (self.closing or self.budget.tight) and not _finishes(message):
            self.check_open()
        if self.in_flight >= self.limit:
            raise overloaded(f"the limit of {count(self.limit, 'request')} in flight is reached")
        self.in_flight += 1

    def check_open(self) -> None:
        """Raise `RpcError(OVERLOADED)` while the gateway is stopping or short of memory."""
        if self.closing:
            raise overloaded("the gateway is stopping")
        self.budget.check()

    def leave(self) -> None:
        self.in_flight -= 1
        if not self.in_flight and self._emptied is not None and not self._emptied.done():
            self._emptied.set_result(None)

    async def wait_empty(self, seconds: float) -> None:
        """Wait until no requests are in flight, `seconds` at most."""
        if self.in_flight:
            self._emptied = asyncio.get_running_loop().create_future()
            await asyncio.wait([self._emptied], timeout=seconds)


def _finishes(message: Message) -> bool:
    """Whether to admit a request when no new work may begin, because calls in flight may need it to finish.

    True for lists, which clients request to check the result of a call, and for later rounds of calls.
    """
    if message.method in LISTS:
        return True
    return message.method in MAY_ASK and STATE in jsonrpc.members(message.params)


@dataclass(slots=True)
class Services:
    """Dependencies of the code that serves agents. One object for all agents and transports."""

    config: ProxyConfig
    budget: MemoryBudget
    pipeline: Pipeline
    catalog: Catalog
    sessions: SessionStore
    ready: Callable[[], bool]
    """Whether `/readyz` answers 200."""
    on_session_end: Callable[[str], Awaitable[None] | None]
    """Called with the id of each legacy session that ended, to close the upstream sessions that depend on it."""
    on_log_level: Callable[[str, str], None] = lambda session_id, level: None
    """Called with the id and the new log level of a legacy session."""
    on_roots_changed: Callable[[str], None] = lambda session_id: None
    """Called with the id of a legacy session whose agent has changed its roots."""
    gate: Gate = field(init=False)
    subscriptions: set[Subscription] = field(init=False, default_factory=set)
    """Open change streams of modern agents."""
    _spoken: Sparing = field(init=False, default_factory=Sparing)
    _endings: set[asyncio.Task[None]] = field(init=False, default_factory=set)

    def __post_init__(self) -> None:
        self.gate = Gate(self.config.limits.in_flight, self.budget)

    async def call(self, exchange: Exchange, params: Mapping[str, Raw], answer: CallResult | None = None) -> CallResult:
        """Call `pipeline.call`; a bug becomes an internal error. Raises only `CancelledError`."""
        try:
            return await self.pipeline.call(exchange, params, answer)
        except Exception as error:  # noqa: BLE001 - after a bug the agent still needs a response
            logger.error("exchange {}: {} in the pipeline\n{}", exchange.id, type(error).__name__, where(error))
            return CallResult.failed(internal_error())

    def begin(
        self, exchange: Exchange, params: Mapping[str, Raw], ended: Callable[[Running[CallResult]], None]
    ) -> Running[CallResult]:
        """Begin a call in the background, after `Gate.enter`. `ended` is called at its end: it is or calls `left`."""
        try:
            running = self.pipeline.begin(exchange, params)
        except BaseException:
            self.gate.leave()
            raise
        running.add_done_callback(ended)
        return running

    def left(self, running: Running[CallResult]) -> None:
        """Count a request as ended, and free the exception of a cancelled one."""
        self.gate.leave()
        if running.cancelled():
            with contextlib.suppress(asyncio.CancelledError):
                running.result()  # a task keeps the exception that cancelled it until it is read

    def open_session(self, address: str, owner: str) -> Session:
        """Open a legacy session; at a limit, end the idlest session that may end.

        Raises `RpcError(OVERLOADED)` if all of them are in use, or if the gateway is stopping.
        """
        self.gate.check_open()
        try:
            old = self.sessions.in_the_way(owner)
        except TooManySessions as error:
            if self._spoken.due(f"refused {owner}"):
                logger.warning("no session for {}: {}; logged once a minute", owner, error.message)
            raise
        if old is not None:
            if self._spoken.due(f"ended {old.owner}"):
                logger.warning(
                    "a session of {} ended for a new one of {}, unused for {:.0f} s: too many are open "
                    "(limits.sessions, limits.sessions_per_principal), its clients may never send DELETE; "
                    "logged once a minute",
                    old.owner,
                    owner,
                    time.monotonic() - old.used,
                )
            self.end_session(old)
        return self.sessions.create(address, owner)

    def subscribe(
        self, agent: Agent, message: Message, params: dict[str, Raw], mailbox: Mailbox, ended: Callable[[], None]
    ) -> Subscription:
        """Begin a subscription. Raises `RpcError`: `INVALID_PARAMS`, or `OVERLOADED` if the gateway is stopping."""
        self.gate.check_open()
        return Subscription(
            agent,
            message,
            params,
            mailbox,
            catalog=self.catalog,
            call=self.call,
            everyone=self.subscriptions,
            ended=ended,
        )

    def end_session(self, session: Session) -> None:
        """End a legacy session: cancel its calls, end its streams, close its upstream sessions.

        Upstream sessions close in the background; `wait_sessions_closed` waits for that.
        """
        self.sessions.delete(session)
        session.end()
        ending = asyncio.get_running_loop().create_task(self._tell_ended(session.id))
        self._endings.add(ending)
        ending.add_done_callback(self._endings.discard)

    def end_idle_sessions(self) -> None:
        """End the idlest tenth of the sessions without a call, at least one, because memory is short."""
        idle = sorted((it for it in self.sessions if it.gives_way), key=lambda session: (session.busy, session.used))
        ended = idle[: max(1, len(idle) // 10)]
        if ended and self._spoken.due("memory"):
            logger.warning(
                "{} idle sessions end, because memory is short (limits.memory); logged once a minute", len(ended)
            )
        for session in ended:
            self.end_session(session)

    async def _tell_ended(self, session_id: str) -> None:
        try:
            waiting = self.on_session_end(session_id)
            if waiting is not None:
                await waiting
        except Exception as error:  # noqa: BLE001 - no caller waits for this task
            logger.error("{} after the end of a session\n{}", type(error).__name__, where(error))

    async def wait_sessions_closed(self, seconds: float) -> None:
        """Wait until `on_session_end` has finished for all ended sessions, `seconds` at most."""
        if self._endings:
            await asyncio.wait(list(self._endings), timeout=seconds)
