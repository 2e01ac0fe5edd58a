"""The life of a child process: it ends whole, it is always reaped, and it never outlives the gateway."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gateway_core.config import UpstreamConfig
from gateway_core.errors import NotSent
from gateway_core.upstream.process.child import Child, environment

SERVERS = Path(__file__).parents[1] / "servers"
FAULTY = str(SERVERS / "faulty.py")


class Ward:
    """A started child and what it said."""

    def __init__(self, *args: str) -> None:
        config = UpstreamConfig(name="server", transport="stdio", command=sys.executable, args=args)
        self.output = b""
        self.ends: list[str] = []
        self.child = Child(config)
        self.child.hear(self._output, self.ends.append)

    def _output(self, data: bytes) -> None:
        self.output += data

    async def ended_within(self, seconds: float) -> bool:
        end = time.monotonic() + seconds
        while not self.ends and time.monotonic() < end:
            await asyncio.sleep(0.02)
        return bool(self.ends)


def stat(pid: int) -> str:
    found = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return found.stdout.strip()


def runs(pid: int) -> bool:
    return not (stat(pid) or "Z").startswith("Z")


async def pids_in(file: Path, count: int) -> list[int]:
    async with asyncio.timeout(10):
        while not file.exists() or len(file.read_text().split()) < count:
            await asyncio.sleep(0.02)
    return [int(pid) for pid in file.read_text().split()]


async def gone_within(seconds: float, *pids: int) -> bool:
    end = time.monotonic() + seconds
    while any(runs(pid) for pid in pids):
        if time.monotonic() > end:
            return False
        await asyncio.sleep(0.05)
    return True


def kill(*pids: int) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def children() -> set[tuple[int, bool]]:
    """Our own child processes, and whether each is a zombie."""
    found = subprocess.run(["ps", "-A", "-o", "pid=,ppid=,stat=,args="], capture_output=True, text=True, check=True)
    rows = [line.split(None, 3) for line in found.stdout.splitlines()]
    own = [row for row in rows if int(row[1]) == os.getpid() and not row[3].startswith("ps ")]
    return {(int(pid), state.startswith("Z")) for pid, _, state, _ in own}


def test_the_environment_is_the_allowlist_and_what_is_given() -> None:
    inherited = {"PATH": "/bin", "HOME": "() { echo; }", "SECRET": "x", "USER": "me"}
    assert environment({"USER": "you", "KEY": "k"}, inherited) == {"PATH": "/bin", "USER": "you", "KEY": "k"}


async def test_a_child_that_ends_with_its_stdin_is_stopped_politely() -> None:
    ward = Ward(FAULTY)
    await ward.child.start()
    await ward.child.stop()
    assert ward.child._lifeline._reports[b"status"] == 0, "no signal ended it"
    assert ward.ends == ["was stopped"]


async def test_a_stubborn_family_is_killed(tmp_path: Path) -> None:
    ward = Ward(FAULTY, "family", str(tmp_path / "pids"))
    await ward.child.start()
    pids = await pids_in(tmp_path / "pids", 2)
    assert all(runs(pid) for pid in pids)
    async with asyncio.timeout(6):
        await ward.child.stop()
    assert not any(runs(pid) for pid in pids)


async def test_sigterm_comes_before_sigkill(tmp_path: Path) -> None:
    code = (
        "import signal, sys, time, pathlib\n"
        "def on(*_): pathlib.Path(sys.argv[1]).write_text('asked'); sys.exit()\n"
        "signal.signal(signal.SIGTERM, on); print('up', flush=True)\n"
        "while True: time.sleep(600)"
    )
    ward = Ward("-c", code, str(tmp_path / "mark"))
    await ward.child.start()
    async with asyncio.timeout(5):
        while b"up" not in ward.output:
            await asyncio.sleep(0.02)
    await ward.child.stop()
    assert (tmp_path / "mark").read_text() == "asked"


async def test_a_stopped_child_is_ended_too() -> None:
    ward = Ward("-c", "import os, signal; print(os.getpid(), flush=True); os.kill(os.getpid(), signal.SIGSTOP)")
    await ward.child.start()
    async with asyncio.timeout(5):
        while not ward.output.endswith(b"\n"):
            await asyncio.sleep(0.02)
    await ward.child.stop()
    assert not runs(int(ward.output))


async def test_the_guard_can_be_killed_and_the_child_does_not_stay(tmp_path: Path) -> None:
    ward = Ward(FAULTY, "family", str(tmp_path / "pids"))
    await ward.child.start()
    pids = await pids_in(tmp_path / "pids", 2)
    guard = int(subprocess.run(["ps", "-o", "ppid=", "-p", str(pids[0])], capture_output=True, check=True).stdout)
    os.kill(guard, signal.SIGKILL)
    assert await ward.ended_within(1)
    assert "without its guard" in ward.ends[0]
    assert await gone_within(1, *pids)
    await ward.child.stop()


async def test_sigterm_to_the_guard_ends_the_child(tmp_path: Path) -> None:
    ward = Ward(FAULTY, "family", str(tmp_path / "pids"))
    await ward.child.start()
    pids = await pids_in(tmp_path / "pids", 2)
    guard = int(subprocess.run(["ps", "-o", "ppid=", "-p", str(pids[0])], capture_output=True, check=True).stdout)
    os.kill(guard, signal.SIGTERM)
    assert await gone_within(5, *pids)
    assert await ward.ended_within(1)
    assert ward.ends[0].startswith("was ended by SIGKILL")
    await ward.child.stop()


async def test_the_exit_status_passes_through() -> None:
    ward = Ward("-c", "import sys; sys.exit(7)")
    await ward.child.start()
    assert await ward.ended_within(5)
    assert ward.ends == ["exited with status 7"]
    await ward.child.stop()


async def test_restarts_leave_no_zombies_and_no_descriptors() -> None:
    before, fds = children(), len(os.listdir("/dev/fd"))
    for _ in range(10):
        ward = Ward("-c", "pass")
        await ward.child.start()
        await ward.child.stop()
    await asyncio.sleep(0.05)
    assert not children() - before
    assert len(os.listdir("/dev/fd")) <= fds + 1


async def test_nothing_is_left_once_a_child_was_stopped_that_was_just_being_started() -> None:
    before = children()
    for delay in (0.0, 0.001, 0.003, 0.01):
        ward = Ward(FAULTY, "family")
        starting = asyncio.create_task(ward.child.start())
        await asyncio.sleep(delay)
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        await asyncio.wait_for(ward.child.stop(), 6)
        assert not children() - before, "its guard, and with it the server, has ended when `stop` has"


async def test_stop_without_start_and_twice() -> None:
    ward = Ward("-c", "pass")
    await ward.child.stop()
    ward = Ward("-c", "pass")
    await ward.child.start()
    await asyncio.gather(ward.child.stop(), ward.child.stop())
    assert len(ward.ends) == 1


async def test_a_relative_command_is_looked_up_from_its_working_directory(tmp_path: Path) -> None:
    script = tmp_path / "server"
    script.write_text("#!/bin/sh\necho hello\n")
    script.chmod(0o755)
    found: list[bytes] = []
    values = {"name": "server", "transport": "stdio", "command": "./server"}
    child = Child(UpstreamConfig(**values, cwd=str(tmp_path)))
    child.hear(found.append, lambda reason: None)
    await child.start()
    async with asyncio.timeout(5):
        while found != [b"hello\n"]:
            await asyncio.sleep(0.02)
    await child.stop()
    with pytest.raises(NotSent):
        await Child(UpstreamConfig(**values)).start()


async def test_kill_9_of_the_gateway_leaves_no_process(tmp_path: Path) -> None:
    file = tmp_path / "pids"
    gateway = await asyncio.create_subprocess_exec(
        sys.executable, str(SERVERS / "holder.py"), str(file), stdout=asyncio.subprocess.PIPE
    )
    assert gateway.stdout is not None
    assert await gateway.stdout.readline() == b"open\n"
    pids = await pids_in(file, 2)
    guard = int(subprocess.run(["ps", "-o", "ppid=", "-p", str(pids[0])], capture_output=True, check=True).stdout)
    assert all(runs(pid) for pid in (*pids, guard))
    gateway.kill()
    await gateway.wait()
    try:
        assert await gone_within(5, *pids, guard)
    finally:
        kill(*pids)
