"""`rad mcp proxy init`: writes a first configuration file."""

from __future__ import annotations

import contextlib
import os
import secrets
import shlex
from pathlib import Path

from gateway_core.cli.locate import CONFIG_NAME, FOLDER
from gateway_core.cli.report import Failed, put
from gateway_core.config import default_file


def init(path: Path | None, *, force: bool) -> None:
    """Write the default file to `path`, or into `.radium/` if `path` is a folder; None is the working directory.

    Only its owner can read it, because it may hold secrets later. Raises `Failed` if it exists and `force` is false.
    """
    target = default_path(path)
    if target.exists() and not force:
        again = "" if path is None else f" --path {shlex.quote(str(path))}"
        raise Failed(f"{target} exists; to overwrite it: rad mcp proxy init --force{again}")
    write(target, default_file())
    keep_out_of_git(target.parent)
    option = "" if path is None else f" --config {shlex.quote(str(target))}"
    put(
        f"wrote {target}\n"
        "next:\n"
        "  1. add your MCP servers to it, as [[mcp.proxy.upstreams]]\n"
        f"  2. rad mcp proxy check{option} --connect\n"
        f"  3. rad mcp proxy start{option}\n"
        "payloads are logged, secrets hidden; to log none: log_requests = false and log_responses = false "
        "below [mcp.proxy.security]"
    )


def default_path(path: Path | None) -> Path:
    """The file that `path` means: itself, `.radium/mcp-proxy.toml` in that folder, or in the working directory."""
    target = path if path is not None else Path.cwd()
    if target.is_dir():
        target = target / FOLDER / CONFIG_NAME
    return Path(os.path.abspath(target))


def write(target: Path, text: str) -> None:
    """Write a file that only its owner can read, and its folder. No process reads half of it."""
    if not target.parent.exists():
        target.parent.mkdir(mode=0o700, parents=True)
    draft = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    try:
        fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "w", encoding="utf-8") as file:
            file.write(text)
        draft.replace(target)
    finally:
        draft.unlink(missing_ok=True)


def keep_out_of_git(folder: Path) -> None:
    """Write a `.gitignore` for all of a `.radium` folder, which may hold secrets, a log and a token.

    Keeps an existing one, and does nothing in a folder of another name.
    """
    if folder.name == FOLDER:
        with contextlib.suppress(FileExistsError), (folder / ".gitignore").open("x") as file:
            file.write("*\n")
