"""`rad mcp proxy drain`, `resume`, `disable` and `enable`: whether an upstream of the running gateway gets calls."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

from gateway_core.cli.client import fetch, send
from gateway_core.cli.report import say
from gateway_core.cli.running import instance
from gateway_core.cli.serving.reload import applied
from gateway_core.log.wording import count


def drain(config: Path | None, upstream: str) -> None:
    """Keep new calls from an upstream. Raises `Failed`, `NotRunning`, `NotAnswering`."""
    running = instance(config)
    send(running, "POST", _page(upstream, "drain"))
    in_flight = next((one["in_flight"] for one in fetch(running, "status")["upstreams"] if one["name"] == upstream), 0)
    say(f"{upstream} gets no new calls; {count(in_flight, 'call')} in flight")


def resume(config: Path | None, upstream: str) -> None:
    """Let new calls come to an upstream again. Raises as `drain`."""
    send(instance(config), "POST", _page(upstream, "resume"))
    say(f"{upstream} gets calls again")


def enable(config: Path | None, upstream: str, *, enabled: bool, as_json: bool) -> None:
    """Write into the file whether an upstream is enabled, and put it in force. Raises as `reload`."""
    applied(config, "POST", _page(upstream, "enable" if enabled else "disable"), as_json=as_json)


def _page(upstream: str, verb: str) -> str:
    return f"upstreams/{quote(upstream, safe='')}/{verb}"
