"""The running instance: its pid file, by which other processes find it.

An **instance** is a gateway that holds an exclusive lock on the pid file in its state folder, from before it binds its
port until it ends. Only the lock says that it runs, not the content of the file: a dead process holds
no lock. So a stale, foreign or garbled file blocks no start, and the pid in an unlocked file is never signalled.

Imports stay light here, because `status` and `stop` must respond fast.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Final

from gateway_core.cli.hints import command
from gateway_core.cli.state.folder import ADVICE, identity, search_folders
from gateway_core.cli.state.lock_file import holders_of, is_at, is_believable, namespace, open_file, try_lock
from gateway_core.errors import GatewayError
from gateway_core.http1.hosts import base_url, connectable

MAX_PID_FILE: Final = 16 * 1024
LOCK_PATIENCE: Final = 0.3
"""Seconds that a start retries the lock, because a process that reads the file locks it for microseconds."""
FORMAT: Final = 3
"""Version of the pid file's contents; incremented when a field changes."""
READ_PATIENCE: Final = 0.5
"""Seconds to wait until a locked file has its owner's contents: a start locks first and writes afterwards."""


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
    """Bearer token of the control plane, for everything; a secret, which is why the file has mode 0600."""
    started: float
    """Unix time."""
    drain_timeout: float = 30.0
    control_host: str = ""
    control_port: int = 0
    """Where the control plane listens; 0 until it does."""
    config: str = ""
    """The configuration file; see `identity`. Gateways of several files may be given one state folder."""
    namespace: str = ""
    """The namespace of `pid`: a container has its own pids, and may share the folder with others."""
    certificate: str = ""
    """The file with the certificate that agents see; empty without TLS."""
    read_token: str = ""
    """Bearer token of the control plane, for reading; a secret, too."""

    @property
    def address(self) -> str:
        """Base URL of the data plane, to connect to."""
        return base_url(connectable(self.host), self.port, secure=bool(self.certificate))

    @property
    def control_address(self) -> str:
        """Base URL of the control plane, to connect to."""
        return base_url(connectable(self.control_host), self.control_port)

    def __repr__(self) -> str:
        return f"Instance(pid={self.pid}, address={self.address!r})"


def pid_file(config: Path, folder: Path | None = None) -> Path:
    """The pid file of a configuration file: `mcp-proxy.pid` for `mcp-proxy.toml`, beside it or in `folder`."""
    return (folder or config.parent) / config.with_suffix(".pid").name


def pid_files(config: Path) -> tuple[Path, ...]:
    """The pid files that a gateway of this configuration file may have; see `state_folder`."""
    return tuple(pid_file(config, folder) for folder in search_folders(config))


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

    def reconfigured(self, drain_timeout: float, certificate: str) -> None:
        """Publish what another configuration says; see `Instance`."""
        self.instance = replace(self.instance, drain_timeout=drain_timeout, certificate=certificate)
        self._publish()

    @property
    def descriptor(self) -> int:
        """The open file, whose lock is held."""
        return self._fd

    def release(self) -> None:
        """Remove the file, then release the lock, so that no process finds our file unlocked."""
        if self._fd < 0:
            return
        fd, self._fd = self._fd, -1
        try:
            if is_at(self.path, fd):
                self.path.unlink(missing_ok=True)
        finally:
            os.close(fd)

    def _publish(self) -> None:
        data = json.dumps({"format": FORMAT, **asdict(self.instance)}).encode() + b"\n"
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, data, 0)


@dataclass(frozen=True, slots=True)
class Inherited:
    """The lock that this process has held since before its restart."""

    path: Path
    fd: int
    tokens: tuple[str, str]
    """Those of the control plane, for everything and for reading, which stay."""

    def kept(self, path: Path) -> int | None:
        """The descriptor, if the pid file is still `path`; otherwise None, and the lock is released."""
        os.set_inheritable(self.fd, False)
        if self.path == path and is_at(path, self.fd):
            return self.fd
        if is_at(self.path, self.fd):
            self.path.unlink(missing_ok=True)
        os.close(self.fd)
        return None


def acquire(
    config: Path,
    *,
    host: str,
    port: int,
    drain_timeout: float = 30.0,
    folder: Path | None = None,
    certificate: str = "",
    before: Inherited | None = None,
) -> Hold:
    """Lock the pid file of `config` in `folder` (without it: beside `config`) and write it.

    `certificate`: the file with the certificate that agents see; empty without TLS. `before`: after a restart.

    Raises `AlreadyRunning`, also if the gateway runs with another state folder; `GatewayError` if the file is unusable.
    """
    path = pid_file(config, folder)
    fd = None if before is None else before.kept(path)
    if fd is None:
        fd = _locked(config, path)
    import secrets  # noqa: PLC0415 - loads OpenSSL, which readers of the file do not need

    tokens = (secrets.token_urlsafe(32), secrets.token_urlsafe(32)) if before is None else before.tokens
    instance = Instance(
        pid=os.getpid(),
        host=host,
        port=port,
        token=tokens[0],
        started=time.time(),
        drain_timeout=drain_timeout,
        config=identity(config),
        namespace=namespace(),
        certificate=certificate,
        read_token=tokens[1],
    )
    try:
        os.fchmod(fd, 0o600)
        return Hold(path, fd, instance)
    except OSError as error:
        os.close(fd)
        raise GatewayError(f"cannot write the pid file {path}: {error.strerror}") from error


def _locked(config: Path, path: Path) -> int:
    """The pid file at `path`, open and locked. Raises `AlreadyRunning` and `GatewayError`."""
    for other in pid_files(config):
        if other != path and (running := read_instance(other)) is not None:
            raise AlreadyRunning(_already(config, running))
    deadline = time.monotonic() + LOCK_PATIENCE
    while True:
        fd = open_file(path, os.O_RDWR | os.O_CREAT)
        if try_lock(fd, fcntl.LOCK_EX):
            if is_at(path, fd):
                return fd
            os.close(fd)  # its owner removed it between open and lock, so the name is free or a new file
            continue
        os.close(fd)
        if time.monotonic() >= deadline:
            raise AlreadyRunning(_already(config, read_instance(path)))
        time.sleep(0.02)


@dataclass(frozen=True, slots=True)
class Locked:
    """A locked pid file without a holder that this process can name. As text: the reason."""

    path: Path
    elsewhere: bool = False
    """Whether the holder runs in another container, with other pids."""

    def __str__(self) -> str:
        if self.elsewhere:
            return f"{self.path} is locked by a gateway outside of this container, or in another one: ask it there"
        return f"{self.path} is locked and does not say by whom: a start is under way, try again in a moment"


@dataclass(frozen=True, slots=True)
class OtherVersion:
    """A gateway of another version, whose pid file has another format."""

    pid: int
    format: int | None
    """None for files from before formats were numbered."""
    drain_timeout: float


Holder = Instance | OtherVersion


def read_instance(path: Path) -> Holder | Locked | None:
    """The process that holds the pid file `path`; None if no process does, `Locked` if the contents do not name it.

    Raises `GatewayError` for a file that cannot be believed.
    """
    deadline = time.monotonic() + READ_PATIENCE
    while True:
        try:
            fd = open_file(path, os.O_RDONLY)
        except FileNotFoundError:
            return None
        try:
            if try_lock(fd, fcntl.LOCK_SH):
                return None
            if not is_believable(path, fd):
                raise GatewayError(f"cannot use the pid file {path}: it belongs to another user; remove it\n{ADVICE}")
            found = _parse(os.read(fd, MAX_PID_FILE))
            holders = holders_of(os.fstat(fd).st_ino)
        finally:
            os.close(fd)
        if found is not None and found.pid in holders and not _is_elsewhere(found):
            return found
        if time.monotonic() >= deadline:
            # A start that has just locked an old file would have replaced the contents by now. If the system does not
            # show who holds a lock, the contents are believed.
            elsewhere = found is not None and _is_elsewhere(found)
            return Locked(path, elsewhere=elsewhere) if found is None or holders or elsewhere else found
        time.sleep(0.02)


def _is_elsewhere(found: Holder) -> bool:
    return isinstance(found, Instance) and found.namespace not in ("", namespace())


def other_file(config: Path, instance: Holder) -> str:
    """The configuration file of `instance`, if it is not `config`; empty otherwise, and if unknown."""
    file = instance.config if isinstance(instance, Instance) else ""
    return "" if file == identity(config) else file


def _already(config: Path, instance: Holder | Locked | None) -> str:
    if isinstance(instance, OtherVersion):
        return (
            f"already running (pid {instance.pid}), as another version of the gateway\n  to stop it: {command('stop')}"
        )
    if isinstance(instance, Instance) and (file := other_file(config, instance)):
        return f"the gateway of {file} (pid {instance.pid}) has the same state folder\n{ADVICE}"
    if isinstance(instance, Instance):
        return (
            f"already running (pid {instance.pid}, {instance.address})\n"
            f"  to look at it: {command('status')}\n"
            f"  to stop it:    {command('stop')}"
        )
    return str(instance) if instance is not None else "another start is under way, try again in a moment"


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
    types: dict[Any, tuple[type, ...]] = {"int": (int,), "str": (str,), "float": (int, float)}
    return (
        all(type(getattr(instance, field.name)) in types[field.type] for field in fields(instance))
        and 0 < instance.port < 65536
        and 0 <= instance.control_port < 65536
    )
