"""The guard of one child process: a separate program, run as `python -I -S _guard.py FD -- COMMAND [ARG…]`.

It starts the command in a new process group with the guard's stdin, stdout and stderr. It ends the whole group when
the **lifeline** closes: FD, one end of a socket pair whose other end only the gateway holds. The kernel closes that
end however the gateway dies, so no child outlives it. Ending means SIGTERM, `GRACE` seconds, SIGKILL. When the command
itself exits, the guard also ends the processes left in its group.

It reports on the lifeline, one line each: `child PID`, then `status N` (negative: the signal that ended it), or
`failed ERRNO` if the command cannot be run.

The guard imports nothing from the gateway and little from the standard library, because it starts once per child.
"""

from __future__ import annotations

# The public module `signal` loads slowly and adds only names of constants.
import _signal as signal  # type: ignore[import-not-found]
import os
import select
import sys
import time

GRACE = 2.0
"""Seconds between SIGTERM and SIGKILL."""
LEFTOVER_GRACE = 0.3
"""The same for processes that the command left behind; short, because the gateway waits for the guard to exit."""
LAST_WAIT = 1.0
"""Seconds that the guard waits for a killed process to exit; then it exits itself."""
NOT_RUN = 127
MOST_DESCRIPTORS = 1 << 20
"""Upper bound for the descriptors to close if the system's limit is higher or unlimited."""

_ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_IGNORED = (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGUSR1)
"""Signals that Python ignores, and one that a gateway ignores while it restarts. The child gets their defaults."""


class Guard:
    def __init__(self, lifeline: int) -> None:
        self._lifeline = lifeline
        os.set_inheritable(lifeline, False)
        _close_others(lifeline)
        self._wake, wake = os.pipe()
        os.set_blocking(self._wake, False)
        os.set_blocking(wake, False)
        signal.set_wakeup_fd(wake)
        for number in (signal.SIGCHLD, *_ENDING):
            signal.signal(number, _noted)
        self._group = 0
        self._ending = False
        self._deadline: float | None = None

    def run(self, argv: list[str]) -> None:
        """Start `argv`, wait for it, and end its group."""
        try:
            self._group = os.posix_spawnp(argv[0], argv, os.environ, setpgroup=0, setsigdef=_IGNORED)
        except OSError as error:
            self._report(b"failed %d\n" % (error.errno or 0))
            os._exit(NOT_RUN)
        self._report(b"child %d\n" % self._group)
        nothing = os.open(os.devnull, os.O_RDWR)
        for fd in (0, 1, 2):
            os.dup2(nothing, fd)  # else the gateway would not see that the child closed its end
        status = self._watch()
        if status is not None:
            self._report(b"status %d\n" % os.waitstatus_to_exitcode(status))
        self._end_leftovers()

    def _watch(self) -> int | None:
        """Wait for the child. Returns its wait status; None if it did not exit in time after SIGKILL."""
        poll = select.poll()
        poll.register(self._wake, select.POLLIN)
        poll.register(self._lifeline, select.POLLIN)
        killed = False
        while True:
            pid, status = os.waitpid(self._group, os.WNOHANG)
            if pid:
                return status
            if self._ending and self._deadline is None:
                poll.unregister(self._lifeline)
                self._send(signal.SIGTERM)
                self._send(signal.SIGCONT)
                self._deadline = time.monotonic() + GRACE
            wait = None
            if self._deadline is not None:
                wait = max(self._deadline - time.monotonic(), 0) * 1000
            for fd, _ in poll.poll(wait):
                self._read(fd)
            if self._deadline is not None and time.monotonic() >= self._deadline:
                if killed:
                    return None
                self._send(signal.SIGKILL)
                killed = True
                self._deadline = time.monotonic() + LAST_WAIT

    def _read(self, fd: int) -> None:
        try:
            data = os.read(fd, 512)
        except BlockingIOError:
            return
        except OSError:  # the gateway died with reports unread
            data = b""
        if fd == self._lifeline:
            self._ending = self._ending or not data
        else:
            self._ending = self._ending or any(number in data for number in _ENDING)

    def _end_leftovers(self) -> None:
        self._send(signal.SIGTERM)
        deadline = time.monotonic() + LEFTOVER_GRACE
        while self._send(0) and time.monotonic() < deadline:
            time.sleep(0.02)
        self._send(signal.SIGKILL)

    def _send(self, number: int) -> bool:
        """Signal the whole group. Returns False if it has no processes left."""
        try:
            os.killpg(self._group, number)
        except OSError:  # macOS answers EPERM for a group of zombies
            return False
        return True

    def _report(self, line: bytes) -> None:
        try:
            os.write(self._lifeline, line)
        except OSError:  # the gateway closed its end
            self._ending = True


def _close_others(kept: int) -> None:
    """Close all inherited descriptors above stderr, except `kept`.

    An event loop may leave copies of the three pipes open here (uvloop does). With a copy of stdout still open, the
    gateway would see no end of file when the child closes its stdout.
    """
    os.closerange(3, kept)
    limit = os.sysconf("SC_OPEN_MAX")
    os.closerange(kept + 1, limit if 0 < limit < MOST_DESCRIPTORS else MOST_DESCRIPTORS)


def _noted(_number: int, _frame: object) -> None:
    """Does nothing: Python writes a signal's number to the wake-up pipe only if it has a handler."""


if __name__ == "__main__":
    Guard(int(sys.argv[1])).run(sys.argv[3:])
    os._exit(0)
