"""Finds the holder of a port on Linux: `/proc/net` lists sockets, `/proc/PID/fd` their owners."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shlex
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from gateway_core.cli.instance import Instance, read_instance
from gateway_core.cli.report import Failed
from gateway_core.errors import GatewayError

LISTEN: Final = "0A"
SEARCH_TIME: Final = 0.5
"""Maximum seconds of the search, so that the command reports its error within one second."""
DATA_PORT: Final = "[mcp.proxy] port = … (or start with --port N)"
CONTROL_PORT: Final = "[mcp.proxy.control] port = … (0: any free one)"


def in_use_message(error: OSError, host: str, port: int, key: str = DATA_PORT) -> str:
    """The error message for a failed bind to `host`:`port`. `key`: where the file sets the port."""
    shown = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    if isinstance(error, socket.gaierror):
        return f"cannot listen on {shown}: {error.strerror}"
    if error.errno != errno.EADDRINUSE:
        reason = os.strerror(error.errno) if error.errno else str(error)
        return f"cannot listen on {shown}: {reason}"
    head = f"port {port} is already in use: cannot listen on {shown}\n"
    pid = find_holder(port)
    if pid is None:
        return f"{head}  choose another port, {key}\n  or end the program that holds it"
    holder = f"  held by: {_name(pid)} (pid {pid})"
    gateway = _pid_file(pid)
    if gateway is None:
        return f"{head}{holder}\n  choose another port, {key}\n  or end that program"
    place, config = gateway
    stop = ["rad", "mcp", "proxy", "stop", "--config", config]
    if place.parent != Path(config).parent:
        stop += ["--state-dir", str(place.parent)]
    return f"{head}{holder}, the gateway of {config}\n  to stop it: {shlex.join(stop)}\n  or choose another port, {key}"


@contextlib.contextmanager
def explained(host: str, port: int, key: str = DATA_PORT) -> Iterator[None]:
    """Raise `Failed` with the text of `in_use_message` for an `OSError` of a bind."""
    try:
        yield
    except OSError as error:
        raise Failed(in_use_message(error, host, port, key)) from error


def check(host: str, port: int) -> None:
    """Raise `OSError` if `host`:`port` is in use or `host` does not resolve.

    Runs before the gateway is loaded, so that these errors appear early. The gateway reports all others.
    """
    found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    for family, kind, protocol, _, address in found:
        try:
            with socket.socket(family, kind, protocol) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                probe.bind(address)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise


def find_holder(port: int) -> int | None:
    """The pid of the process that listens on TCP `port`; None if it cannot be determined."""
    wanted = {f"socket:[{inode}]" for inode in _listening_inodes(port)}
    if not wanted:
        return None
    deadline = time.monotonic() + SEARCH_TIME
    with contextlib.suppress(OSError):
        for process in Path("/proc").iterdir():
            if time.monotonic() > deadline:
                break
            if process.name.isdigit() and not wanted.isdisjoint(_open_files(int(process.name))):
                return int(process.name)
    return None


def _pid_file(pid: int) -> tuple[Path, str] | None:
    """The pid file of the gateway that runs as `pid`, and its configuration file; None for another program."""
    for name in _open_files(pid):
        if name.endswith(".pid"):
            with contextlib.suppress(GatewayError):
                found = read_instance(Path(name))
                if isinstance(found, Instance) and found.pid == pid and found.config:
                    return Path(name), found.config
    return None


def _listening_inodes(port: int) -> set[str]:
    inodes = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(OSError):
            for line in Path(table).read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == LISTEN and int(fields[1].rpartition(":")[2], 16) == port:
                    inodes.add(fields[9])
    return inodes


def _open_files(pid: int) -> Iterator[str]:
    """What the descriptors of a process refer to; nothing for processes of other users."""
    with contextlib.suppress(OSError):
        for fd in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                yield os.readlink(fd)


def _name(pid: int) -> str:
    # Only the name, because arguments of another program may hold secrets.
    with contextlib.suppress(OSError):
        return re.sub(r"[^\w.:/+-]", "?", Path(f"/proc/{pid}/comm").read_text(errors="replace").strip())
    return "a process"
