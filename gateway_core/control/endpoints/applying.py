"""The answers to requests that read the configuration file, or change it: reports, and problems."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, Protocol, TypedDict, TypeVar

from gateway_core.control.endpoint import Asked, Problem
from gateway_core.errors import (
    ConfigError,
    EditRefused,
    OutdatedEdit,
    PartlyApplied,
    PluginError,
    ReloadRefused,
    TryLater,
    parts_of,
)

T = TypeVar("T")

RELOAD_TIME: Final = 120.0
"""Seconds that a reload may take: plugins start, and new upstreams connect."""


class Report(Protocol):
    """The result of a reload, or what one would do."""

    def as_json(self) -> dict[str, Any]: ...


class ShownProblem(TypedDict):
    """One problem of a text; `file`, `line` and `key` are null if it has no such place."""

    file: str | None
    line: int | None
    key: str | None
    message: str
    text: str


class ShownChange(TypedDict):
    """One difference. `restart`: why it needs one; empty if it is in force."""

    kind: str
    name: str
    how: str
    details: list[str]
    restart: str


class Comparison(TypedDict):
    """What a reload changes. `generation`: the number of the configuration in force."""

    generation: int
    changes: list[ShownChange]


class Applied(Comparison):
    """What an edit changed, and the new version of the file."""

    version: str


def shown(problems: Sequence[str]) -> list[ShownProblem]:
    """Problems as JSON values."""
    found: list[Any] = [{**parts_of(one), "text": str(one)} for one in problems]
    return found


async def reported(asked: Asked[Any, Any], work: Callable[[], Awaitable[Report]]) -> Comparison:
    """The report of a reload, or of what one would do. Raises `Problem`."""

    async def report() -> Comparison:
        found: Any = (await work()).as_json()
        comparison: Comparison = found
        return comparison

    return await of_file(asked, report)


async def of_file(asked: Asked[Any, Any], work: Callable[[], Awaitable[T]]) -> T:
    """The answer of work that reads the file. Raises `Problem`."""
    asked.give_time(RELOAD_TIME)
    try:
        return await work()
    except ReloadRefused as error:
        raise Problem(409, str(error)) from None
    except TryLater as error:
        raise later(error) from None
    except EditRefused as error:
        raise Problem(403, str(error), problems=shown(error.problems)) from None
    except (ConfigError, PluginError) as error:
        raise Problem(422, str(error), problems=shown(error.problems or [str(error)])) from None
    except PartlyApplied as error:
        raise Problem(500, str(error)) from None


def later(error: TryLater) -> Problem:
    """The problem that the same work is in progress."""
    return Problem(503, str(error), {"Retry-After": f"{error.retry_after:.0f}"})


async def applied(asked: Asked[Any, Any], work: Callable[[], Awaitable[tuple[Report, str] | None]]) -> Applied | None:
    """The report of an edit. Raises `Problem`."""
    version = ""

    async def edit() -> Report:
        nonlocal version
        found = await work()
        if found is None:
            raise _NothingError
        report, version = found
        return report

    try:
        return {**await reported(asked, edit), "version": version}
    except _NothingError:
        return None
    except OutdatedEdit as error:
        raise Problem(409, str(error)) from None
    except OSError as error:
        raise Problem(503, f"the file cannot be written: {error.strerror}") from None


class _NothingError(Exception):
    """There was nothing to edit."""


PROBLEMS: Final = {409: "The gateway starts or stops, or has no file", 422: "The configuration is wrong"}
APPLIED: Final = {
    **PROBLEMS,
    500: "It is in force, but a part of the gateway failed to follow it; restart it",
    503: "Another reload or edit has been in progress for long; `Retry-After` says when to come back",
}
BUSY: Final = {503: "Other configurations are being checked or compared; `Retry-After` says when to come back"}
COMPARED: Final = {**PROBLEMS, **BUSY}
JUDGED: Final = {**COMPARED, 403: "It names what only `control.allow_commands` lets the control plane write"}
EDITED: Final = {
    **APPLIED,
    403: "The file is read-only, or the edit names what only `control.allow_commands` lets the control plane write",
    409: "The file has another version, or the gateway starts or stops, or has no file",
    503: "Another reload or edit has been in progress for long (`Retry-After` says when to come back), or the file "
    "cannot be written, as on a full disk",
}
