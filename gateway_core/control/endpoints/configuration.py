"""The configuration in force, and the file that it comes from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Protocol, TypedDict

import msgspec

from gateway_core.control.endpoint import AnyEndpoint, Asked, Endpoint, Problem
from gateway_core.control.endpoints.applying import (
    APPLIED,
    BUSY,
    COMPARED,
    EDITED,
    JUDGED,
    PROBLEMS,
    RELOAD_TIME,
    Applied,
    Comparison,
    Report,
    ShownProblem,
    applied,
    later,
    of_file,
    reported,
    shown,
)
from gateway_core.errors import ConfigError, ReloadRefused, TryLater


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
    async def reload(self) -> Report:
        """Put the file in force. Raises `ConfigError`, `PluginError`, `ReloadRefused`, `PartlyApplied`, `TryLater`."""

    async def compare(self) -> Report:
        """What `reload` would change. Raises as `reload`."""

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


class Validation(TypedDict):
    """Whether a reload would accept a text, and what is wrong with it."""

    valid: bool
    problems: list[ShownProblem]


class Restarting(TypedDict):
    """The restart has begun."""

    restarting: bool


def endpoints(operations: Operations) -> tuple[AnyEndpoint, ...]:
    """The configuration."""

    async def reload(asked: Asked[None, None]) -> Comparison:
        return await reported(asked, operations.reload)

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
            raise later(error) from None
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
            problems={409: PROBLEMS[409], **BUSY},
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
