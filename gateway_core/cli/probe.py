"""Asking a running instance: its admin pages over HTTP, and its end by signal. Only the standard library."""

from __future__ import annotations

import http.client
import json
import os
import signal
import time
from pathlib import Path
from typing import Any, Final

from gateway_core.cli.control import Instance, Locked, NotRunning, UsageError, locate, pid_file, read_instance
from gateway_core.cli.report import Failed, say
from gateway_core.errors import GatewayError

TIMEOUT: Final = 2.0
"""Seconds for an admin page."""
MAX_ANSWER: Final = 16 * 1024 * 1024
STOP_GRACE: Final = 15.0
"""Seconds past `drain_timeout` that `stop` waits; the gateway ends itself a few seconds earlier."""
SECOND_SIGNAL_AFTER: Final = 0.3
"""Two signals of one kind that are both pending arrive as one."""
PROGRESS_INTERVAL: Final = 5.0


class NotAnswering(GatewayError):
    """The process runs, and its admin page cannot be read."""


def find_running(config: Path | None) -> Instance:
    """The instance that a command means. Raises `NotRunning`, `UsageError`, or `Failed` while one starts."""
    try:
        path = locate(config)
    except UsageError as error:
        if config is not None:
            raise
        raise NotRunning(f"not running: {error}") from None
    found = read_instance(pid_file(path))
    if found is None:
        raise NotRunning(f"not running (configuration {path})\n  to start it: rad mcp proxy start")
    if isinstance(found, Locked):
        raise Failed(f"{found.path} is locked and does not say by whom: a start is under way, try again in a moment")
    return found


def fetch(instance: Instance, page: str) -> dict[str, Any]:
    """GET `/admin/{page}`. Raises `NotAnswering`."""
    connection = http.client.HTTPConnection(instance.connect_host, instance.port, timeout=TIMEOUT)
    try:
        connection.request("GET", f"/admin/{page}", headers={"Authorization": f"Bearer {instance.token}"})
        response = connection.getresponse()
        body = response.read(MAX_ANSWER + 1)
    except (OSError, http.client.HTTPException) as error:
        reason = "no answer within 2 s" if isinstance(error, TimeoutError) else str(error) or type(error).__name__
        raise _not_answering(instance, reason) from error
    finally:
        connection.close()
    if response.status != 200 or len(body) > MAX_ANSWER:
        raise _not_answering(instance, f"HTTP status {response.status}, {len(body)} bytes")
    try:
        value = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise _not_answering(instance, "the answer is no JSON") from error
    if not isinstance(value, dict):
        raise _not_answering(instance, "the answer is no JSON object")
    return value


def _not_answering(instance: Instance, reason: str) -> NotAnswering:
    return NotAnswering(
        f"running (pid {instance.pid}) but not answering at {instance.address}: {reason}\n"
        "  it may still be starting, or be stuck; to end it: rad mcp proxy stop --now"
    )


def stop(config: Path | None, *, now: bool) -> None:
    """End the running instance and wait until it has gone. Raises `NotRunning`, or `Failed` if it stays."""
    instance = find_running(config)
    path = pid_file(locate(config))
    _signal(instance)
    limit = STOP_GRACE + (0.0 if now else instance.drain_timeout)
    say(
        f"stopping pid {instance.pid}"
        + (" now" if now else f": calls in flight get up to {instance.drain_timeout:g} s to end")
    )
    begun = told = time.monotonic()
    repeat = now
    while _still_there(path, instance):
        passed = time.monotonic() - begun
        if passed > limit:
            raise Failed(
                f"pid {instance.pid} has not ended within {limit:g} s\n"
                + ("" if now else "  without waiting for calls: rad mcp proxy stop --now\n")
                + f"  as a last resort:          kill -9 {instance.pid}"
            )
        if repeat and passed > SECOND_SIGNAL_AFTER:
            repeat = False
            _signal(instance)
        if time.monotonic() - told >= PROGRESS_INTERVAL:
            told = time.monotonic()
            say(f"  still waiting ({passed:.0f} s of at most {limit:g} s)")
        time.sleep(0.05)
    say("stopped")


def _still_there(path: Path, instance: Instance) -> bool:
    found = read_instance(path)
    # A new start may have taken the lock at once: that one is not ours to wait for.
    return isinstance(found, Locked) or (found is not None and found.token == instance.token)


def _signal(instance: Instance) -> None:
    try:
        os.kill(instance.pid, signal.SIGTERM)
    except ProcessLookupError:
        return  # it ended between our look and the signal
    except PermissionError as error:
        raise Failed(f"pid {instance.pid} belongs to another user: {error.strerror}") from error
