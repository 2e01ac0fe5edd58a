"""How often each table that remembers something finds it, with agents as they are.

    python tables.py legacy      # or modern; takes some seconds

The gateway runs in this process, so that its tables can be looked at: those of `functools.lru_cache`, and dictionaries
called `_known`. A table that a real agent misses is not worth its memory.
"""

from __future__ import annotations

import asyncio
import functools
import gc
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import load
import processes
import targets
from loguru import logger
from matrix import ERAS, STAGES, Scenario

from gateway_core.config import load as load_config
from gateway_core.gateway import Gateway

CONNECTIONS = 16


class Counted(dict[Any, Any]):
    """A dictionary that counts what `get` finds."""

    def __init__(self) -> None:
        super().__init__()
        self.found: Counter[bool] = Counter()

    def get(self, key: Any, default: Any = None) -> Any:
        self.found[key in self] += 1
        return super().get(key, default)


def remembering() -> Iterator[Any]:
    """The objects of the gateway that have such a dictionary."""
    for each in gc.get_objects():
        if str(type(each).__module__).startswith("gateway_core") and isinstance(getattr(each, "_known", None), dict):
            yield each


def tables() -> Iterator[tuple[str, int, int]]:
    """(name, hits, misses) of each table."""
    for each in gc.get_objects():
        if isinstance(each, functools._lru_cache_wrapper) and (each.__module__ or "").startswith("gateway_"):
            found = each.cache_info()
            yield f"{each.__module__}: {each.__qualname__}", found.hits, found.misses
    for each in remembering():
        if isinstance(each._known, Counted):
            name = f"{type(each).__module__}: {type(each).__qualname__}"
            yield name, each._known.found[True], each._known.found[False]


async def count(era: str, scratch: Path) -> list[tuple[str, int, int]]:
    """The tables of a gateway after a second of load."""
    upstream, ports = targets.upstreams(processes.OUT, scratch, STAGES["one"])
    config = scratch / "mcp-proxy.toml"
    port = processes.free_port()
    server = targets.UPSTREAM.format(number=0, port=ports[0])
    config.write_text(targets.GATEWAY.format(port=port, level="WARNING") + server + targets.QUIET)
    gateway = Gateway(load_config(config))
    try:
        await gateway.start()
        for each in remembering():
            each._known = Counted()
        running = targets.Running("gateway", port, upstream.process)
        await asyncio.to_thread(_load, Scenario(era, CONNECTIONS, what="agent"), running)
        return sorted(tables())
    finally:
        await gateway.stop()
        upstream.process.stop()


def _load(scenario: Scenario, target: targets.Running) -> None:
    with load.prepared(scenario, target, processes.OUT, 0.0, 1.0) as argv:
        subprocess.run(argv, check=True, capture_output=True, timeout=60)


def main() -> None:
    if len(sys.argv) != 2 or sys.argv[1] not in ERAS:
        raise SystemExit(f"usage: tables.py {'|'.join(ERAS)}")
    logger.remove()
    processes.build()
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        found = asyncio.run(count(sys.argv[1], Path(folder)))
    print("| table | looked up | found |\n|---|---:|---:|")
    for name, hits, misses in found:
        if hits + misses:
            print(f"| `{name}` | {hits + misses:,} | {hits / (hits + misses):.0%} |")


if __name__ == "__main__":
    main()
