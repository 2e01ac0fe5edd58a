"""The running instance: its pid file, by which other processes find it.

An **instance** is a gateway that holds an exclusive lock on the pid file beside its configuration file, from before
it binds its port until it ends. The lock alone says that it runs, whatever the file contains: a dead process holds
no lock. So a stale, foreign or garbled file blocks no start, and the pid in an unlocked file is never signalled.

Imports stay light here, because `status` and `stop` must respond fast.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import stat
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

from gateway_core.cli.hints import command
from gateway_core.errors import GatewayError
from gateway_core.http1.hosts import base_url

FOLDER: Final = ".radium"
CONFIG_NAME: Final = "mcp-proxy.toml"
MAX_PID_FILE: Final = 16 * 1024
LOCK_PATIENCE: Final = 0.3
"""Seconds that a start retries the lock, because a process that reads the file locks it for microseconds."""
FORMAT: Final = 1
"""Version of the pid file's contents; incremented when a field changes."""
READ_PATIENCE: Final = 0.5
"""Seconds to wait until a locked file has its owner's contents: a start locks first and writes afterwards."""


class UsageError(GatewayError):
    """Wrong usage of a command, such as a missing file or a wrong option."""


class NotRunning(GatewayError):
    """No gateway runs for this configuration file."""


class AlreadyRunning(GatewayError):
    """Another process runs the gateway for this configuration file."""


@dataclass(frozen=True, slots=True)
class Instance:
    """What the pid file says about a running gateway."""

    pid: int
    host: str
    port: int
    token: str
    """Bearer token of the control plane's admin pages; a secret, which is why the file has mode 0600."""
    started: float
    """Unix time."""
    drain_timeout: float = 30.0
    control_host: str = ""
    control_port: int = 0
    """Where the control plane listens; 0 until it does."""

    @property
    def address(self) -> str:
        """Base URL of the data plane, to connect to."""
        return base_url(connectable(self.host), self.port)

    @property
    def control_address(self) -> str:
        """Base URL of the control plane, to connect to."""
        return base_url(connectable(self.control_host), self.control_port)

    def __repr__(self) -> str:
        return f"Instance(pid={self.pid}, address={self.address!r})"


def connectable(host: str) -> str:
    """The host to connect to: loopback for an address that means "all interfaces"."""
    return {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "::": "::1"}.get(host, host)


def locate(config: Path | None, *, start: Path | None = None) -> Path:
    """The configuration file of a command: `config` if given, else the nearest `.radium/mcp-proxy.toml`.

    Looks from `start` (default: the working directory) upwards. A deleted file still counts while its pid file exists.
    Raises `UsageError` if there is none.
    """
    if config is not None:
        path = Path(os.path.abspath(config))
        if path.is_file() or pid_file(path).is_file():
            return path
        raise UsageError(f"{path}: {_what_is_there(path)}")
    here = (start or Path.cwd()).absolute()
    for folder in (here, *here.parents):
        path = folder / FOLDER / CONFIG_NAME
        if path.is_file() or pid_file(path).is_file():
            return path
    raise UsageError(
        f"no {FOLDER}/{CONFIG_NAME} in {here} or the folders above it\n"
        "  to write one:        rad mcp proxy init\n"
        "  to use another file: --config FILE"
    )


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


def pid_file(config: Path) -> Path:
    """The pid file that belongs to a configuration file: `mcp-proxy.pid` beside `mcp-proxy.toml`."""
    return config.with_suffix(".pid")


class Hold:
    """The lock on a pid file; the serving process holds it until it ends. Made by `acquire`."""

    def __init__(self, path: Path, fd: int, instance: Instance) -> None:
        self.path = path
        self.instance = instance
        self._fd = fd
        self._publish()

    def control_listens(self, host: str, port: int) -> None:
        """Publish where the control plane listens."""
        self.instance = replace(self.instance, control_host=host, control_port=port)
        self._publish()

    def release(self) -> None:
        """Remove the file, then release the lock, so that no process finds our file unlocked."""
        if self._fd < 0:
            return
        fd, self._fd = self._fd, -1
        try:
            if _same(self.path, fd):
                self.path.unlink(missing_ok=True)
        finally:
            os.close(fd)

    def _publish(self) -> None:
        data = json.dumps({"format": FORMAT, **asdict(self.instance)}).encode() + b"\n"
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, data, 0)


def acquire(config: Path, *, host: str, port: int, drain_timeout: float = 30.0) -> Hold:
    """Lock the pid file of `config` and write it. Raises `AlreadyRunning`, or `GatewayError` if that is impossible."""
    path = pid_file(config)
    deadline = time.monotonic() + LOCK_PATIENCE
    while True:
        fd = _open(path, os.O_RDWR | os.O_CREAT)
        if _try_lock(fd, fcntl.LOCK_EX):
            if _same(path, fd):
                break
            os.close(fd)  # its owner removed it between open and lock, so the name is free or a new file
            continue
        os.close(fd)
        if time.monotonic() >= deadline:
            raise AlreadyRunning(_already(path, read_instance(path)))
        time.sleep(0.02)
    import secrets  # noqa: PLC0415 - loads OpenSSL, which readers of the file do not need

    instance = Instance(
        pid=os.getpid(),
        host=host,
        port=port,
        token=secrets.token_urlsafe(32),
        started=time.time(),
        drain_timeout=drain_timeout,
    )
    try:
        os.fchmod(fd, 0o600)
        return Hold(path, fd, instance)
    except OSError as error:
        os.close(fd)
        raise GatewayError(f"cannot write the pid file {path}: {error.strerror}") from error


@dataclass(frozen=True, slots=True)
class Locked:
    """A locked pid file whose contents do not identify the holder."""

    path: Path


@dataclass(frozen=True, slots=True)
class OtherVersion:
    """A gateway of another version, whose pid file has another format."""

    pid: int
    format: int | None
    """None for files from before formats were numbered."""
    drain_timeout: float


Holder = Instance | OtherVersion


def read_instance(path: Path) -> Holder | Locked | None:
    """The process that holds the pid file `path`; None if no process does, `Locked` if the contents do not name it."""
    deadline = time.monotonic() + READ_PATIENCE
    last: Holder | None = None
    while True:
        try:
            fd = _open(path, os.O_RDONLY)
        except FileNotFoundError:
            return None
        try:
            if _try_lock(fd, fcntl.LOCK_SH):
                return None
            found = _parse(os.read(fd, MAX_PID_FILE))
            holders = _holders(os.fstat(fd).st_ino)
        finally:
            os.close(fd)
        if found is not None and found.pid in holders:
            return found
        # A start that has just locked an old file has not yet replaced the contents. If the system does not show who
        # holds a lock, the contents at the deadline are believed.
        last = None if holders else found
        if time.monotonic() >= deadline:
            return last or Locked(path)
        time.sleep(0.02)


def _already(path: Path, instance: Holder | Locked | None) -> str:
    if isinstance(instance, OtherVersion):
        return (
            f"already running (pid {instance.pid}), as another version of the gateway\n  to stop it: {command('stop')}"
        )
    if isinstance(instance, Instance):
        return (
            f"already running (pid {instance.pid}, {instance.address})\n"
            f"  to look at it: {command('status')}\n"
            f"  to stop it:    {command('stop')}"
        )
    return f"another start is under way: {path} is locked"


def _open(path: Path, flags: int) -> int:
    """Open a pid file. Raises `FileNotFoundError` if it is missing and `flags` lack O_CREAT, else `GatewayError`."""
    try:
        fd = os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
    except OSError as error:
        if isinstance(error, FileNotFoundError) and not flags & os.O_CREAT:
            raise
        known = {errno.ELOOP: "it is a symbolic link", errno.EISDIR: "it is no ordinary file"}
        reason = known.get(error.errno or 0, error.strerror)
        raise GatewayError(f"cannot use the pid file {path}: {reason}") from error
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise GatewayError(f"cannot use the pid file {path}: it is no ordinary file")
    return fd


def _try_lock(fd: int, kind: int) -> bool:
    try:
        fcntl.flock(fd, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _same(path: Path, fd: int) -> bool:
    """Whether `path` still names the open file `fd`."""
    try:
        there = path.stat(follow_symlinks=False)
    except OSError:
        return False
    ours = os.fstat(fd)
    return (there.st_ino, there.st_dev) == (ours.st_ino, ours.st_dev)


def _holders(inode: int) -> set[int]:
    """The pids that hold an exclusive flock on this inode number, on any device; empty without `/proc/locks`."""
    try:
        table = Path("/proc/locks").read_text()
    except OSError:
        return set()
    return {int(pid) for pid in re.findall(rf"FLOCK\s+ADVISORY\s+WRITE\s+(\d+)\s+\S+:{inode}\s", table)}


def _parse(data: bytes) -> Holder | None:
    """The contents of a pid file; None if they are not valid for any version."""
    try:
        raw: Any = json.loads(data)
        number = raw.pop("format", None)
        found = Instance(**raw) if number == FORMAT else _other_version(raw, number)
    except (ValueError, TypeError, AttributeError, KeyError, RecursionError):
        return None
    if isinstance(found, Instance) and not _well_typed(found):
        return None
    # kill(0) and kill(-1) would signal more than one process.
    return found if type(found.pid) is int and found.pid > 0 else None


def _other_version(raw: dict[str, Any], number: object) -> OtherVersion:
    """The fields that `stop` needs: `pid` and `drain_timeout` mean the same in all formats."""
    known = number if isinstance(number, int) else None
    return OtherVersion(raw["pid"], known, float(raw.get("drain_timeout", 30.0)))


def _well_typed(instance: Instance) -> bool:
    whole, text, number = (int,), (str,), (int, float)
    types = {
        "pid": whole,
        "host": text,
        "port": whole,
        "token": text,
        "started": number,
        "drain_timeout": number,
        "control_host": text,
        "control_port": whole,
    }
    return (
        all(type(getattr(instance, name)) in allowed for name, allowed in types.items())
        and 0 < instance.port < 65536
        and 0 <= instance.control_port < 65536
    )
