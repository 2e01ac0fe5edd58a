"""The command line: `rad mcp proxy …`.

`app` has the commands and their help. One module per job: `start` (`serve` and `lifetime` in the foreground, `detach`
in the background), `stop`, `status`, `views` (check, tools, plugins), `call`, `init`. They share `instance` (the pid
file), `running` (which gateway a command means), `client` (asks the control plane), `report` (errors, with
`exit_codes`), `settings` (the loaded configuration), `render` (tables) and `port` (who holds a port).
"""

from __future__ import annotations

import gc
import io
import os
import sys
from typing import Final

from gateway_core.cli.exit_codes import ExitCode

COLLECT_EVERY: Final = 50_000
"""Objects that may be made, above those that were deleted, before the garbage collector looks at the young ones: what
is loaded stays, and a call leaves no cycles behind."""


def main() -> int:
    """Entry point of the script `rad`; returns the exit code."""
    gc.set_threshold(COLLECT_EVERY, 20, 50)
    # Pydantic's own plugins would be looked for among all that is installed, and shown the secrets of the file.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    try:
        _complete_descriptors()
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")  # a terminal that is not UTF-8 gets escapes, no error
        from gateway_core.cli.app import run  # noqa: PLC0415 - a Ctrl+C while it loads is handled below

        return run()
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED


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
