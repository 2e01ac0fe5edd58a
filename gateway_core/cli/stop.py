"""`rad mcp proxy stop`: sends SIGTERM to the running gateway and waits until it ends."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Final

from gateway_core.cli.hints import command
from gateway_core.cli.instance import Holder, Instance, Locked, read_instance
from gateway_core.cli.report import Failed, say
from gateway_core.cli.running import holder

STOP_GRACE: Final = 20.0
"""Seconds past `drain_timeout` that `stop` waits; 5 more than the gateway's watchdog takes even with `--now`."""
SECOND_SIGNAL_AFTER: Final = 0.3
"""Seconds between the two signals of `--now`: two pending signals of one kind arrive as one."""
PROGRESS_INTERVAL: Final = 5.0


def stop(config: Path | None, *, now: bool) -> None:
    """Stop the running gateway and wait until it ends. Raises `NotRunning`, or `Failed` if it does not end.

    Also stops a gateway of another version.
    """
    path, instance = holder(config)
    _signal(instance)
    limit = STOP_GRACE + (0.0 if now else instance.drain_timeout)
    say(
        f"stopping pid {instance.pid}"
        + (" now" if now else f": calls in flight get up to {instance.drain_timeout:g} s to end")
    )
    begun = reported = time.monotonic()
    repeat = now
    while _still_there(path, instance):
        passed = time.monotonic() - begun
        if passed > limit:
            raise Failed(
                f"pid {instance.pid} has not ended within {limit:g} s\n"
                + ("" if now else f"  without waiting for calls: {command('stop --now')}\n")
                + f"  as a last resort:          kill -9 {instance.pid}"
            )
        if repeat and passed > SECOND_SIGNAL_AFTER:
            repeat = False
            _signal(instance)
        if time.monotonic() - reported >= PROGRESS_INTERVAL:
            reported = time.monotonic()
            say(f"  still waiting ({passed:.0f} s of at most {limit:g} s)")
        time.sleep(0.05)
    say("stopped")


def _still_there(path: Path, ended: Holder) -> bool:
    found = read_instance(path)
    if isinstance(found, Instance) and isinstance(ended, Instance):
        return found.token == ended.token  # a new gateway may hold the lock; do not wait for that one
    return found is not None and (isinstance(found, Locked) or found.pid == ended.pid)


def _signal(instance: Holder) -> None:
    try:
        os.kill(instance.pid, signal.SIGTERM)
    except ProcessLookupError:
        return  # it ended before the signal
    except PermissionError as error:
        raise Failed(f"pid {instance.pid} belongs to another user: {error.strerror}") from error
