"""What the drivers for the Python SDKs share: many odd servers in one process, a line of JSON for each.

A driver reads `{"jobs": [{"server": name, "url": url} or {"server": name, "command": [...]}, each with "steps"],
"limit": seconds, "at_once": number}` from standard input. It writes one line for each job:
`{"server": name, "error": why it could not connect, or null, "ends": [one for each step]}`.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests" / "field"))
import driver

Connect = Callable[[dict[str, Any]], AbstractAsyncContextManager[Any]]


async def run(connect: Connect) -> None:
    """Work on all jobs; `connect` opens the client of one."""
    work = json.load(sys.stdin)
    turns, limit = asyncio.Semaphore(work["at_once"]), work["limit"]

    async def one(job: dict[str, Any]) -> None:
        ends: list[driver.End] = []
        error = None
        async with turns:
            try:
                async with asyncio.timeout(limit * 2) as patience, connect(job) as client:
                    patience.reschedule(None)
                    await driver.take(client, job["steps"], limit, ends)
                    patience.reschedule(asyncio.get_running_loop().time() + limit)
            except (Exception, BaseExceptionGroup) as failure:  # noqa: BLE001 - the report is for what goes wrong
                error = driver.reason(failure)
        print(json.dumps({"server": job["server"], "error": error, "ends": ends}), flush=True)

    await asyncio.gather(*map(one, work["jobs"]))
