"""How every Python driver of the matrix reports: JSON lines on its standard output.

A driver is started as `driver.py URL PLAN [ERA]`. The plan is a JSON object, step name to what the step needs. The
first line is `{"can": [names of the steps that this client has]}`, then comes one line for each step of the plan
that it can: `{"step": name, "got": value}` or `{"step": name, "error": text}`. What is right is not its business:
`run.py` compares. `report.mjs` is the same for Node.js.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from typing import Any

STEP_LIMIT = 8.0
NOT_HONORED = "subscriptions/listen does not honor it"

Step = Callable[[dict[str, Any]], Awaitable[Any]]


class Heard:
    """What came unasked: log messages, updated URIs, changed lists."""

    def __init__(self) -> None:
        self.items: list[str] = []
        self._news = asyncio.Event()

    def note(self, item: str) -> None:
        self.items.append(item)
        self._news.set()

    async def first(self) -> list[str]:
        """Waits for something; everything that there is until then."""
        async with asyncio.timeout(STEP_LIMIT / 2):
            await self._news.wait()
        return self.items


def arguments() -> tuple[str, dict[str, Any], str]:
    """URL, plan and era of the command line."""
    url, plan, *era = sys.argv[1:]
    return url, json.loads(plan), era[0] if era else ""


def line(**values: Any) -> None:
    print(json.dumps(values), flush=True)


def reason(error: BaseException) -> str:
    """One error in a line; of a group the first."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, TimeoutError):
        return "nothing came in time"
    return " ".join(str(error).split()) or type(error).__name__


async def connected(connect: Awaitable[str]) -> bool:
    """Whether the connection came about; reports it."""
    try:
        async with asyncio.timeout(STEP_LIMIT):
            line(step="connect", got=await connect)
    except (Exception, BaseExceptionGroup) as error:  # noqa: BLE001 - the report is for what goes wrong
        line(step="connect", error=reason(error))
        return False
    return True


async def take(plan: dict[str, Any], steps: dict[str, Step]) -> None:
    """The plan's steps, one after another, in the plan's order."""
    for name, needs in plan.items():
        if name not in steps:
            continue
        try:
            async with asyncio.timeout(STEP_LIMIT):
                line(step=name, got=await steps[name](needs))
        except (Exception, BaseExceptionGroup) as error:  # noqa: BLE001 - the report is for what goes wrong
            line(step=name, error=reason(error))


def text(content: Any, is_error: bool = False) -> str:
    """The texts of a result; a tool's own error is an error here."""
    joined = "\n".join(part.text for part in content if getattr(part, "text", None) is not None)
    if is_error:
        raise RuntimeError(f"tool error: {joined}")
    return joined
