"""The tour: the real gateway in front of the demonstration servers, used by one agent of each era.

It uses a temporary folder and loopback only, and ends all processes that it started.
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
    """Run all steps, from starting the processes to stopping the gateway. Raises `StepFailed`."""
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
        # SIGTERM must clean up like Ctrl-C.
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    with tempfile.TemporaryDirectory(prefix="rad-demo-") as name:
        async with Children(Path(name)) as children:
            stage = Stage(console, Path(name), children)
            try:
                await give(stage)
            except* Exception as failure:  # noqa: BLE001  report any error in one sentence
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
    """Run the tour. Returns 0, 1 if a step failed, 130 if it was interrupted."""
    console = Console(soft_wrap=True)
    # The SDK warns about calls to unlisted tools, such as `upstream:tool`.
    logging.getLogger("client").setLevel(logging.ERROR)
    console.print("[bold]The Radium MCP gateway, on the demonstration servers that come with it[/]")
    try:
        return asyncio.run(_tour(console))
    except (KeyboardInterrupt, asyncio.CancelledError):
        console.print("\ninterrupted; everything that was started has been ended")
        return 130
