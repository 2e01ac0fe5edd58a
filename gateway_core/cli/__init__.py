"""The command line: `rad mcp proxy …`.

`app` has the commands and their help. One module per job: `serve` (start in the foreground), `detach`, `probe` (status
and stop), `views` (check, tools, plugins), `call`, `init`. They share `control` (the pid file: who runs), `report`
(errors and exit codes), `settings` (the loaded configuration), `render` (tables) and `port` (who holds a port).
"""

from __future__ import annotations


def main() -> int:
    """Entry point of the script `rad`; returns the exit code."""
    from gateway_core.cli.app import run  # noqa: PLC0415 - importing the package must stay free of charge

    return run()
