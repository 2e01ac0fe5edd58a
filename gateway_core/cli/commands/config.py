"""The commands that read and change single keys of the configuration file.

The docstrings are the help texts. Annotations are not postponed here, because typer would evaluate all of them at each
start.
"""

from typing import Annotated

import typer

from gateway_core.cli.options import Command, ConfigOption, Group, JsonOption, StateDirOption

app = typer.Typer(
    cls=Group,
    help="Read and change single keys of the configuration file.\n\n"
    "A key is dotted and starts below `[mcp.proxy]`: `timeout`, `log.level`, `upstreams.tracker.enabled`. In a list of "
    "tables it names the entry; a name with a dot stands in quotes.",
    no_args_is_help=True,
)
_Key = Annotated[str, typer.Argument(metavar="KEY", help="The key, such as timeout or upstreams.tracker.enabled.")]


@app.command(cls=Command)
def get(key: _Key, config: ConfigOption = None, _state: StateDirOption = None, as_json: JsonOption = False) -> None:
    """Print the value of a key as the file has it, without secrets.

    Exit code 1: the file does not have the key.

    Example: rad mcp proxy config get upstreams.tracker.timeout
    """
    from gateway_core.cli.config_file import get as run  # noqa: PLC0415

    run(config, key, as_json=as_json)


@app.command("set", cls=Command)
def set_key(
    key: _Key,
    value: Annotated[str, typer.Argument(metavar="VALUE", help='TOML, such as 20.0 or ["a", "b"]; or plain text.')],
    config: ConfigOption = None,
    _state: StateDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Set a key of the file, whose comments and layout stay.

    A running gateway puts the change in force, or refuses it and keeps the file. What runs programs, names files or
    reads variables it writes only with `control.allow_commands`. Exit code 1: the change is refused.

    Example: rad mcp proxy config set timeout 20.0
    """
    from gateway_core.cli.config_file import change  # noqa: PLC0415

    change(config, key, value, as_json=as_json)


@app.command(cls=Command)
def unset(key: _Key, config: ConfigOption = None, _state: StateDirOption = None, as_json: JsonOption = False) -> None:
    """Remove a key, a table, or an entry such as `upstreams.tracker` from the file.

    Example: rad mcp proxy config unset timeout
    """
    from gateway_core.cli.config_file import change  # noqa: PLC0415

    change(config, key, None, as_json=as_json)
