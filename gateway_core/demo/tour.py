"""The tour: the real gateway over the demonstration servers, used by an agent of each era.

All of it lives in a temporary folder and on loopback, and everything that was started is ended with it.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import tempfile
import time
from pathlib import Path

from mcp.client.client import Client
from mcp.types import Implementation
from rich.console import Console
from rich.markup import escape

from gateway_core.demo import steps
from gateway_core.demo.processes import Children
from gateway_core.demo.stage import Stage, StepFailed


async def give(stage: Stage) -> None:
    """Start everything, take the steps, stop the gateway. Raises `StepFailed`."""
    gateway, url = await steps.start(stage)
    async with (
        Client(url, mode="legacy", client_info=Implementation(name="demo-legacy", version="1")) as legacy,
        Client(url, mode="auto", client_info=Implementation(name="demo-modern", version="1")) as modern,
    ):
        await steps.catalog(stage, legacy, modern)
        await steps.routing(stage, legacy, modern)
        await steps.failover(stage, legacy, modern)
        await steps.rate_limit(stage, modern)
        await steps.redaction(stage, modern)
    await steps.stop(stage, gateway)


async def _tour(console: Console) -> int:
    started, failed = time.monotonic(), False
    task = asyncio.current_task()
    if task is not None:
        # A plain `kill` must clean up as Ctrl-C does.
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    with tempfile.TemporaryDirectory(prefix="rad-demo-") as name:
        async with Children(Path(name)) as children:
            stage = Stage(console, Path(name), children)
            try:
                await give(stage)
            except* Exception as failure:  # noqa: BLE001  whatever broke the tour, a newcomer gets a sentence
                first: BaseException = failure
                while isinstance(first, BaseExceptionGroup):
                    first = first.exceptions[0]
                what = str(first) if isinstance(first, StepFailed) else f"{type(first).__name__}: {first}"
                console.print(f"\n[bold red]Failed:[/] {escape(what)}", highlight=False)
                console.print(f"[dim]{escape(stage.log_tail())}[/]", highlight=False)
                failed = True
    if failed:
        return 1
    console.print(f"\n[bold green]All steps did what they should[/], in {time.monotonic() - started:.1f} s.")
    return 0


def main() -> int:
    """Give the tour. Returns 0, 1 when a step failed, 130 when it was interrupted."""
    console = Console(soft_wrap=True)
    # The SDK warns of a tool that no list shows, which is what `upstream:tool` is.
    logging.getLogger("client").setLevel(logging.ERROR)
    console.print("[bold]The Radium MCP gateway, on the demonstration servers that come with it[/]")
    try:
        return asyncio.run(_tour(console))
    except (KeyboardInterrupt, asyncio.CancelledError):
        console.print("\ninterrupted; everything that was started has been ended")
        return 130
