"""`rad mcp proxy token`: prints a token of the running gateway's control plane."""

from __future__ import annotations

from pathlib import Path

from gateway_core.cli.report import put, say
from gateway_core.cli.running import instance


def token(config: Path | None, *, change: bool) -> None:
    """Print the token for reading, or the one for everything. Raises `NotRunning`, `NotAnswering`."""
    running = instance(config)
    may = "read and change everything" if change else "read everything"
    say(f"keep this token secret: who has it may {may} at {running.control_address}, until the gateway stops")
    put(running.token if change else running.read_token)
