"""Finds the configuration file of a command.

Imports stay light here, because `status` and `stop` must respond fast.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final

from gateway_core.cli.instance import pid_files
from gateway_core.errors import GatewayError

FOLDER: Final = ".radium"
CONFIG_NAME: Final = "mcp-proxy.toml"


class UsageError(GatewayError):
    """Wrong usage of a command, such as a missing file or a wrong option."""


def locate(config: Path | None) -> Path:
    """The configuration file of a command: `config` if given, else the nearest `.radium/mcp-proxy.toml`.

    Looks from the working directory upwards, up to a folder in which other users may write. A
    deleted file still counts while its pid file exists. Raises `UsageError` if there is none.
    """
    if config is not None:
        path = Path(os.path.abspath(config))
        if path.is_file() or any(place.is_file() for place in pid_files(path)):
            return path
        raise UsageError(f"{path}: {_what_is_there(path)}")
    here = Path.cwd()
    searched = "the folders above it"
    for folder in (here, *here.parents):
        if folder != here and _is_shared(folder):
            searched = f"the folders above it below {folder}, where other users may write"
            break
        path = folder / FOLDER / CONFIG_NAME
        if path.is_file() or any(place.is_file() for place in pid_files(path)):
            return path
    raise UsageError(
        f"no {FOLDER}/{CONFIG_NAME} in {here} or {searched}\n"
        "  to write one:        rad mcp proxy init\n"
        "  to use another file: --config FILE"
    )


def _is_shared(folder: Path) -> bool:
    """Whether users other than root and the running one may write to this folder, such as `/tmp`."""
    try:
        status = folder.stat()
    except OSError:
        return True
    return bool(status.st_mode & stat.S_IWOTH) or status.st_uid not in (0, os.geteuid())


def _what_is_there(path: Path) -> str:
    """Why `path` is not a file, for an error message."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return "no such file"
    except OSError as error:
        return os.strerror(error.errno) if error.errno else str(error)
    for test, name in ((stat.S_ISDIR, "folder"), (stat.S_ISFIFO, "named pipe"), (stat.S_ISSOCK, "socket")):
        if test(mode):
            return f"is a {name}, not a file"
    return "is a device, not a file"
