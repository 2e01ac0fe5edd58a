"""What the gateway asks legacy agents (elicitation, sampling, roots), and how the answers find back to who asked."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from msgspec import Raw

from gateway_core.errors import CANCELLED, INTERNAL_ERROR, RpcError, overloaded
from gateway_core.mcp import jsonrpc
from gateway_core.mcp.jsonrpc import Message
from gateway_core.mcp.names import CANCELLED_NOTICE

MAX_QUESTIONS: Final = 64
"""Questions to one agent that may wait for an answer at a time."""


class Questions:
    """What the gateway has asked one legacy agent and not been told yet. Ids are the gateway's own."""

    __slots__ = ("_ended", "_last", "_waiting")

    def __init__(self) -> None:
        self._waiting: dict[int, asyncio.Future[bytes]] = {}
        self._last = 0
        self._ended = False

    async def ask(self, send: Callable[[bytes], None], method: str, params: bytes) -> bytes:
        """`send` a request and wait for the result object. Raises `RpcError` when there is none to be had.

        Whoever stops waiting makes the agent stop, too: it gets `notifications/cancelled`.
        """
        if self._ended or len(self._waiting) >= MAX_QUESTIONS:
            raise overloaded("this client cannot be asked any more questions now")
        self._last += 1
        number = self._last
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        try:
            send(jsonrpc.request(number, method, Raw(params or b"{}")))
            return await answer
        except asyncio.CancelledError:
            send(jsonrpc.notification(CANCELLED_NOTICE, {"requestId": number}))
            raise
        finally:
            del self._waiting[number]

    def answer(self, message: Message) -> None:
        """Hand a response of the agent's to whoever asked. One that nobody waits for is dropped."""
        number = jsonrpc.value(message.id) if bytes(message.id) else None
        waiting = self._waiting.get(number) if type(number) is int else None
        if waiting is None or waiting.done():
            return
        if message.failed:
            waiting.set_exception(jsonrpc.error_of(message.error))
        elif bytes(message.result)[:1] == b"{":
            waiting.set_result(bytes(message.result))
        else:
            waiting.set_exception(RpcError.of_gateway(INTERNAL_ERROR, "the client's answer is not an object"))

    def end(self) -> None:
        """Nobody will answer any more."""
        self._ended = True
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(RpcError.of_gateway(CANCELLED, "the client's session has ended"))
