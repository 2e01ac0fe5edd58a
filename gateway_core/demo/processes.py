"""The child processes of the tour, each in its own process group, always ended with the tour.

A separate group keeps Ctrl-C on the terminal from reaching a child before the tour has cleaned up. It also lets
`Children` end a child together with its descendants.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Self

GRACE: Final = 3.0
"""Seconds between SIGTERM and SIGKILL when the tour ends."""


class Children:
    """The processes of one tour; leaving the context ends all running ones."""

    def __init__(self, folder: Path) -> None:
        """`folder`: receives the stderr of each child, in `NAME.err`."""
        self._folder = folder
        self._running: list[asyncio.subprocess.Process] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        # Shielded: a second Ctrl-C must not leave children behind.
        await asyncio.shield(self._end_all())

    async def start(self, name: str, command: Sequence[str], *, piped: bool = False) -> asyncio.subprocess.Process:
        """Start a child with empty stdin; `piped`: keep its stdout in a pipe, else discard it. Raises `OSError`."""
        with (self._folder / f"{name}.err").open("ab") as errors:
            child = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE if piped else asyncio.subprocess.DEVNULL,
                stderr=errors,
                start_new_session=True,
            )
        self._running.append(child)
        return child

    async def first_line(self, child: asyncio.subprocess.Process, seconds: float) -> str:
        """The first line of its stdout; empty if it exits, or prints none within `seconds`."""
        if child.stdout is None:
            return ""
        try:
            async with asyncio.timeout(seconds):
                return (await child.stdout.readline()).decode(errors="replace").strip()
        except TimeoutError:
            return ""

    def errors(self, name: str) -> str:
        """The last twelve lines that the child wrote to stderr."""
        text = (self._folder / f"{name}.err").read_text(errors="replace")
        return "\n".join(text.splitlines()[-12:])

    async def kill(self, child: asyncio.subprocess.Process) -> None:
        """Kill a child and its group with SIGKILL, to simulate a crash."""
        _signal_group(child, signal.SIGKILL)
        await child.wait()

    async def _end_all(self) -> None:
        for child in self._running:
            _signal_group(child, signal.SIGTERM)
        try:
            async with asyncio.timeout(GRACE):
                await asyncio.gather(*(child.wait() for child in self._running))
        except TimeoutError:
            for child in self._running:
                _signal_group(child, signal.SIGKILL)
            await asyncio.gather(*(child.wait() for child in self._running))


def _signal_group(child: asyncio.subprocess.Process, number: signal.Signals) -> None:
    if child.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, number)
