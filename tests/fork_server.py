"""Child processes of `rad` without the time that Python needs to load it.

`ForkServer` starts one process that loads the whole gateway. It forks a child for each command, and the child runs
`rad` with the command line, the folder, the environment and the descriptors that it gets. The child has a process id,
signals and an exit code like any other. Loading alone costs ten times the CPU of most commands.

Tests of what a start loads, or of an interpreter with other options, use a `subprocess` instead.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import json
import os
import pkgutil
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Mapping, Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import IO, Any, Final, NoReturn

_STREAMS: Final = (("stdin", "r"), ("stdout", "w"), ("stderr", "w"))


class Child:
    """A child of the fork server, with those members of `subprocess.Popen` that the tests use, in text mode."""

    def __init__(self, status: socket.socket, pid: int, ours: Sequence[IO[str] | None]) -> None:
        self.pid = pid
        self.stdin, self.stdout, self.stderr = ours
        self.returncode: int | None = None
        self._status = status
        self._output: tuple[str, str] | None = None

    def poll(self) -> int | None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0.0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """The exit code, negative after a signal. Raises `TimeoutExpired`."""
        if self.returncode is None:
            self._status.settimeout(timeout)
            try:
                answer = self._status.recv(64)
            except (TimeoutError, BlockingIOError):
                raise subprocess.TimeoutExpired(f"rad, pid {self.pid}", timeout or 0.0) from None
            assert answer, "the fork server ended"
            self.returncode = int(answer)
            self._status.close()
        return self.returncode

    def communicate(self, timeout: float = 60.0) -> tuple[str, str]:
        """Close stdin and wait for the end: what the child wrote. Raises `TimeoutExpired`."""
        deadline = time.monotonic() + timeout
        if self._output is None:
            if self.stdin is not None:
                with contextlib.suppress(BrokenPipeError):
                    self.stdin.close()
            texts = ["", ""]
            readers = [
                threading.Thread(target=self._read, args=(stream, texts, index), daemon=True)
                for index, stream in enumerate((self.stdout, self.stderr))
                if stream is not None
            ]
            for reader in readers:
                reader.start()
            for reader in readers:
                reader.join(max(0.0, deadline - time.monotonic()))
                if reader.is_alive():
                    raise subprocess.TimeoutExpired(f"rad, pid {self.pid}", timeout)
            self._output = texts[0], texts[1]
        self.wait(max(0.0, deadline - time.monotonic()))
        return self._output

    @staticmethod
    def _read(stream: IO[str], texts: list[str], index: int) -> None:
        if not stream.closed:
            with stream:
                texts[index] = stream.read()

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class ForkServer:
    """The test's side of the process that forks."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", __file__, str(theirs.fileno())], env=environment, pass_fds=[theirs.fileno()]
            )

    def start(
        self, arguments: Sequence[str | bytes], *, cwd: Path, environment: Mapping[str, str], **streams: Any
    ) -> Child:
        """Run `rad` with these arguments. `streams` are as those of `subprocess.Popen`; one left out is a pipe."""
        status, theirs = socket.socketpair()
        ours: list[IO[str] | None] = []
        passed = []
        with contextlib.ExitStack() as opened:
            opened.enter_context(theirs)
            for name, mode in _STREAMS:
                wanted = streams.get(name, subprocess.PIPE)
                if wanted == subprocess.PIPE:
                    reader, writer = os.pipe()
                    mine, wanted = (writer, reader) if mode == "r" else (reader, writer)
                    ours.append(os.fdopen(mine, "w" if mode == "r" else "r"))
                    opened.callback(os.close, wanted)
                elif wanted == subprocess.DEVNULL:
                    wanted = os.open(os.devnull, os.O_RDWR)
                    ours.append(None)
                    opened.callback(os.close, wanted)
                else:
                    ours.append(None)
                passed.append(wanted if isinstance(wanted, int) else wanted.fileno())
            socket.send_fds(self._ours, [b"x"], [theirs.fileno(), *passed])
        request = {"argv": [os.fsdecode(one) for one in arguments], "cwd": str(cwd), "environment": dict(environment)}
        status.sendall(json.dumps(request).encode())
        status.shutdown(socket.SHUT_WR)
        pid = status.recv(64)
        assert pid, "the fork server ended"
        return Child(status, int(pid), ours)

    def close(self) -> None:
        self._ours.close()
        self._process.wait(30)


def load() -> None:
    """Import all that a command may import."""
    import gateway_core

    os.environ["PYDANTIC_DISABLE_PLUGINS"] = "__all__"  # as `rad` does
    for module in pkgutil.walk_packages(gateway_core.__path__, "gateway_core."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    for plugin in entry_points(group="gateway_core"):
        plugin.load()


def serve(control: socket.socket) -> bool:
    """Fork until the test's side is closed. Returns whether this is a child, which then is to run `rad`."""
    ended, wakeup = socket.socketpair()
    wakeup.setblocking(False)
    signal.set_wakeup_fd(wakeup.fileno(), warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    running: dict[int, socket.socket] = {}
    with selectors.DefaultSelector() as events:
        for source in (control, ended):
            events.register(source, selectors.EVENT_READ)
        while True:
            for key, _ in events.select():
                if key.fileobj is ended:
                    ended.recv(4096)
                    _report(running)
                    continue
                _, descriptors, _, _ = socket.recv_fds(control, 1, 4)
                if not descriptors:
                    return False
                pid = os.fork()
                if not pid:
                    _become(*descriptors)
                    return True
                for descriptor in descriptors[1:]:
                    os.close(descriptor)
                running[pid] = socket.socket(fileno=descriptors[0])
                running[pid].sendall(b"%d" % pid)


def _report(running: dict[int, socket.socket]) -> None:
    """Tell the test's side of all children that have ended."""
    with contextlib.suppress(ChildProcessError):
        while (found := os.waitpid(-1, os.WNOHANG))[0]:
            with running.pop(found[0]) as status, contextlib.suppress(OSError):
                status.sendall(b"%d" % os.waitstatus_to_exitcode(found[1]))


def _become(status: int, *streams: int) -> None:
    """In the child: become a process as `python -m gateway_core.cli …` would be."""
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGCHLD, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with socket.socket(fileno=status) as asked:
        request = json.loads(b"".join(iter(lambda: asked.recv(65536), b"")))
    for number, ((name, mode), descriptor) in enumerate(zip(_STREAMS, streams, strict=True)):
        os.dup2(descriptor, number)
        setattr(sys, name, os.fdopen(number, mode, closefd=False, errors="backslashreplace" if number == 2 else None))
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.argv[1:] = request["argv"]


def _run() -> NoReturn:
    """Run `rad` and end as the interpreter does, except that it does not free what was loaded: that takes as long."""
    from gateway_core.cli import main

    code = 1
    try:
        code = main()
    except BaseException:
        traceback.print_exc()
    for thread in threading.enumerate():
        if not thread.daemon and thread is not threading.current_thread():
            thread.join()
    atexit._run_exitfuncs()
    with contextlib.suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    load()
    gc.collect()
    gc.freeze()
    if serve(socket.socket(fileno=int(sys.argv[1]))):
        _run()
