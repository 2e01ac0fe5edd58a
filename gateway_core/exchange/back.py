"""The way back from an exchange to its agent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Protocol

from gateway_core.exchange.no_answer import CannotBeAsked

NO_FIELDS: Final[Mapping[str, str]] = {}


class BackChannel(Protocol):
    """The way back from an exchange to its agent. Implemented by the downstream side."""

    @property
    def fields(self) -> Mapping[str, str]:
        """The headers of the HTTP request, by lower-case name; empty for other transports."""

    def notify(self, method: str, params: bytes) -> None:
        """Queue a notification for the agent; never blocks. A full queue drops the oldest of the lowest priority."""

    async def ask(self, method: str, params: bytes) -> bytes:
        """Send a question to the agent and wait for the result object. Raises `RpcError` if the agent refuses.

        Cancellation of the caller cancels the question.
        """


class NoBackChannel:
    """For agents that cannot be reached before the answer: drops notifications and refuses questions."""

    fields = NO_FIELDS

    def notify(self, method: str, params: bytes) -> None:
        return

    async def ask(self, method: str, params: bytes) -> bytes:
        raise CannotBeAsked(method)


NO_BACK: Final = NoBackChannel()
