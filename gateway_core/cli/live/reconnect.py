"""`rad mcp proxy reconnect`: connects the gateway to one upstream again, and restarts its process if it has one."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from gateway_core.cli.client import fetch, send
from gateway_core.cli.hints import command
from gateway_core.cli.instance import Instance
from gateway_core.cli.report import Failed, say
from gateway_core.cli.running import instance

POLL: Final = 0.2
"""Seconds between two looks at the state."""
PATIENCE: Final = 10.0
"""Seconds to wait while the gateway does not connect. It gives up connecting by itself, after `start_timeout`."""
_REACHED: Final = frozenset({"healthy", "draining"})
"""States of an upstream that is connected. An operator keeps new calls from one that is draining."""


def reconnect(config: Path | None, upstream: str) -> None:
    """Reconnect, and wait for the result. Raises `Failed`, `NotRunning`, `NotAnswering`."""
    running = instance(config)
    before = _upstream(running, upstream)
    send(running, "POST", f"upstreams/{quote(upstream, safe='')}/reconnect")
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        time.sleep(POLL)
        found = _upstream(running, upstream)
        if found["state"] in _REACHED and found["connects"] > before["connects"]:
            say(f"{upstream} is connected: {found['server'] or 'a server without a name'}")
            return
        if found["state"] == "connecting":  # also while calls in flight end
            deadline = time.monotonic() + PATIENCE
        elif found["state"] not in _REACHED | {"ejected", "idle"}:
            raise Failed(f"{upstream} is {found['state'].replace('_', ' ')}: {found['last_error']}")
    raise Failed(f"{upstream} was not connected again; `status` shows its state")


def _upstream(running: Instance, name: str) -> dict[str, Any]:
    for found in fetch(running, "status")["upstreams"]:
        if found["name"] == name and found["state"] != "disabled":
            return dict(found)
    raise Failed(f"there is no enabled upstream {name[:100]!r}; `{command('status')}` lists them")
