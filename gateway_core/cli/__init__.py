"""The command line: `rad mcp proxy …`.

`app` has the commands and their help, `options` their option classes. Each command has a module or a package:

- `serving/`: start; `stop`, `status`, `init`
- `importing/`: import; `inspecting/`: check, plugins; `tools/`: tools, call; demo is in `gateway_core.demo`
- `plugin_commands/`: commands that plugins add

They share `locate` (finds the configuration file), `settings` (its names file, a temporary gateway), `instance` (the
pid file), `running` (finds the gateway of a command) and `client` (queries the control plane). `report` and
`exit_codes` are about errors, `hints` are commands in messages, `rendering/` prints tables, and `state/` finds the
state folder.
"""

from __future__ import annotations

import gc
import io
import os
import sys
from typing import Final

from gateway_core.cli.exit_codes import ExitCode

COLLECT_EVERY: Final = 50_000
"""Allocations minus deallocations that start a collection of the youngest generation. High, because loaded objects stay
and a call leaves no reference cycles."""


def main() -> int:
    """Entry point of the script `rad`; returns the exit code."""
    gc.set_threshold(COLLECT_EVERY, 20, 50)
    # Pydantic would search all installed packages for plugins, and pass them the secrets of the file.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    try:
        _complete_descriptors()
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")  # escapes, not errors, on a terminal without UTF-8
        from gateway_core.cli.app import run  # noqa: PLC0415 - a Ctrl+C while it loads is handled below

        return run()
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED


def _complete_descriptors() -> None:
    """Open the null device for each of stdin, stdout and stderr that the caller has closed.

    Otherwise the next file or socket gets that descriptor, and receives output meant for the terminal.
    """
    for descriptor, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free number, which is `descriptor`
            os.set_inheritable(descriptor, True)
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(descriptor, mode, closefd=False))
