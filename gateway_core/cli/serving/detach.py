"""`rad mcp proxy start --detach`: starts a gateway in a new session and waits until it listens.

The child reports one JSON object over a pipe: `{"endpoint", "control", "log", "warnings"}` once it listens, or
`{"error", "code"}` with text and exit code. Its output goes to `log_file`, such as `mcp-proxy.log` in the state folder.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Final

from gateway_core.cli import hints
from gateway_core.cli.exit_codes import ExitCode
from gateway_core.cli.locate import locate
from gateway_core.cli.report import Failed, describe, put, say, say_error
from gateway_core.cli.state.folder import prepare, state_folder
from gateway_core.files import append_to
from gateway_core.log.escaping import escape

READY_TIMEOUT: Final = 60.0
"""Seconds to wait for the report; plugins may open connections before the gateway listens."""
END_PATIENCE: Final = 5.0
"""Seconds that an interrupted start waits after each signal to the gateway."""
MAX_REPORT: Final = 64 * 1024
MAX_ERROR: Final = MAX_REPORT // 16
"""Characters of an error in a report. JSON may escape each with 12 bytes."""


def log_file(config: Path, folder: Path) -> Path:
    """The file in the state folder for a detached gateway's output, and for its log if the file names no other."""
    return folder / config.with_suffix(".log").name


class Starter:
    """The child's end of the report pipe. An exception that leaves the context is reported as the error."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        os.set_inheritable(fd, False)

    def __enter__(self) -> Starter:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _tb: TracebackType | None
    ) -> None:
        if isinstance(error, Exception):
            text, code = describe(error)
            self._send({"error": text[:MAX_ERROR], "code": int(code)})

    def ready(self, endpoint: str, control: str, log: str, warnings: Sequence[str] = ()) -> None:
        """Report that the gateway listens. Raises `Failed` if the parent process ended: the start was interrupted."""
        if not self._send({"endpoint": endpoint, "control": control, "log": log, "warnings": list(warnings)}):
            raise Failed("the start was interrupted, so the gateway stops")

    def _send(self, report: dict[str, Any]) -> bool:
        """Whether the parent process got the report."""
        if self._fd < 0:
            return True
        fd, self._fd = self._fd, -1
        try:
            os.write(fd, json.dumps(report).encode())
        except OSError:
            return False
        finally:
            os.close(fd)
        return True


def start_command() -> list[str]:
    """The command that starts a gateway, with the options of this one, so that its messages repeat them too.

    It loads no module from the folder that it runs in (`-P`), which may be a folder that others can write to.
    """
    return [sys.executable, "-P", "-m", "gateway_core.cli", "mcp", "proxy", "start", *hints.arguments()]


def start(config: Path | None, *, options: Sequence[str] = ()) -> int:
    """Start a detached gateway; returns 0 once it listens, else the exit code of the failure.

    `options`: more options of its command line.
    """
    path = locate(config)
    folder = state_folder(path)
    prepare(folder)
    log = log_file(path, folder)
    fd = append_to(log)
    reader, writer = os.pipe()
    try:
        child = subprocess.Popen(  # noqa: S603 - our own interpreter and module
            [*start_command(), *options, "--ready-fd", str(writer)],
            stdin=subprocess.DEVNULL,
            stdout=fd,
            stderr=fd,
            pass_fds=(writer,),
            start_new_session=True,
        )
    finally:
        os.close(fd)
        os.close(writer)
    try:
        with _signals_interrupt():
            report = _report(reader)
    except KeyboardInterrupt:
        _end(child)
        raise
    finally:
        os.close(reader)
    if "endpoint" in report:
        for warning in report.get("warnings", ()):
            say(f"warning: {escape(str(warning))}")
        child.returncode = 0  # the child outlives this process; avoids a ResourceWarning
        put(
            f"started: pid {child.pid}\n"
            f"  agents connect to: {report['endpoint']}\n"
            f"  control plane: {report['control']}\n"
            f"  log: {report.get('log', log)}\n"
            f"  to stop it: {hints.command('stop')}"
        )
        return ExitCode.DONE
    if "error" in report:
        say_error(str(report["error"]))
        child.wait()
        return int(report.get("code", ExitCode.FAILED))
    return _gave_no_report(child, log)


@contextmanager
def _signals_interrupt() -> Iterator[None]:
    """Let SIGTERM and SIGHUP interrupt the command as Ctrl+C does."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _end(child: subprocess.Popen[bytes]) -> None:
    """End a gateway that is starting; its guard ends its servers."""
    say("interrupted: ending the gateway that was starting …")
    try:
        for patience in (END_PATIENCE, 2 * END_PATIENCE):  # the second signal does not wait for anything
            child.terminate()
            with suppress(subprocess.TimeoutExpired):
                child.wait(patience)
                return
    except KeyboardInterrupt:
        pass
    child.kill()
    child.wait()


def _report(reader: int) -> dict[str, Any]:
    """The child's report; empty if it ended without one or took longer than `READY_TIMEOUT`."""
    deadline = time.monotonic() + READY_TIMEOUT
    data = b""
    while select.select([reader], [], [], max(0.0, deadline - time.monotonic()))[0]:
        chunk = os.read(reader, MAX_REPORT)
        if not chunk:
            break
        data += chunk
    try:
        value = json.loads(data)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _gave_no_report(child: subprocess.Popen[bytes], log: Path) -> int:
    code = child.poll()
    if code is None:
        try:
            code = child.wait(1.0)
        except subprocess.TimeoutExpired:
            child.send_signal(signal.SIGTERM)
            say_error(f"the gateway does not listen after {READY_TIMEOUT:g} s and was sent SIGTERM; see {log}")
            return ExitCode.FAILED
    say_error(f"the gateway ended at once (status {code}); see {log}")
    return code if code > 0 else ExitCode.FAILED
