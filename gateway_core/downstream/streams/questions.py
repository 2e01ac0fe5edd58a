"""Questions of the gateway to legacy agents (elicitation, sampling, roots), and the matching of their answers."""

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
"""Maximum number of unanswered questions to one agent."""


class AgentQuestions:
    """The unanswered questions to one legacy agent. The gateway assigns their ids."""

    __slots__ = ("_ended", "_last", "_waiting")

    def __init__(self) -> None:
        self._waiting: dict[int, asyncio.Future[bytes]] = {}
        self._last = 0
        self._ended = False

    async def ask(self, send: Callable[[bytes], None], method: str, params: bytes) -> bytes:
        """`send` a request and wait for the result object.

        Raises `RpcError` if the agent answers with an error, has too many questions, or if its session ends.
        Cancellation of the caller sends `notifications/cancelled` to the agent.
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
        """Pass a response of the agent to the caller of `ask`; a response without a pending question is dropped."""
        number = jsonrpc.value(message.id) if bytes(message.id) else None
        waiting = self._waiting.get(number) if type(number) is int else None
        if waiting is None or waiting.done():
            return
        if message.failed:
            waiting.set_exception(jsonrpc.error_of(message.error))
        elif message.result[:1] == b"{":
            waiting.set_result(message.result)
        else:
            waiting.set_exception(RpcError.of_gateway(INTERNAL_ERROR, "the client's answer is not an object"))

    def end(self) -> None:
        """Fail all unanswered questions, and refuse new ones."""
        self._ended = True
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(RpcError.of_gateway(CANCELLED, "the client's session has ended"))
