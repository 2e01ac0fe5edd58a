"""Why an agent did not answer a question."""

from __future__ import annotations

from gateway_core.errors import CANCELLED, METHOD_NOT_FOUND, RpcError


class CannotBeAsked(RpcError):
    """No message can reach the agent before the answer to its request."""

    def __init__(self, method: str) -> None:
        super().__init__(METHOD_NOT_FOUND, f"this client cannot be asked: {method}", {"source": "gateway"})


class NoAnswer(RpcError):
    """The agent did not answer a question in time."""

    def __init__(self, who: str, method: str, seconds: float) -> None:
        error = RpcError.of_gateway(CANCELLED, f"the client did not answer {method} of {who} within {seconds:g} s")
        super().__init__(error.code, error.message, error.data)
