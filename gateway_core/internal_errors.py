"""What becomes of a bug of the gateway: the agent is told that there was one, the log where."""

from __future__ import annotations

import traceback

from gateway_core.errors import INTERNAL_ERROR, RpcError


def internal_error() -> RpcError:
    """What an agent is told of a bug; the log has the rest."""
    return RpcError.of_gateway(INTERNAL_ERROR, "the gateway failed to serve this request")


def where(error: BaseException) -> str:
    """The traceback of an error without its message, which may quote a payload."""
    return "".join(traceback.format_tb(error.__traceback__))
