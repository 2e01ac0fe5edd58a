"""Errors that cross module boundaries, and the JSON-RPC error codes of the gateway.

`GatewayError` and its subclasses are for the operator: start-up, configuration, plugins. `DeliveryError` and its
subclasses describe a request that failed on its way to an upstream. The class says whether the request may be sent
to another upstream or must never be sent again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
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
"""The upstream failed after it got the request; the outcome of a `tools/call` is unknown."""
REJECTED: Final = -31003
"""A plugin refused the call."""
PLUGIN_FAILED: Final = -31004
"""A plugin failed, and its `on_error` is "reject"."""
OVERLOADED: Final = -31005
"""The gateway reached one of its limits."""
CANCELLED: Final = -31006
"""The agent cancelled the request, or the gateway is stopping."""
OWN_CODES: Final = range(CANCELLED, UPSTREAM_UNAVAILABLE + 1)


class RpcError(Exception):
    """A JSON-RPC error object, sent to an agent or received from an upstream.

    `data` is any JSON value. Errors made by the gateway carry `data["source"] == "gateway"`, which distinguishes them
    from an upstream's errors (basic/index, Error Codes).
    """

    def __init__(self, code: int, message: str, data: Any = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.data = data

    @classmethod
    def of_gateway(cls, code: int, message: str, **data: Any) -> RpcError:
        """An error made by the gateway; `data` holds the other members of its `data` object."""
        return cls(code, message, {"source": "gateway", **data})

    def __repr__(self) -> str:
        return f"RpcError({self.code}, {self.message!r}, {self.data!r})"


class UnreadableCall(RpcError):
    """The arguments or the `_meta` of a call cannot be read: `Call.arguments` and `Call.meta` raise it.

    It is the agent's fault, not that of the plugin that reads them, so the agent gets this error.
    """


def drop_traceback(error: E) -> E:
    """Remove the traceback, cause and context from `error` and from its chain of contexts; returns `error`.

    Call it before an exception is stored. The traceback's frames keep the call's objects alive, and only the garbage
    collector frees a reference cycle through them. A value that is not an exception is returned unchanged.
    """
    found: BaseException | None = error
    while isinstance(found, BaseException):
        following = found.__context__
        found.__traceback__ = found.__context__ = found.__cause__ = None
        found = following
    return error


def copied(error: E) -> E:
    """A copy of `error` to raise, so that the stored exception never gets a traceback."""
    made: E = error.__class__.__new__(error.__class__, *error.args)
    made.__dict__.update(error.__dict__)
    return made


def retry_after(seconds: float) -> dict[str, int]:
    """The `retryAfterMs` member of an error's `data`: how long the agent should wait, in milliseconds."""
    return {"retryAfterMs": max(0, round(seconds * 1000))}


RETRY_AFTER: Final = 1.0
"""Seconds that an agent should wait when the gateway reached one of its limits."""


def overloaded(message: str, seconds: float | None = RETRY_AFTER) -> RpcError:
    """The error for a limit of the gateway. `seconds`: how long to wait; None if the time is unknown."""
    return RpcError.of_gateway(OVERLOADED, message, **({} if seconds is None else retry_after(seconds)))


class GatewayError(Exception):
    """An error that the operator has to fix. The text says what happened, to what, and what to do."""


class UnknownAgent(GatewayError):
    """No agent has this id."""

    def __init__(self, name: str) -> None:
        super().__init__(f"no agent {name[:300]!r} is here, and none of its calls was recorded lately")


class UnknownProfile(GatewayError):
    """The configuration has no such profile."""

    def __init__(self, name: str, known: Iterable[str]) -> None:
        """`known`: the profiles that it has."""
        names = ", ".join(known)
        has = f"the configuration has {names}" if names else "the configuration has no profiles"
        super().__init__(f"no profile {name[:100]!r}; {has}")


class FileProblem(str):
    """One problem in a file as text, `file:line: key: message`, and its parts."""

    __slots__ = ("file", "key", "line", "message", "unset")

    def __new__(
        cls,
        file: str,
        line: int | None,
        key: str | None,
        message: str,
        *,
        shown_key: str | None = None,
        unset: bool = False,
    ) -> FileProblem:
        place = file if line is None else f"{file}:{line}"
        return super().__new__(cls, ": ".join(part for part in (place, shown_key or key, message) if part))

    def __init__(
        self,
        file: str,
        line: int | None,
        key: str | None,
        message: str,
        *,
        shown_key: str | None = None,
        unset: bool = False,
    ) -> None:
        """`line` and `key` are None for a problem of the whole file. `shown_key`: the key as the text has it.

        `unset`: only the value of a variable or a file is missing.
        """
        self.file = file
        self.line = line
        self.key = key
        self.message = message
        self.unset = unset

    def parts(self) -> dict[str, Any]:
        """`file`, `line`, `key` and `message`, for output as JSON."""
        return {"file": self.file, "line": self.line, "key": self.key, "message": self.message}


def parts_of(problem: str, file: str | None = None) -> dict[str, Any]:
    """`FileProblem.parts` of any problem; `line` and `key` are None for one that names no place in `file`."""
    if isinstance(problem, FileProblem):
        return problem.parts()
    return {"file": file, "line": None, "key": None, "message": problem}


class ConfigError(GatewayError):
    """The configuration file is invalid. `problems` holds every problem, each `file:line: path: what`."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = list(problems)


class PluginError(GatewayError):
    """A plugin is missing, ambiguous or broken, or its settings are invalid. `problems` as in `ConfigError`."""

    def __init__(self, text: str, problems: Sequence[str] = ()) -> None:
        super().__init__(text)
        self.problems = list(problems)


class ReloadRefused(GatewayError):
    """The gateway takes no other configuration now."""


class PartlyApplied(GatewayError):
    """Another configuration is in force, but because of a bug a part of the gateway does not follow it."""

    def __init__(self, generation: int, changes: int) -> None:
        """`generation`: its number. `changes`: how many there are."""
        super().__init__(
            f"generation {generation} is in force, but a part of the gateway failed to follow it; restart the gateway"
        )
        self.generation = generation
        self.changes = changes


class TryLater(GatewayError):
    """Other work of the same kind was in progress for too long."""

    def __init__(self, in_progress: str, retry_after: float) -> None:
        """`in_progress`: which work, and since when. `retry_after`: seconds after which to try again."""
        super().__init__(f"{in_progress}; nothing was changed, try again later")
        self.in_progress = in_progress
        self.retry_after = retry_after


class EditRefused(GatewayError):
    """The control plane must not write this into the configuration file. `problems` as in `ConfigError`."""

    def __init__(self, text: str, problems: Sequence[str] = ()) -> None:
        super().__init__(text)
        self.problems = list(problems)


class OutdatedEdit(GatewayError):
    """The configuration file has another version than the one that was to be changed."""

    def __init__(self) -> None:
        super().__init__("the file was changed meanwhile; read it again and repeat the change")


class DeliveryError(Exception):
    """A request got no usable response. `reason` is for people and holds no secrets."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def conceal(self, hide: Callable[[str], str]) -> None:
        """Replace the reason by what `hide` leaves of it."""
        self.reason = hide(self.reason)
        self.args = (self.reason,)


class NotSent(DeliveryError):
    """Not a single byte was delivered: a request of any method may be sent to another upstream."""

    def __init__(self, reason: str, *, retry_after: float | None = None) -> None:
        """`retry_after`: seconds until the gateway tries this upstream again; None if unknown."""
        super().__init__(reason)
        self.retry_after = retry_after


class Permanent(NotSent):
    """Not sent for a reason that only a person can fix: no such command, no such folder."""


class LoginNeeded(Permanent):
    """Not sent because a person has to log in at the upstream's authorization server first."""


class NoIdentity(NotSent):
    """Not sent because this agent cannot be served as the user that the upstream expects; others can."""


class UserLoginNeeded(NoIdentity):
    """Not sent because the agent's user has to log in at the upstream's authorization server first."""

    def __init__(self, upstream: str, reason: str) -> None:
        """`reason`: why the user has to; `upstream`: where."""
        super().__init__(f"the user has to log in at upstream {upstream}, {reason}")
        self.upstream = upstream
        self.why = reason


class Busy(NotSent):
    """Not sent because the upstream is busy or known to be unavailable; says nothing new about its health."""


class Idle(Busy):
    """Not sent because the server does not run, and is to be started first."""


class OutcomeUnknown(DeliveryError):
    """At least part of the request may have been sent, without a response: never send a `tools/call` again."""


class UnusableAnswer(OutcomeUnknown):
    """The upstream sent an invalid response: it is alive, and the outcome is unknown."""


class RefusedUpstream(DeliveryError):
    """The upstream refused the request before executing it (HTTP 401, 403, 413, 415, 421, 429, 503 with Retry-After).

    Final for this upstream; the tool did not run.
    """

    def __init__(self, reason: str, *, status: int, retry_after: float | None = None) -> None:
        super().__init__(reason)
        self.status = status
        self.retry_after = retry_after


class TooManyCalls(RpcError):
    """The principal has its share of the requests in flight already."""

    def __init__(self, message: str, wait: float) -> None:
        """`wait`: seconds after which a retry may succeed."""
        error = overloaded(message, wait)
        super().__init__(error.code, error.message, error.data)


class TooManySessions(RpcError):
    """A limit on sessions is reached. `everybody`: the limit on all sessions, not the principal's own."""

    def __init__(self, message: str, *, everybody: bool, wait: float | None = RETRY_AFTER) -> None:
        """`wait`: seconds after which a retry may succeed; None if the time is unknown."""
        error = overloaded(message, wait)
        super().__init__(error.code, error.message, error.data)
        self.everybody = everybody
