"""Finds the holder of a port on Linux: `/proc/net` lists sockets, `/proc/PID/fd` their owners."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import socket
import time
from pathlib import Path
from typing import Final

from gateway_core.cli.hints import command

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
    holder = find_holder(port)
    return (
        f"port {port} is already in use: cannot listen on {shown}\n"
        + (f"  held by:           {holder}\n" if holder else "")
        + f"  is it a gateway?   {command('status')}\n"
        f"  to stop that one:  {command('stop')}\n"
        f"  or change the port in the configuration file: {key}"
    )


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


def find_holder(port: int) -> str | None:
    """The process that listens on TCP `port`, as `name (pid N)`; None if it cannot be determined."""
    wanted = {f"socket:[{inode}]" for inode in _listening_inodes(port)}
    if not wanted:
        return None
    deadline = time.monotonic() + SEARCH_TIME
    with contextlib.suppress(OSError):
        for process in Path("/proc").iterdir():
            if time.monotonic() > deadline:
                break
            if process.name.isdigit() and _holds(process, wanted):
                return f"{_name(process)} (pid {process.name})"
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


def _holds(process: Path, wanted: set[str]) -> bool:
    with contextlib.suppress(OSError):  # open files of other users' processes are not visible
        for fd in (process / "fd").iterdir():
            with contextlib.suppress(OSError):
                if os.readlink(fd) in wanted:
                    return True
    return False


def _name(process: Path) -> str:
    # Only the name, because arguments of another program may hold secrets.
    with contextlib.suppress(OSError):
        return re.sub(r"[^\w.:/+-]", "?", (process / "comm").read_text(errors="replace").strip())
    return "a process"
