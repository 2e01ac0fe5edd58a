"""`rad mcp proxy status`: the state of the running gateway, as its control plane reports it."""

from __future__ import annotations

from pathlib import Path

from gateway_core.cli.client import fetch
from gateway_core.cli.rendering.pages import show_status
from gateway_core.cli.report import put_json
from gateway_core.cli.running import instance


def status(config: Path | None, *, as_json: bool) -> None:
    """Print the state of the running gateway. Raises `NotRunning`, `NotAnswering`."""
    found = fetch(instance(config), "status")
    if as_json:
        put_json(found)
    else:
        show_status(found)
