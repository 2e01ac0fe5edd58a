"""The commands on the configuration file.

The docstrings are the help texts. Annotations are not postponed here, because typer would evaluate all of them at each
start.
"""

from pathlib import Path
from typing import Annotated

import typer

from gateway_core.cli.options import ConfigOption, JsonOption, StateDirOption


def init(
    force: Annotated[bool, typer.Option("--force", help="Replace the file if there is one.")] = False,
    path: Annotated[
        Path | None,
        typer.Option("--path", metavar="PATH", help="The file to write, or the folder to make .radium in."),
    ] = None,
) -> None:
    """Write a first configuration file, with comments.

    It goes to .radium/mcp-proxy.toml in the current folder, and can be started as it is.

    Example: rad mcp proxy init
    """
    from gateway_core.cli.init import init as run  # noqa: PLC0415

    run(path, force=force)


def import_servers(
    source: Annotated[Path, typer.Argument(metavar="FILE", help="The settings file of the client (JSON).")],
    write_it: Annotated[bool, typer.Option("--write", help="Add the upstreams to the configuration.")] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Turn the MCP servers of a client's settings into upstreams.

    Reads mcpServers (Claude, Cursor, Windsurf, Cline and others), servers (VS Code) and context_servers (Zed). Prints
    TOML, or adds it to the configuration. Variables take the place of secrets, and are listed.

    Example: rad mcp proxy import ~/.cursor/mcp.json --write
    """
    from gateway_core.cli.importing.command import import_servers as run  # noqa: PLC0415

    run(source, config, write_it=write_it, as_json=as_json)


def check(
    config: ConfigOption = None,
    connect: Annotated[bool, typer.Option("--connect", help="Also connect to every upstream.")] = False,
    _state: StateDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check the configuration and list every problem in it.

    Starts nothing. With --connect every upstream is tried once; exit code 1 if one fails.

    Example: rad mcp proxy check --connect
    """
    from gateway_core.cli.inspecting.check import check as run  # noqa: PLC0415

    run(config, connect=connect, as_json=as_json)


def plugins(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """List the plugins with their settings: the enabled ones in their order, then the other installed ones.

    Imports every installed plugin to read its settings. A wrong configuration is reported after the list.

    Example: rad mcp proxy plugins
    """
    from gateway_core.cli.inspecting.plugins import list_plugins  # noqa: PLC0415

    list_plugins(config, as_json=as_json)
