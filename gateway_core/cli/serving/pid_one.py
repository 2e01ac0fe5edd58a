"""The gateway as process 1 of a container.

The kernel gives process 1 two duties: it must reap every orphan of the container, and a signal without a handler does
not end it. So process 1 stays small: it starts the gateway as its child, passes signals on, reaps, and ends with the
gateway's status. The kernel then ends what is left in the container. A gateway that reaped orphans itself could not
distinguish them from the children that its event loop waits for.
"""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from typing import Final

PASSED_ON: Final = frozenset(
    {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2}
)
"""Signals that the gateway gets from process 1."""
_BLOCKED: Final = PASSED_ON | {signal.SIGCHLD}


def is_pid_one() -> bool:
    """Whether this process is the first of its container."""
    return os.getpid() == 1


def split() -> int | None:
    """Continue in a child process. Returns None there; in this process, its exit code, after it has ended.

    Call it before the process has threads or an event loop. A child that a signal ended gives 128 plus its number, as
    a shell does.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    # Blocked signals wait for `sigwait`, even signals that the kernel would not deliver to process 1.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _BLOCKED)
    child = os.fork()
    if child == 0:
        _take_terminal()
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return None
    with suppress(OSError):
        os.setpgid(child, child)
    return _wait(child)


def _take_terminal() -> None:
    """Leave the process group, so that Ctrl+C reaches the gateway once: from the terminal and not from process 1."""
    os.setpgid(0, 0)
    if not os.isatty(0):
        return
    before = signal.signal(signal.SIGTTOU, signal.SIG_IGN)  # changing the terminal's group would stop this process
    with suppress(OSError):
        os.tcsetpgrp(0, os.getpgrp())
    signal.signal(signal.SIGTTOU, before)


def _wait(child: int) -> int:
    """Pass signals on to `child` and reap until it ends. Returns its exit code."""
    while True:
        number = signal.sigwait(_BLOCKED)
        if number != signal.SIGCHLD:
            with suppress(OSError):
                os.kill(child, number)
            continue
        code = _reap(child)
        if code is not None:
            return code


def _reap(child: int) -> int | None:
    """Reap all processes that have ended. Returns the exit code of `child` if it is among them."""
    code = None
    with suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                break
            if pid == child:
                code = os.waitstatus_to_exitcode(status)
    return code if code is None or code >= 0 else 128 - code
