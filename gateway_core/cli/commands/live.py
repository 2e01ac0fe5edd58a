"""The commands that show what a running gateway does now, and act on it.

The docstrings are the help texts. Annotations are not postponed here, because typer would evaluate all of them at each
start.
"""

from typing import Annotated

import typer

from gateway_core.cli.options import ConfigOption, JsonOption, StateDirOption


def calls(
    cancel: Annotated[str | None, typer.Option("--cancel", metavar="ID", help="Cancel the call with this id.")] = None,
    config: ConfigOption = None,
    _state: StateDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the calls in flight, the oldest first, and those that wait for people. Or cancel one.

    The agent of a cancelled call is told whether it may have been executed.

    Example: rad mcp proxy calls
    """
    from gateway_core.cli.live.calls import calls as run  # noqa: PLC0415

    run(config, cancel, as_json=as_json)


def sessions(
    end: Annotated[str | None, typer.Option("--end", metavar="KEY", help="End the session with this key.")] = None,
    config: ConfigOption = None,
    _state: StateDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the sessions of agents of revisions up to 2025-11-25. Or end one, with its calls and streams.

    Example: rad mcp proxy sessions
    """
    from gateway_core.cli.live.sessions import sessions as run  # noqa: PLC0415

    run(config, end, as_json=as_json)


def reconnect(
    upstream: Annotated[str, typer.Argument(metavar="UPSTREAM", help="The upstream, by its name in the file.")],
    config: ConfigOption = None,
    _state: StateDirOption = None,
) -> None:
    """Connect the running gateway to an upstream again, and restart its process if it has one.

    Its calls in flight end first. Calls that arrive meanwhile go to its replicas, or are refused as unavailable and
    not executed. Exit code 1: it is not connected afterwards.

    Example: rad mcp proxy reconnect tracker
    """
    from gateway_core.cli.live.reconnect import reconnect as run  # noqa: PLC0415

    run(config, upstream)


def ui(
    config: ConfigOption = None,
    _state: StateDirOption = None,
    read_only: Annotated[bool, typer.Option("--read-only", help="Let the browser change nothing.")] = False,
    print_it: Annotated[bool, typer.Option("--print", help="Print the address; open no browser.")] = False,
) -> None:
    """Open the dashboard of the running gateway in a browser. It asks for no password.

    The browser gets a cookie for 12 hours. The address that is opened, or printed, can be used once within a minute.

    Example: rad mcp proxy ui
    """
    from gateway_core.cli.live.ui import ui as run  # noqa: PLC0415

    run(config, read_only=read_only, print_it=print_it)


def token(
    config: ConfigOption = None,
    _state: StateDirOption = None,
    change: Annotated[
        bool, typer.Option("--change/--read", help="The token for everything, or the one that may only read.")
    ] = False,
) -> None:
    """Print a token of the control plane, for programs that use its API.

    Each start of the gateway makes new tokens.

    Example: curl -H "Authorization: Bearer $(rad mcp proxy token)" http://127.0.0.1:PORT/admin/status
    """
    from gateway_core.cli.live.token import token as run  # noqa: PLC0415

    run(config, change=change)
