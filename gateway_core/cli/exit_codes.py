"""What scripts can rely on."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """How a command ended."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    """Wrong options, or a wrong configuration."""
    NOT_RUNNING = 3
    INTERRUPTED = 130
    """By Ctrl+C, as shells have it: 128 and the number of the signal."""
