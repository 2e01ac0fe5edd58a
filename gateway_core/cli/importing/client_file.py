"""Reads the settings file of an MCP client: JSON, with or without comments and trailing commas.

Servers are found under `mcpServers` (Claude, Cursor, Windsurf, Cline and most others), `servers` (VS Code),
`context_servers` (Zed), and these below `mcp` or below the projects of Claude Code.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from gateway_core.errors import GatewayError

MAX_FILE: Final = 16 * 1024 * 1024
"""Bytes of a settings file; Claude Code keeps other things in the same file."""
TABLES: Final = ("mcpServers", "servers", "context_servers")
_COMMENT = re.compile(r'("(?:\\.|[^"\\])*")|//[^\n]*|/\*.*?\*/', re.DOTALL)
_TRAILING_COMMA = re.compile(r'("(?:\\.|[^"\\])*")|,(?=\s*[}\]])')


class NotReadable(GatewayError):
    """The settings file cannot be read, or has no MCP servers."""


@dataclass(frozen=True, slots=True)
class ClientServer:
    """One server of the file."""

    name: str
    place: str
    """Where it stands in the file, for example `mcpServers.github`."""
    members: Any
    """Its settings: an object, unless the file is wrong."""


@dataclass(frozen=True, slots=True)
class ClientFile:
    """The servers of a settings file, in order."""

    path: Path
    servers: list[ClientServer]
    inputs: dict[str, str] = field(default_factory=dict)
    """Values that VS Code asks for: id -> description."""

    @property
    def workspace(self) -> Path:
        """What `${workspaceFolder}` means: the folder above `.vscode` or `.cursor`, else the file's folder."""
        folder = self.path.absolute().parent
        return folder.parent if folder.name in (".vscode", ".cursor") else folder


def read(path: Path) -> ClientFile:
    """Read the servers of `path`. Raises `NotReadable`, also if there is none."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE + 1)
    except OSError as error:
        raise NotReadable(f"{path}: {error.strerror or error}") from None
    if len(content) > MAX_FILE:
        raise NotReadable(f"{path}: is larger than {MAX_FILE // 1024 // 1024} MiB")
    try:
        value = parse(content.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise NotReadable(f"{path}: is not UTF-8 text") from None
    except ValueError as error:
        raise NotReadable(f"{path}: is not JSON: {error}") from None
    servers = list(_servers(value))
    if not servers:
        raise NotReadable(
            f"{path}: has no MCP servers\n"
            f"  expected: an object with {', '.join(TABLES[:-1])} or {TABLES[-1]}, which has one entry for each server"
        )
    return ClientFile(path, servers, _inputs(value))


def parse(text: str) -> Any:
    """The value of a JSON text; comments and trailing commas are allowed. Raises `ValueError`."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except ValueError as error:
        plain = _COMMENT.sub(lambda found: found[1] or " ", text)
        plain = _TRAILING_COMMA.sub(lambda found: found[1] or "", plain)
        if plain == text:
            raise
        try:
            return json.loads(plain)
        except (ValueError, RecursionError):
            raise error from None


def _servers(value: Any, prefix: str = "") -> Iterator[ClientServer]:
    if not isinstance(value, dict):
        return
    for key in TABLES:
        table = value.get(key)
        if isinstance(table, dict):
            for name, members in table.items():
                yield ClientServer(name, f"{prefix}{key}.{name}", members)
    if not prefix:
        yield from _servers(value.get("mcp"), "mcp.")
        projects = value.get("projects")
        for folder, project in projects.items() if isinstance(projects, dict) else ():
            yield from _servers(project, f"projects.{folder}.")


def _inputs(value: dict[str, Any]) -> dict[str, str]:
    nested = value.get("mcp")
    tables = [value.get("inputs"), nested.get("inputs") if isinstance(nested, dict) else None]
    return {
        str(item["id"]): str(item.get("description") or "")
        for table in tables
        if isinstance(table, list)
        for item in table
        if isinstance(item, dict) and "id" in item
    }
