"""Errors that cross module boundaries, and the JSON-RPC codes the gateway answers with.

Two families. `GatewayError` and its children are for the operator: start-up, configuration, plugins.
`DeliveryError` and its children describe what became of one request on its way to an upstream; the
difference between them is the difference between "may be sent elsewhere" and "must never be sent again".
"""

from __future__ import annotations

from typing import Any, Final, TypeVar

E = TypeVar("E", bound=BaseException)

PARSE_ERROR: Final = -32700
INVALID_REQUEST: Final = -32600
METHOD_NOT_FOUND: Final = -32601
INVALID_PARAMS: Final = -32602
INTERNAL_ERROR: Final = -32603
RESOURCE_NOT_FOUND_LEGACY: Final = -32002
"""Revisions up to 2025-11-25 only; 2026-07-28 answers `INVALID_PARAMS` (server/resources, Error Handling)."""
HEADER_MISMATCH: Final = -32020
MISSING_CLIENT_CAPABILITY: Final = -32021
UNSUPPORTED_PROTOCOL_VERSION: Final = -32022

URL_ELICITATION_REQUIRED: Final = -32042
"""2025-11-25 only: the call can be made once the user has opened a URL (client/elicitation, Error Handling)."""

# The gateway's own codes stay outside -32768..-32000, which JSON-RPC and MCP reserve (basic/index, Error Codes).
UPSTREAM_UNAVAILABLE: Final = -31001
"""No upstream could be reached; the call was not executed."""
UPSTREAM_FAILED: Final = -31002
"""The upstream broke while it had the request; for a `tools/call` the outcome is unknown."""
REJECTED: Final = -31003
"""A plugin refused the call."""
PLUGIN_FAILED: Final = -31004
"""A plugin raised, and its `on_error` says to refuse."""
OVERLOADED: Final = -31005
"""A limit of the gateway itself was reached."""
CANCELLED: Final = -31006
"""The agent cancelled the request, or the gateway is stopping."""
OWN_CODES: Final = range(CANCELLED, UPSTREAM_UNAVAILABLE + 1)


class RpcError(Exception):
    """A JSON-RPC error object: what goes to an agent, or what came from an upstream.

    `data` is any JSON value. Errors made by the gateway carry `data["source"] == "gateway"`, so that they
    cannot be mistaken for the upstream's (basic/index, Error Codes).
    """

    def __init__(self, code: int, message: str, data: Any = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.data = data

    @classmethod
    def of_gateway(cls, code: int, message: str, **data: Any) -> RpcError:
        """An error of the gateway's own making; `data` are the members of its `data` object."""
        return cls(code, message, {"source": "gateway", **data})

    def __repr__(self) -> str:
        return f"RpcError({self.code}, {self.message!r}, {self.data!r})"


def untraced(error: E) -> E:
    """`error` without its traceback and context.

    Due before an exception is kept: the frames of its traceback hold all that the call had. If one of them leads back
    to the exception, only the garbage collector frees it. What is no exception stays as it is, for others to refuse.
    """
    found: BaseException | None = error
    while isinstance(found, BaseException):
        following = found.__context__
        found.__traceback__ = found.__context__ = found.__cause__ = None
        found = following
    return error


def copied(error: E) -> E:
    """An exception like `error` to be raised in its place, so that the one that is kept never gets a traceback."""
    made: E = error.__class__.__new__(error.__class__, *error.args)
    made.__dict__.update(error.__dict__)
    return made


def retry_after(seconds: float) -> dict[str, int]:
    """The member of an error's `data` that tells an agent for how long waiting helps, in milliseconds."""
    return {"retryAfterMs": max(0, round(seconds * 1000))}


RETRY_AFTER: Final = 1.0
"""Seconds that an agent is told to wait when the gateway itself is full."""


def overloaded(message: str, seconds: float | None = RETRY_AFTER) -> RpcError:
    """The error for a limit of the gateway; waiting `seconds` helps, None if the time is unknown."""
    return RpcError.of_gateway(OVERLOADED, message, **({} if seconds is None else retry_after(seconds)))


class GatewayError(Exception):
    """Something the operator has to mend. The text says what happened, to what, and what to do."""


class ConfigError(GatewayError):
    """The configuration file is wrong. `problems` holds every finding, each `file:line: path: what`."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class PluginError(GatewayError):
    """A plugin is missing, ambiguous, broken, or its settings are wrong."""


class DeliveryError(Exception):
    """A request did not come back with an answer. `reason` is for people, without secrets."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class NotSent(DeliveryError):
    """Provably never delivered, not one byte of it: may be sent to another upstream, whatever the method."""

    def __init__(self, reason: str, *, retry_after: float | None = None) -> None:
        """`retry_after`: seconds until this upstream is tried again, where known."""
        super().__init__(reason)
        self.retry_after = retry_after


class Permanent(NotSent):
    """Not sent for a reason that only a person can remove: no such command, no such folder."""


class Busy(NotSent):
    """Not sent because the upstream has enough to do, or is known to be away: says nothing new about its health."""


class OutcomeUnknown(DeliveryError):
    """A byte of it may have left and no answer came: nobody may send a `tools/call` again."""


class UnusableAnswer(OutcomeUnknown):
    """The upstream answered with something that is no valid response: it is alive, and the outcome is unknown."""


class RefusedUpstream(DeliveryError):
    """The upstream refused before executing (HTTP 401, 403, 413, 415, 421, 429, 503 with Retry-After).

    Final for this upstream; the tool did not run.
    """

    def __init__(self, reason: str, *, status: int, retry_after: float | None = None) -> None:
        super().__init__(reason)
        self.status = status
        self.retry_after = retry_after


class TooManySessions(RpcError):
    """A limit on sessions is reached. `everybody`: the one on all of them, not this principal's own."""

    def __init__(self, message: str, *, everybody: bool, wait: float | None = RETRY_AFTER) -> None:
        """`wait`: seconds after which trying again may help; None if the time is unknown."""
        error = overloaded(message, wait)
        super().__init__(error.code, error.message, error.data)
        self.everybody = everybody
