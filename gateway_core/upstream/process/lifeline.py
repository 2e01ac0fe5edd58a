"""The gateway's end of the lifeline of a guard; `_guard.py` describes the other one."""

from __future__ import annotations

import contextlib
import os
import signal
import socket


class Lifeline:
    """Keeps a guard and its server alive until it is let go, and holds what the guard reported once it has exited."""

    def __init__(self) -> None:
        self._socket: socket.socket | None = None
        self._reports: dict[bytes, int] = {}

    def open(self) -> socket.socket:
        """Open it, and return the guard's end. Raises `OSError`."""
        self._socket, guards_end = socket.socketpair()
        self._socket.setblocking(False)
        return guards_end

    def let_go(self) -> None:
        """Make the guard end the server's process group. Its reports can still be read."""
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()

    @property
    def ran(self) -> bool:
        """Whether the guard reported that the command started."""
        return b"child" in self._reports

    @property
    def unrunnable(self) -> bool:
        """Whether the exit status of a shell or `env` says that its command does not exist or cannot be run."""
        return self._reports.get(b"status") in {126, 127}

    def how_it_ended(self, command: str) -> str:
        """How the server ended, by the reports: `exited with status 1`."""
        if (errno := self._reports.get(b"failed")) is not None:
            return f"could not be run: {command!r}: {os.strerror(errno)}"
        status = self._reports.get(b"status")
        if status is None:
            return "was left without its guard process, and was killed"
        return f"was ended by {_signal_name(-status)}" if status < 0 else f"exited with status {status}"

    def guard_exited(self) -> None:
        """Read the reports, and kill the server's group if the guard was killed before it could do so."""
        self._read_reports()
        if b"child" in self._reports and b"status" not in self._reports:
            kill(self._reports[b"child"])

    def _read_reports(self) -> None:
        if self._socket is None:
            return
        with contextlib.suppress(OSError, ValueError):
            for line in self._socket.recv(512).splitlines():
                word, _, number = line.partition(b" ")
                self._reports[word] = int(number)


def kill(group: int) -> None:
    """Kill a process group."""
    with contextlib.suppress(OSError):
        os.killpg(group, signal.SIGKILL)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
