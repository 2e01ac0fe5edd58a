"""`rad mcp proxy start --detach`: starts a gateway in a new session and waits until it listens.

The child reports one JSON object over a pipe: `{"address", "control", "warnings"}` once it listens, or
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
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from gateway_core.cli.exit_codes import ExitCode
from gateway_core.cli.instance import locate
from gateway_core.cli.report import describe, put, say, say_error
from gateway_core.cli.state.folder import prepare, state_folder
from gateway_core.log.escaping import escape

READY_TIMEOUT: Final = 60.0
"""Seconds to wait for the report; plugins may open connections before the gateway listens."""
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

    def ready(self, address: str, control: str, warnings: Sequence[str] = ()) -> None:
        self._send({"address": address, "control": control, "warnings": list(warnings)})

    def _send(self, report: dict[str, Any]) -> None:
        if self._fd < 0:
            return
        fd, self._fd = self._fd, -1
        try:
            os.write(fd, json.dumps(report).encode())
        except OSError:
            return  # the parent process ended; the log has the error
        finally:
            os.close(fd)


def start(config: Path | None, *, options: Sequence[str] = ()) -> int:
    """Start a detached gateway; returns 0 once it listens, else the exit code of the failure.

    `options`: more options of its command line.
    """
    path = locate(config)
    folder = state_folder(path)
    prepare(folder)
    log = log_file(path, folder)
    fd = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    reader, writer = os.pipe()
    command = [sys.executable, "-m", "gateway_core.cli", "mcp", "proxy", "start", "--config", str(path)]
    try:
        child = subprocess.Popen(  # noqa: S603 - our own interpreter and module
            [*command, *options, "--ready-fd", str(writer)],
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
        report = _report(reader)
    finally:
        os.close(reader)
    if "address" in report:
        for warning in report.get("warnings", ()):
            say(f"warning: {escape(str(warning))}")
        child.returncode = 0  # the child outlives this process; avoids a ResourceWarning
        put(
            f"started: pid {child.pid}, {report['address']}\n"
            f"  control plane: {report['control']}\n"
            f"  log: {log}\n"
            "  to stop it: rad mcp proxy stop"
        )
        return ExitCode.DONE
    if "error" in report:
        say_error(str(report["error"]))
        child.wait()
        return int(report.get("code", ExitCode.FAILED))
    return _gave_no_report(child, log)


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
