"""Exit codes of the commands, stable for scripts."""

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
    """Ctrl+C. As in shells, 128 plus the signal number."""
