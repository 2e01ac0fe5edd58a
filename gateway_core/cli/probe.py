"""Asking a running instance: its admin pages over HTTP, and its end by signal.

`status` is to answer at once. What takes longest is to load Python modules, so those here are few and small.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from pathlib import Path
from typing import Any, Final

import httptools

from gateway_core.cli.control import Instance, Locked, NotRunning, UsageError, locate, pid_file, read_instance
from gateway_core.cli.render import show_status
from gateway_core.cli.report import Failed, put_json, say
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
    try:
        status, body = _get(instance, page)
    except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
        raise _not_answering(instance, "its answer is not HTTP as expected") from error
    except OSError as error:
        reason = f"no answer within {TIMEOUT:g} s" if isinstance(error, TimeoutError) else str(error)
        raise _not_answering(instance, reason or type(error).__name__) from error
    if status != 200 or len(body) > MAX_ANSWER:
        raise _not_answering(instance, f"HTTP status {status}, {len(body)} bytes")
    try:
        value = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise _not_answering(instance, "the answer is no JSON") from error
    if not isinstance(value, dict):
        raise _not_answering(instance, "the answer is no JSON object")
    return value


def _get(instance: Instance, page: str) -> tuple[int, bytes]:
    """Status and body of the answer; of one that is too large, a little more than is allowed.

    Raises `OSError`, and what httptools raises where something else than HTTP comes.
    """
    deadline = time.monotonic() + TIMEOUT
    request = (
        f"GET /admin/{page} HTTP/1.1\r\nHost: {instance.address.removeprefix('http://')}\r\n"
        f"Authorization: Bearer {instance.token}\r\nConnection: close\r\n\r\n"
    )
    answer = _Answer()
    with socket.create_connection((instance.connect_host, instance.port), TIMEOUT) as connection:
        connection.sendall(request.encode())
        while not answer.complete and len(answer.body) <= MAX_ANSWER:
            connection.settimeout(max(0.001, deadline - time.monotonic()))
            data = connection.recv(256 * 1024)
            if not data:
                raise ConnectionResetError("it closed the connection without an answer")
            answer.parser.feed_data(data)
    return answer.parser.get_status_code(), bytes(answer.body)


class _Answer:
    """What comes, as httptools tells it."""

    def __init__(self) -> None:
        self.parser = httptools.HttpResponseParser(self)
        self.body = bytearray()
        self.complete = False

    def on_body(self, data: bytes) -> None:
        self.body += data

    def on_message_complete(self) -> None:
        self.complete = True


def _not_answering(instance: Instance, reason: str) -> NotAnswering:
    return NotAnswering(
        f"running (pid {instance.pid}) but not answering at {instance.address}: {reason}\n"
        "  it may still be starting, or be stuck; to end it: rad mcp proxy stop --now"
    )


def status(config: Path | None, *, as_json: bool) -> None:
    """Print how the running instance does. Raises `NotRunning`, `NotAnswering`."""
    found = fetch(find_running(config), "status")
    if as_json:
        put_json(found)
    else:
        show_status(found)


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
