"""`rad mcp proxy stop`: ends the running gateway by a signal, and waits for it."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Final

from gateway_core.cli.instance import Holder, Instance, Locked, read_instance
from gateway_core.cli.report import Failed, say
from gateway_core.cli.running import holder

STOP_GRACE: Final = 15.0
"""Seconds past `drain_timeout` that `stop` waits; the gateway ends itself a few seconds earlier."""
SECOND_SIGNAL_AFTER: Final = 0.3
"""Two signals of one kind that are both pending arrive as one."""
PROGRESS_INTERVAL: Final = 5.0


def stop(config: Path | None, *, now: bool) -> None:
    """End the running gateway and wait for its end. Raises `NotRunning`, or `Failed` if it stays.

    A gateway of another version is ended like any other.
    """
    path, instance = holder(config)
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


def _still_there(path: Path, ended: Holder) -> bool:
    found = read_instance(path)
    if isinstance(found, Instance) and isinstance(ended, Instance):
        return found.token == ended.token  # a new start may have taken the lock: not the process to wait for
    return found is not None and (isinstance(found, Locked) or found.pid == ended.pid)


def _signal(instance: Holder) -> None:
    try:
        os.kill(instance.pid, signal.SIGTERM)
    except ProcessLookupError:
        return  # it ended between our look and the signal
    except PermissionError as error:
        raise Failed(f"pid {instance.pid} belongs to another user: {error.strerror}") from error
