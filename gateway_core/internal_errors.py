"""Errors for bugs of the gateway: the agent gets a generic error, the log gets the traceback."""

from __future__ import annotations

import traceback

from gateway_core.errors import INTERNAL_ERROR, RpcError


def internal_error() -> RpcError:
    """The error that an agent gets for a bug of the gateway; it holds no details."""
    return RpcError.of_gateway(INTERNAL_ERROR, "the gateway failed to serve this request")


def where(error: BaseException) -> str:
    """The traceback of an error, without the error's message, which may quote a payload."""
    return "".join(traceback.format_tb(error.__traceback__))
