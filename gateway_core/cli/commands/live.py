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
