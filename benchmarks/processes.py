"""The benchmark's own processes: start them on one processor, read what they cost, end them.

CPU time and memory come from /proc (Linux only), of a process with its descendants. Only processes started here
are ever ended.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

HERE = Path(__file__).resolve().parent
OUT = HERE / "out"
TOOLS = ("mcpup", "mcpload")
PATIENCE = 60.0
"""Seconds that a process gets to become ready."""
_FLAGS = ("-O2", "-Wall", "-Wextra")


def cpus() -> tuple[int, int]:
    """(the processor of the target, the one of the load and the upstream); the same where there is only one."""
    allowed = sorted(os.sched_getaffinity(0))
    return allowed[0], allowed[-1]


@contextlib.contextmanager
def pinned(cpu: int) -> Iterator[None]:
    """What is started inside inherits this processor; pinning a child after its start would miss its threads."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {cpu})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


_prefix: list[str] = []


@contextlib.contextmanager
def started_by(argv: Sequence[str]) -> Iterator[None]:
    """Each `Process` that is made inside is started by this program, which runs it as its last arguments say."""
    _prefix[:] = argv
    try:
        yield
    finally:
        _prefix.clear()


def build(folder: Path = OUT) -> None:
    """Compiles the C programs where they are older than their sources. Without a compiler it exits and says so."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        raise SystemExit("the benchmark needs a C compiler for its load generator and upstream: apt-get install gcc")
    folder.mkdir(parents=True, exist_ok=True)
    changed = max(source.stat().st_mtime for source in (HERE / "src").iterdir())
    for tool in TOOLS:
        program = folder / tool
        if not program.exists() or program.stat().st_mtime < changed:
            new = folder / f"{tool}.new"
            argv = [compiler, *_FLAGS, "-o", str(new), str(HERE / "src" / f"{tool}.c")]
            subprocess.run(argv, check=True, timeout=120)
            # renamed when complete, so that two runs at once never start half a program
            new.replace(program)


def free_ports(count: int) -> list[int]:
    """Different ports that nobody listens on."""
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]


def free_port() -> int:
    return free_ports(1)[0]


class Process:
    """A child on one processor, with its output in a file; it is ready for calls when the constructor returns.

    Ready is an open `port`, or, with `ready` given, status 200 at that path. Raises `RuntimeError` with the end of the
    child's output when it ends or is not ready in time. `env` comes on top of the environment of the run.
    """

    def __init__(
        self,
        argv: Sequence[str],
        *,
        cpu: int,
        port: int,
        log: Path,
        ready: str = "",
        env: Mapping[str, str] = MappingProxyType({}),
        folder: Path | None = None,
        patience: float = PATIENCE,
    ) -> None:
        # without the bytecode cache every start of a Python target would compile its imports anew
        given = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"} | dict(env)
        with log.open("wb") as output, pinned(cpu):
            self._child = subprocess.Popen(
                [*_prefix, *argv],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=given,
                cwd=folder,
                start_new_session=True,
            )
        self.pid = self._child.pid
        self._name, self._log = Path(argv[0]).name, log
        self.wait(port, ready, patience)

    def wait(self, port: int, path: str, patience: float = PATIENCE) -> None:
        """Wait until it serves `path` at a port, as the constructor does; stop it if it does not."""
        deadline = time.monotonic() + patience
        try:
            while not _serves(port, path):
                ended = self._child.poll()
                if ended is not None or time.monotonic() > deadline:
                    why = f"not ready after {patience:.0f} s" if ended is None else f"it ended with {ended}"
                    said = self._log.read_text(errors="replace")[-400:].strip()
                    raise RuntimeError(f"{self._name}: {why}: {said}")
                time.sleep(0.02)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Ends the child, and what it started that is still there."""
        family = tree(self.pid)
        for end in (self._child.terminate, self._child.kill):
            end()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._child.wait(5)
                break
        for orphan in family[1:]:
            with contextlib.suppress(OSError):
                # its group is this child's own: a process id that was given to somebody else meanwhile is not in it
                if os.getpgid(orphan) == self.pid:
                    os.kill(orphan, signal.SIGKILL)


def _serves(port: int, path: str) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.connect()
        if not path:
            return True
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def tree(pid: int) -> list[int]:
    """A process and its descendants, itself first."""
    pids = [pid]
    for known in pids:
        with contextlib.suppress(OSError):
            for task in os.listdir(f"/proc/{known}/task"):
                pids += map(int, Path(f"/proc/{known}/task/{task}/children").read_text().split())
    return pids


def cpu_seconds(pid: int) -> float:
    """CPU time of a process, its threads and its descendants, in seconds, exact to a scheduler tick.

    Of children that have ended it is known in hundredths only: some targets start one for each request.
    """
    total = ended = 0
    for each in tree(pid):
        with contextlib.suppress(OSError):
            for task in os.listdir(f"/proc/{each}/task"):
                total += int(Path(f"/proc/{each}/task/{task}/schedstat").read_text().split()[0])
            # what follows the command's name, in brackets: the state is field 3, cutime and cstime are 16 and 17
            fields = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
            ended += int(fields[13]) + int(fields[14])
    return total / 1e9 + ended / os.sysconf("SC_CLK_TCK")


def rss_mb(pid: int) -> float:
    """Resident memory of a process and its descendants, in MB."""
    pages = 0
    for each in tree(pid):
        with contextlib.suppress(OSError):
            pages += int(Path(f"/proc/{each}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6
