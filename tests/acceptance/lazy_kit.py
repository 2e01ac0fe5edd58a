"""Gateways in this process, one after the other on one folder of lists, over servers that files control."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.generations.conftest import Stand

SERVER = Path(__file__).with_name("servers") / "gated.py"


class Servers:
    """The files that control the servers."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)

    def table(self, name: str, **settings: Any) -> dict[str, Any]:
        """The table of an upstream."""
        arguments = [str(SERVER), name, str(self.folder)]
        return {"name": name, "transport": "stdio", "command": sys.executable, "args": arguments, **settings}

    def put(self, name: str, kind: str, text: str = "") -> None:
        """Write a file that controls a server; see `gated.py`."""
        (self.folder / f"{name}.{kind}").write_text(text)

    def take(self, name: str, kind: str) -> None:
        """Remove such a file."""
        (self.folder / f"{name}.{kind}").unlink()

    def starts(self, name: str) -> list[int]:
        """The process ids of a server, one for each start."""
        path = self.folder / f"{name}.starts"
        return [int(line) for line in path.read_text().split()] if path.exists() else []

    def running(self, name: str) -> bool:
        """Whether the newest process of a server runs."""
        starts = self.starts(name)
        return bool(starts) and _runs(starts[-1])


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def again(stand: Stand, *upstreams: dict[str, Any], **settings: Any) -> None:
    """End the gateway, and start another one with the same folders."""
    await stand.gateway.stop()
    await stand.start(*upstreams, **settings)


async def until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    """Wait until the condition holds; fails after `seconds`."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.02)


def status(stand: Stand, name: str) -> dict[str, Any]:
    """What `rad mcp proxy status` shows of an upstream."""
    upstreams: list[dict[str, Any]] = stand.gateway.status()["upstreams"]
    return next(one for one in upstreams if one["name"] == name)
