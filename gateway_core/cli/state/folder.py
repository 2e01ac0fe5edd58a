"""The state folder of a gateway: the folder of its pid file, its names file, its lists and its log.

The first of these that applies:

1. the folder that `--state-dir` names, which reaches this module in the variable `RADIUM_STATE_DIR`;
2. the folder that the key `state_dir` of the configuration file names;
3. the folder of the configuration file, if this process can write to it;
4. a folder for this configuration file below `$XDG_STATE_HOME/radium`, or below `~/.local/state/radium`.

Commands look for a running gateway by the same rule. In cases 3 and 4 they look into both folders, because the user
who runs `status` may have other rights than the gateway. Imports stay light here, for `status` and `stop`.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any, Final

from gateway_core.errors import GatewayError

VARIABLE: Final = "RADIUM_STATE_DIR"
FILE_LIMIT: Final = 1024 * 1024
"""Maximum bytes of a configuration file that are searched for `state_dir`; the loader refuses larger files."""
_DIGEST: Final = 12


def state_folder(config: Path) -> Path:
    """The folder in which a gateway of this configuration file that starts now keeps its files. Changes nothing."""
    named = _named(config)
    if named is not None:
        return named
    beside = config.parent
    elsewhere = _user_folder(config)
    return beside if elsewhere is None or _writable(beside) else elsewhere


def search_folders(config: Path) -> tuple[Path, ...]:
    """The folders in which a running gateway of this configuration file may keep its files."""
    named = _named(config)
    if named is not None:
        return (named,)
    elsewhere = _user_folder(config)
    return (config.parent,) if elsewhere is None else (config.parent, elsewhere)


def prepare(folder: Path) -> None:
    """Create the folder for its owner alone, unless it exists. Raises `GatewayError`."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise GatewayError(f"cannot create the state folder {folder}: {error.strerror}\n{ADVICE}") from None


ADVICE: Final = '  to keep the gateway\'s files elsewhere: --state-dir DIR, or state_dir = "DIR" in [mcp.proxy]'


def _named(config: Path) -> Path | None:
    option = os.environ.get(VARIABLE)
    if option:
        return Path(os.path.abspath(option))
    key = _key(config)
    return None if key is None else absolute(key, config.parent)


def absolute(name: str, folder: Path) -> Path:
    """The path `name` of a configuration file, which may begin with `~`; a relative one starts at `folder`."""
    return folder / os.path.expanduser(name)  # a "~" that cannot be expanded stays; using the path then fails


def _key(config: Path) -> str | None:
    """`mcp.proxy.state_dir` of the file; None if the file has none or is not valid, which `load` reports."""
    if not config.is_file():  # opening a named pipe would block
        return None
    try:
        with config.open("rb") as file:
            text = file.read(FILE_LIMIT).decode("utf-8-sig")
        if "state_dir" not in text:
            return None
        import tomllib  # noqa: PLC0415 - few files have the key

        value: Any = tomllib.loads(text)["mcp"]["proxy"].get("state_dir")
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None
    if isinstance(value, str) and "${" in value:
        from gateway_core.config.placeholders.interpolate import fill  # noqa: PLC0415 - loads pydantic, and few files need it

        filled = fill(value, os.environ, config.parent)
        value = None if filled.problems else filled.data
    return value if isinstance(value, str) and value.strip() and "\0" not in value else None


def _writable(folder: Path) -> bool:
    effective = os.access in os.supports_effective_ids
    return os.access(folder, os.W_OK | os.X_OK, effective_ids=effective)


def identity(config: Path) -> str:
    """The path of a configuration file, spelt in one way.

    The file itself may be a symbolic link: in a mounted ConfigMap its real path changes with every update.
    """
    return os.path.join(os.path.realpath(config.parent), config.name)


def _user_folder(config: Path) -> Path | None:
    """The folder of this configuration file below the user's state folder (XDG Base Directory Specification)."""
    base = os.environ.get("XDG_STATE_HOME", "")
    if not os.path.isabs(base):  # the specification says to ignore relative paths
        base = os.path.expanduser("~/.local/state")
    if not os.path.isabs(base):
        return None
    digest = hashlib.sha256(os.fsencode(identity(config))).hexdigest()[:_DIGEST]
    return Path(base, "radium", f"{config.stem}-{digest}")
