"""Starts servers on the official SDK as forks of one process that has imported it.

The import takes most of the time that such a server needs to start. A fork is a process as any other: it has its own
session, and tests kill it and start it again. Run as a script, this module is the process that forks.
"""

from __future__ import annotations

import atexit
import functools
import gc
import json
import os
import runpy
import signal
import subprocess
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import Any


class Fork:
    """A running script, with the methods of `subprocess.Popen` that tests use. Its stdout goes to stderr."""

    def __init__(self, *command: str | Path, quiet: bool = False) -> None:
        """`command`: a Python script and its arguments. `quiet`: drop what it writes."""
        self.pid: int = _ask(run=[str(part) for part in command], quiet=quiet)
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """The exit status, negative for a signal; None while it runs."""
        if self.returncode is None:
            self.returncode = _ask(poll=self.pid)
        return self.returncode

    def wait(self, timeout: float) -> int:
        """Wait until it ends. Raises `subprocess.TimeoutExpired`."""
        deadline = time.monotonic() + timeout
        while (found := self.poll()) is None:
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired(str(self.pid), timeout)
            time.sleep(0.005)
        return found

    def kill(self) -> None:
        """Kill it, if it runs."""
        if self.poll() is None:
            os.kill(self.pid, signal.SIGKILL)


_turn = threading.Lock()


@functools.cache
def _host() -> subprocess.Popen[str]:
    command = [sys.executable, __file__]
    host = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def end() -> None:
        host.communicate(timeout=20)

    atexit.register(end)
    return host


def _ask(**request: Any) -> Any:
    with _turn:
        host = _host()
        assert host.stdin is not None
        assert host.stdout is not None
        host.stdin.write(json.dumps(request) + "\n")
        host.stdin.flush()
        return json.loads(host.stdout.readline())


def _serve() -> None:
    """Answer requests on stdin until it ends, then kill the forks that still run."""
    running: set[int] = set()
    for line in sys.stdin:
        request = json.loads(line)
        if "run" in request:
            answer: int | None = os.fork()
            if answer == 0:
                _become(request["run"], quiet=request["quiet"])
            assert answer is not None
            running.add(answer)
        else:
            pid, status = os.waitpid(request["poll"], os.WNOHANG)
            running.discard(pid)
            answer = os.waitstatus_to_exitcode(status) if pid else None
        print(json.dumps(answer), flush=True)
    for pid in running:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def _become(command: list[str], *, quiet: bool) -> None:
    """Run a script in this fork, and end it."""
    code = 1
    try:
        os.setsid()
        nothing = os.open(os.devnull, os.O_RDWR)
        os.dup2(nothing, 0)
        if quiet:
            os.dup2(nothing, 2)
        os.dup2(2, 1)
        sys.argv = command
        sys.path[0] = os.path.dirname(command[0])
        runpy.run_path(command[0], run_name="__main__")
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _load() -> None:
    """Import what servers import, and what they would import at their first use of it."""
    import uvicorn
    import uvicorn.lifespan.on
    import uvicorn.protocols.http.auto
    import uvicorn.protocols.websockets.auto
    from mcp.server.mcpserver import MCPServer

    uvicorn.Config(MCPServer("warm").streamable_http_app(), log_level="error").load()
    gc.freeze()


if __name__ == "__main__":
    _load()
    _serve()
