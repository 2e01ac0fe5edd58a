"""Uses a loaded configuration: its files, and a temporary gateway without a listener."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from gateway_core.cli.locate import UsageError
from gateway_core.cli.state.folder import state_folder
from gateway_core.config import Config

if TYPE_CHECKING:
    from gateway_core.gateway import Gateway

DISCOVERY_TIMEOUT: Final = 30.0
"""Minimum seconds to wait for the first contact with all upstreams; some servers are downloaded first."""
DISCOVERY_MARGIN: Final = 1.0
"""Seconds added to the longest possible start, so that its failure is recorded."""


@dataclass(frozen=True, slots=True)
class QuietLog:
    """Log settings of commands that print a result: errors only, on stderr."""

    level: Literal["ERROR"] = "ERROR"
    format: Literal["text"] = "text"
    file: None = None
    max_bytes: int = 0
    kept_files: int = 0


def names_file(config: Config) -> Path | None:
    """The names file of a loaded configuration; None without a file."""
    from gateway_core.catalog.memory import file_of  # noqa: PLC0415 - `check` and `plugins` do not need it

    return None if config.path is None else file_of(state_folder(config.path) / config.path.name)


def lists_folder(path: Path, folder: Path) -> Path:
    """The folder of the last known lists of a configuration file: `mcp-proxy.lists` in its state folder."""
    from gateway_core.upstream.lists.kept_lists import folder_of  # noqa: PLC0415 - only a running gateway needs it

    return folder_of(folder / path.name)


def logins_file(path: Path, folder: Path) -> Path:
    """The file of the logins of a configuration file: `mcp-proxy.logins` in its state folder."""
    return folder / path.with_suffix(".logins").name


def sessions_file(path: Path, folder: Path) -> Path:
    """The file of the sessions of agents between two runs: `mcp-proxy.sessions` in the state folder."""
    return folder / path.with_suffix(".sessions").name


def definitions_file(path: Path, folder: Path) -> Path:
    """The file of changed definitions of a configuration file: `mcp-proxy.definitions` in its state folder."""
    return folder / path.with_suffix(".definitions").name


def require_enabled(config: Config) -> None:
    """Raise `UsageError` unless the file says `enable = true`."""
    if not config.proxy.enable:
        raise UsageError(
            f"{config.path}: the proxy is switched off (mcp.proxy.enable is false)\n"
            "  to switch it on, set this in the file:\n"
            "    [mcp.proxy]\n"
            "    enable = true"
        )


@asynccontextmanager
async def local_gateway(config: Config) -> AsyncIterator[Gateway]:
    """Run a temporary gateway without a port; yields it once each upstream has connected, failed or timed out."""
    from gateway_core.catalog.memory import Memory  # noqa: PLC0415
    from gateway_core.gateway import Gateway  # noqa: PLC0415 - `check` and `plugins` do not need it
    from gateway_core.log import output  # noqa: PLC0415
    from gateway_core.upstream.concealing import held_secrets  # noqa: PLC0415

    held = held_secrets(config.proxy)
    output.setup(QuietLog(), to_terminal=False, held=held)
    off = [one.name for one in config.disabled]
    memory = Memory(config.proxy, names_file(config), writes=False, disabled=off)
    logins = None if config.path is None else logins_file(config.path, state_folder(config.path))
    token = secrets.token_urlsafe(32)
    gateway = Gateway(config, admin_token=token, memory=memory, held=held, logins=logins)
    try:
        await gateway.start(listen=False)
        longest = max((upstream.start_timeout for upstream in config.proxy.upstreams), default=0.0)
        # The handshake and the first list have that long each.
        await gateway.wait_first_discovery(max(DISCOVERY_TIMEOUT, 2 * longest + DISCOVERY_MARGIN))
        yield gateway
    finally:
        await gateway.stop()
        output.end()
