"""Process 1 of a container: it starts the gateway, passes signals on and reaps orphans."""

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="containers and sub-reapers are of Linux")

PARENT = """
import ctypes, fcntl, os, sys, termios, time
from gateway_core.cli.serving.pid_one import split

PR_SET_CHILD_SUBREAPER = 36  # makes orphans children of this process, as they are of process 1
assert ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0
if os.isatty(0):
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
code = split()
if code is not None:
    print("parent", code, flush=True)
    sys.exit(code)
"""


def started(child: str, **options: object) -> subprocess.Popen[str]:
    """A process that adopts orphans and calls `split`; `child` is what its child does."""
    code = PARENT + textwrap.dedent(child)
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    return subprocess.Popen([sys.executable, "-c", code], text=True, **pipes)


def children(pid: int) -> dict[int, str]:
    """The children of a process and their states; `Z` is a zombie."""
    found = {}
    for pid_text in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        with contextlib.suppress(OSError):  # it was reaped meanwhile
            stat = Path(f"/proc/{pid_text}/stat").read_text()
            found[int(pid_text)] = stat.rpartition(")")[2].split()[0]
    return found


def wait_for(condition: Callable[[], object], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.02)


@pytest.mark.parametrize(("child", "code"), [("sys.exit(0)", 0), ("sys.exit(7)", 7), ("os.kill(os.getpid(), 9)", 137)])
def test_it_ends_with_the_code_of_its_child(child: str, code: int) -> None:
    parent = started(child)
    out, err = parent.communicate(timeout=60)
    assert (parent.returncode, out) == (code, f"parent {code}\n"), err


ORPHANS = """
import subprocess
for _ in range(5):  # each shell leaves a process behind, which ends later
    subprocess.run(["sh", "-c", "sleep 0.2 &"], check=True)
print("left", flush=True)
time.sleep(60)
"""


def test_orphans_are_reaped_while_the_child_runs() -> None:
    parent = started(ORPHANS)
    try:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "left\n"
        (child,) = (pid for pid in children(parent.pid) if "python" in _name(pid))
        wait_for(lambda: list(children(parent.pid)) == [child])
    finally:
        parent.terminate()
        parent.communicate(timeout=60)


def _name(pid: int) -> str:
    """The name of a process; "" if it has ended."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text()
    return ""


def test_an_orphan_that_ends_after_the_child_does_not_hold_it_up() -> None:
    parent = started('import subprocess\nsubprocess.run(["sh", "-c", "sleep 300 & echo $!"])\nsys.exit(3)')
    try:
        assert parent.wait(60) == 3
    finally:
        assert parent.stdout is not None
        os.kill(int(parent.stdout.readline()), signal.SIGKILL)
        parent.communicate(timeout=60)


HANDLER = """
import signal
def note(number, frame):
    print(signal.Signals(number).name, flush=True)
    if number in (signal.SIGTERM, signal.SIGINT):
        sys.exit(0)
for name in ("SIGTERM", "SIGINT", "SIGHUP", "SIGUSR1"):
    signal.signal(getattr(signal, name), note)
print("ready", flush=True)
while True:
    time.sleep(0.05)
"""


def test_signals_reach_the_child_once_each() -> None:
    parent = started(HANDLER)
    assert parent.stdout is not None
    assert parent.stdout.readline() == "ready\n"
    for number in (signal.SIGUSR1, signal.SIGHUP, signal.SIGTERM):
        parent.send_signal(number)
        assert parent.stdout.readline() == f"{number.name}\n"
    out, err = parent.communicate(timeout=60)
    assert (parent.returncode, out) == (0, "parent 0\n"), err


def test_ctrl_c_on_a_terminal_reaches_the_child_once() -> None:
    """Two signals would stop the gateway without draining."""
    ours, theirs = os.openpty()
    parent = started(HANDLER, stdin=theirs, start_new_session=True)
    os.close(theirs)
    try:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "ready\n"
        os.write(ours, b"\x03")
        out, err = parent.communicate(timeout=60)
        assert (parent.returncode, out) == (0, "SIGINT\nparent 0\n"), err
    finally:
        os.close(ours)


def test_the_child_inherits_no_blocked_signal() -> None:
    parent = started("import signal\nprint(len(signal.pthread_sigmask(signal.SIG_BLOCK, [])), flush=True)")
    out, err = parent.communicate(timeout=60)
    assert out.splitlines()[0] == "0", err
