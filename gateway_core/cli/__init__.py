"""The command line: `rad mcp proxy …`.

`app` has the commands and their help. One module per job: `serve` (start in the foreground), `detach`, `probe` (status
and stop), `views` (check, tools, plugins), `call`, `init`. They share `control` (the pid file: who runs), `report`
(errors and exit codes), `settings` (the loaded configuration), `render` (tables) and `port` (who holds a port).
"""

from __future__ import annotations

import os
import sys

INTERRUPTED = 130
"""Exit code after Ctrl+C, as shells have it: 128 and the number of the signal."""


def main() -> int:
    """Entry point of the script `rad`; returns the exit code."""
    try:
        _complete_descriptors()
        from gateway_core.cli.app import run  # noqa: PLC0415 - importing the package must stay free of charge

        return run()
    except KeyboardInterrupt:
        return INTERRUPTED


def _complete_descriptors() -> None:
    """Open the null device where the caller has closed stdin, stdout or stderr.

    Otherwise the next file or socket gets the number, and with it what is meant for a terminal.
    """
    for descriptor, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is this one
            os.set_inheritable(descriptor, True)
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(descriptor, mode, closefd=False))
