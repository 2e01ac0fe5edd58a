"""Requests of a legacy server to an agent (elicitation, sampling, roots), called questions, and their attribution.

Over Streamable HTTP a question comes on the stream of its call. A shared channel is stdio, SSE or a standalone GET
stream. A question on it names no call, so it belongs to the one agent with a call in flight there. If several agents
have one, it is **ambiguous** and refused: the wrong user must never see it (client/elicitation, Security).
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Final

from loguru import logger

from gateway_core.background import Background
from gateway_core.errors import INTERNAL_ERROR, INVALID_REQUEST, METHOD_NOT_FOUND, RpcError, overloaded
from gateway_core.exchange.back import BackChannel
from gateway_core.exchange.exchange import Exchange
from gateway_core.exchange.naming import naming
from gateway_core.internal_errors import where
from gateway_core.mcp import jsonrpc
from gateway_core.mcp.jsonrpc import Message
from gateway_core.upstream import capabilities
from gateway_core.upstream.base import ClientContext
from gateway_core.upstream.messages.sends import SEND_TIMEOUT, UNDELIVERED

if TYPE_CHECKING:
    from loguru import Logger

MAX_QUESTIONS: Final = 64
"""Maximum number of open questions of one call, and of one connection without a call; more are refused."""
MAX_OPEN: Final = 4096
"""Maximum number of open questions of one connection."""
MAX_REFUSALS: Final = 256
"""Maximum number of refusals in flight on one connection; more are dropped."""


class ServerQuestions:
    """The open questions of one connection; each has a task until it is answered."""

    def __init__(
        self,
        upstream: str,
        context: ClientContext,
        in_flight: Callable[[], Iterable[Exchange]],
        send: Callable[[bytes], Awaitable[None]],
    ) -> None:
        """`in_flight`: the exchanges of requests that were sent and are unanswered. `send` sends a response."""
        self._upstream = upstream
        self._context = context
        self._in_flight = in_flight
        self._send = send
        self._open: dict[bytes, asyncio.Task[None]] = {}
        self._counts: Counter[str] = Counter()
        """Exchange id -> number of its open questions; "" for questions without an exchange."""
        self._refusals = Background(
            f"refusing a question of {upstream}", limit=MAX_REFUSALS, timeout=SEND_TIMEOUT, expected=UNDELIVERED
        )

    def take(self, message: Message, exchange: Exchange | None = None) -> None:
        """Answer a request of the server in a task. `exchange`: the call on whose stream it came, if known.

        A question with the id of an open question is dropped: their answers would be indistinguishable.
        """
        key, asker = bytes(message.id), exchange.id if exchange is not None else ""
        if key in self._open:
            return
        if self._counts[asker] >= MAX_QUESTIONS or len(self._open) >= MAX_OPEN:
            self._refuse(message)
            return
        task = asyncio.create_task(self._answer(message, exchange), name=f"asked by {self._upstream}")
        self._open[key] = task
        self._counts[asker] += 1

        def ended(_: asyncio.Task[None]) -> None:
            del self._open[key]
            self._counts[asker] -= 1
            if not self._counts[asker]:
                del self._counts[asker]

        task.add_done_callback(ended)

    def _refuse(self, message: Message) -> None:
        error = overloaded(f"the limit of {MAX_QUESTIONS} open questions of one server is reached")
        self._refusals.run(partial(self._send, jsonrpc.error(message.id, error)))

    def cancel(self, raw_id: bytes) -> bool:
        """Cancel a question at the request of the server. Returns False if it is not open."""
        task = self._open.get(raw_id)
        return task.cancel() if task is not None else False

    def end(self) -> None:
        """Cancel all questions and refusals; called when the connection ends."""
        for task in self._open.values():
            task.cancel()
        self._refusals.cancel()

    async def _answer(self, message: Message, exchange: Exchange | None) -> None:
        try:
            if exchange is None:
                exchange = self._attributed()
            answer = jsonrpc.result(message.id, await self._ask(message, exchange))
        except RpcError as refusal:
            self._lines(exchange).bind(question=message.method).info("question refused: {}", refusal.message)
            answer = jsonrpc.error(message.id, refusal)
        except Exception as error:  # noqa: BLE001 - the server waits for an answer after any error
            self._lines(exchange).error("{} while passing a question on\n{}", type(error).__name__, where(error))
            answer = jsonrpc.error(message.id, RpcError.of_gateway(INTERNAL_ERROR, "the gateway could not ask"))
        await self._deliver(answer)

    def _lines(self, exchange: Exchange | None) -> Logger:
        """Where lines about a question go. `exchange`: the call that it is about, if known."""
        lines = logger.bind(upstream=self._upstream)
        return lines if exchange is None else lines.bind(**exchange.log_fields)

    async def _deliver(self, answer: bytes) -> None:
        try:
            async with asyncio.timeout(SEND_TIMEOUT):
                await self._send(answer)
        except UNDELIVERED as error:
            logger.bind(upstream=self._upstream).debug("an answer did not arrive: {}", type(error).__name__)

    async def _ask(self, message: Message, exchange: Exchange | None) -> bytes:
        params = bytes(message.params) or b"{}"
        if exchange is not None:
            try:
                capabilities.check(exchange.agent, message.method, params)
            except capabilities.MissingCapability as missing:
                exchange.lacks(missing.required)
                raise
            return await exchange.ask(self._upstream, message.method, params)
        agent = self._context.agent
        standalone: BackChannel | None = agent.standalone if agent is not None else None
        if agent is None or standalone is None:
            raise RpcError.of_gateway(
                METHOD_NOT_FOUND, "no call of a client is in flight here, so no client can be asked"
            )
        capabilities.check(agent, message.method, params)
        return await standalone.ask(message.method, naming(self._upstream, params))

    def _attributed(self) -> Exchange | None:
        """The exchange that a question belongs to; None if none is in flight. Raises `RpcError` if it is ambiguous.

        Of several calls of one legacy session the newest is taken; all lead to the same agent.
        """
        running = list(self._in_flight())
        if not running:
            return None
        conversations = {exchange.conversation for exchange in running}
        if len(conversations) > 1 and self._context.agent is None:
            raise RpcError.of_gateway(
                INVALID_REQUEST,
                f"calls of {len(conversations)} clients are in flight on this connection, so it cannot be known who is "
                f'asked; the operator of the gateway can set isolation = "agent" or "call" for upstream '
                f"{self._upstream!r}",
            )
        return running[-1]
