"""The configuration in force, and the file that it comes from."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, Any, Final, Protocol, TypedDict, TypeVar

import msgspec

from gateway_core.control.endpoint import AnyEndpoint, Asked, Endpoint, Problem
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


class File(Protocol):
    """The configuration file for operators."""

    @property
    def path(self) -> str: ...
    @property
    def writable(self) -> bool: ...
    @property
    def reason(self) -> str: ...
    @property
    def text(self) -> str: ...
    @property
    def version(self) -> str: ...


class KeyChange(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """A new value for one key; null removes the key."""

    key: Annotated[str, msgspec.Meta(description="Dotted, below mcp.proxy: `timeout`, `upstreams.NAME.enabled`")]
    value: Any


class Edits(Protocol):
    """What these endpoints need to read and change the file; see `generations/editing/edits.py`."""

    async def show(self) -> File: ...
    async def problems(self, text: str) -> Sequence[str]: ...
    async def compare(self, text: str) -> Report: ...
    async def replace(self, text: str, version: str) -> tuple[Report, str]: ...
    async def change(self, changes: Sequence[KeyChange], version: str | None = None) -> tuple[Report, str]: ...
    async def enable(self, upstream: str, enabled: bool) -> tuple[Report, str] | None: ...


class Operations(Protocol):
    """What these endpoints need from the gateway."""

    @property
    def edits(self) -> Edits: ...
    async def reload(self, *, patient: bool = True) -> Report:
        """Put the file in force. Raises `ConfigError`, `PluginError`, `ReloadRefused`, `PartlyApplied`.

        `patient`: wait for other reloads and edits without a bound; if not, raises `TryLater` after some time.
        """

    async def compare(self) -> Report:
        """What `reload` would change. Raises as `reload`, and `TryLater`."""

    async def restart(self) -> None:
        """Begin to restart. Raises as `reload`."""


class Text(msgspec.Struct, forbid_unknown_fields=True):
    """The content of the file."""

    text: Annotated[str, msgspec.Meta(description="TOML; `[REDACTED]` stands for what the file has at the same key")]


class NewText(Text, forbid_unknown_fields=True):
    """Another content of the file."""

    version: Annotated[str, msgspec.Meta(description="The version that the text was made of")]


class Changes(msgspec.Struct, forbid_unknown_fields=True):
    """Changes of single keys."""

    changes: list[KeyChange]
    version: Annotated[str | None, msgspec.Meta(description="Refuse the changes if the file has another one")] = None


class ShownFile(TypedDict):
    """The configuration file. `reason`: why it is not writable. `version`: a digest of its content."""

    path: str
    writable: bool
    reason: str
    text: str
    version: str


class ShownProblem(TypedDict):
    """One problem of a text; `file`, `line` and `key` are null if it has no such place."""

    file: str | None
    line: int | None
    key: str | None
    message: str
    text: str


class Validation(TypedDict):
    """Whether a reload would accept a text, and what is wrong with it."""

    valid: bool
    problems: list[ShownProblem]


class ShownChange(TypedDict):
    """One difference. `restart`: why it needs one; empty if it is in force."""

    kind: str
    name: str
    how: str
    details: list[str]
    restart: str


class Restarting(TypedDict):
    """The restart has begun."""

    restarting: bool


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
        shown: Comparison = found
        return shown

    return await of_file(asked, report)


async def of_file(asked: Asked[Any, Any], work: Callable[[], Awaitable[T]]) -> T:
    """The answer of work that reads the file. Raises `Problem`."""
    asked.give_time(RELOAD_TIME)
    try:
        return await work()
    except ReloadRefused as error:
        raise Problem(409, str(error)) from None
    except TryLater as error:
        raise _later(error) from None
    except EditRefused as error:
        raise Problem(403, str(error), problems=shown(error.problems)) from None
    except (ConfigError, PluginError) as error:
        raise Problem(422, str(error), problems=shown(error.problems or [str(error)])) from None
    except PartlyApplied as error:
        raise Problem(500, str(error)) from None


def _later(error: TryLater) -> Problem:
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
_BUSY: Final = {503: "Other configurations are being checked or compared; `Retry-After` says when to come back"}
COMPARED: Final = {**PROBLEMS, **_BUSY}
JUDGED: Final = {**COMPARED, 403: "It names what only `control.allow_commands` lets the control plane write"}
EDITED: Final = {
    **APPLIED,
    403: "The file is read-only, or the edit names what only `control.allow_commands` lets the control plane write",
    409: "The file has another version, or the gateway starts or stops, or has no file",
    503: "Another reload or edit has been in progress for long (`Retry-After` says when to come back), or the file "
    "cannot be written, as on a full disk",
}


def endpoints(operations: Operations) -> tuple[AnyEndpoint, ...]:
    """The configuration."""

    async def reload(asked: Asked[None, None]) -> Comparison:
        return await reported(asked, lambda: operations.reload(patient=False))

    async def diff(asked: Asked[None, None]) -> Comparison:
        return await reported(asked, operations.compare)

    async def show(_: Asked[None, None]) -> ShownFile:
        try:
            file = await operations.edits.show()
        except ReloadRefused as error:
            raise Problem(409, str(error)) from None
        except ConfigError as error:
            raise Problem(422, str(error), problems=shown(error.problems)) from None
        return {
            "path": file.path,
            "writable": file.writable,
            "reason": file.reason,
            "text": file.text,
            "version": file.version,
        }

    async def validate(asked: Asked[None, Text]) -> Validation:
        asked.give_time(RELOAD_TIME)
        try:
            problems = await operations.edits.problems(asked.body.text)
        except ReloadRefused as error:
            raise Problem(409, str(error)) from None
        except TryLater as error:
            raise _later(error) from None
        return {"valid": not problems, "problems": shown(problems)}

    async def compare(asked: Asked[None, Text]) -> Comparison:
        return await reported(asked, lambda: operations.edits.compare(asked.body.text))

    async def replace(asked: Asked[None, NewText]) -> Applied:
        found = await applied(asked, lambda: operations.edits.replace(asked.body.text, asked.body.version))
        assert found is not None, "the file is there"
        return found

    async def change(asked: Asked[None, Changes]) -> Applied:
        found = await applied(asked, lambda: operations.edits.change(asked.body.changes, asked.body.version))
        assert found is not None, "the file is there"
        return found

    async def restart(asked: Asked[None, None]) -> Restarting:
        async def begin() -> Restarting:
            await operations.restart()
            return {"restarting": True}

        return await of_file(asked, begin)

    one = "/admin/config"
    return (
        Endpoint(
            "POST",
            "/admin/reload",
            "change",
            "Put the configuration of the file in force",
            Comparison,
            reload,
            problems=APPLIED,
        ),
        Endpoint("GET", "/admin/diff", "read", "What a reload would change", Comparison, diff, problems=COMPARED),
        Endpoint("GET", one, "read", "The configuration file without secrets", ShownFile, show, problems=PROBLEMS),
        Endpoint(
            "POST",
            f"{one}/validate",
            "change",
            "Whether a reload would accept a text as the content of the file",
            Validation,
            validate,
            body=Text,
            problems={409: PROBLEMS[409], **_BUSY},
        ),
        Endpoint(
            "POST",
            f"{one}/diff",
            "change",
            "What a text as the content of the file would change",
            Comparison,
            compare,
            body=Text,
            problems=JUDGED,
        ),
        Endpoint(
            "PUT",
            one,
            "change",
            "Make a text the content of the file, and put it in force",
            Applied,
            replace,
            body=NewText,
            problems=EDITED,
        ),
        Endpoint(
            "PATCH",
            one,
            "change",
            "Change single keys of the file in place, and put it in force",
            Applied,
            change,
            body=Changes,
            problems=EDITED,
        ),
        Endpoint(
            "POST",
            "/admin/restart",
            "change",
            "Begin to restart the process, which keeps its sockets and the sessions of agents",
            Restarting,
            restart,
            problems=PROBLEMS,
        ),
    )
