"""The commands that show what a running gateway does now, and act on it.

The docstrings are the help texts. Annotations are not postponed here, because typer would evaluate all of them at each
start.
"""

from enum import StrEnum
from typing import Annotated

import typer

from gateway_core.cli.options import ConfigOption, JsonOption, StateDirOption


class Level(StrEnum):
    """Levels of the log."""

    DEBUG = "DEBUG"
    INFO = "INFO"
    WARNING = "WARNING"
    ERROR = "ERROR"
    CRITICAL = "CRITICAL"


def calls(
    cancel: Annotated[str | None, typer.Option("--cancel", metavar="ID", help="Cancel the call with this id.")] = None,
    recent: Annotated[bool, typer.Option("--recent", help="List the calls that ended lately.")] = False,
    config: ConfigOption = None,
    _state: StateDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the calls in flight, the oldest first, and those that wait for people. Or cancel one.

    The agent of a cancelled call learns whether it may have been executed. Calls that went wrong are always recorded;
    of the others, those that begin within ten minutes after a look at recent calls, or while a reader watches.

    Example: rad mcp proxy calls
    """
    from gateway_core.cli.live.calls import calls as run  # noqa: PLC0415

    run(config, cancel, recent=recent, as_json=as_json)


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


def logs(
    *,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with the lines that come.")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", min=1, max=1000, help="How many lines to begin with.")] = 100,
    level: Annotated[
        Level, typer.Option("--level", case_sensitive=False, help="The least severe level.")
    ] = Level.DEBUG,
    upstream: Annotated[str, typer.Option("--upstream", metavar="NAME", help="Lines about this upstream.")] = "",
    exchange: Annotated[str, typer.Option("--exchange", metavar="ID", help="Lines about this call.")] = "",
    outcome: Annotated[str, typer.Option("--outcome", help="Lines of calls that ended like this: refused, …")] = "",
    config: ConfigOption = None,
    _state: StateDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show the last lines of the log of the running gateway, wherever it writes them.

    With --follow, it goes on after a restart of the gateway; with --json, it then prints one line as one object.

    Example: rad mcp proxy logs -f --outcome refused
    """
    from gateway_core.cli.live.logs import logs as run  # noqa: PLC0415

    wanted = {"level": level.value, "upstream": upstream, "exchange": exchange, "outcome": outcome}
    run(config, lines, wanted, follow=follow, as_json=as_json)


def events(
    types: Annotated[
        str, typer.Option("--type", metavar="TYPE,…", help="call, upstream, lists, session, reload, question, log.")
    ] = "",
    config: ConfigOption = None,
    _state: StateDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what happens in the running gateway, as it happens; with --json, one event in a line.

    It goes on after a restart of the gateway.

    Example: rad mcp proxy events --type upstream,reload
    """
    from gateway_core.cli.live.events import events as run  # noqa: PLC0415

    run(config, types, as_json=as_json)


def questions(
    cancel: Annotated[
        str | None, typer.Option("--cancel", metavar="ID", help="End the call that waits for this answer.")
    ] = None,
    approve: Annotated[
        str | None, typer.Option("--approve", metavar="ID", help="Approve the call, where operators may answer.")
    ] = None,
    deny: Annotated[
        str | None, typer.Option("--deny", metavar="ID", help="Deny the call, where operators may answer.")
    ] = None,
    config: ConfigOption = None,
    _state: StateDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the calls that wait for people, those first that have waited longest. Or answer or end one.

    Example: rad mcp proxy questions
    """
    from gateway_core.cli.live.questions import questions as run  # noqa: PLC0415

    run(config, cancel, approve, deny, as_json=as_json)


def definitions(
    upstream: Annotated[str, typer.Argument(metavar="[UPSTREAM]", help="Only changes of this upstream.")] = "",
    *,
    every: Annotated[bool, typer.Option("--all", help="Also changes that are marked as seen.")] = False,
    seen: Annotated[bool, typer.Option("--seen", help="Mark the changes that are shown as seen.")] = False,
    config: ConfigOption = None,
    _state: StateDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show the definitions of tools, prompts and resources that servers changed, added or removed, before and after.

    The gateway compares the lists of each upstream when it fetches them, also with those of its last run. It does not
    block what has changed. The dashboard and `status` count the changes until an operator marks them as seen.

    Example: rad mcp proxy definitions
    """
    from gateway_core.cli.live.definitions import definitions as run  # noqa: PLC0415

    run(config, upstream, every=every, seen=seen, as_json=as_json)


def top(
    config: ConfigOption = None,
    _state: StateDirOption = None,
) -> None:
    """Show the traffic of the running gateway, live: calls, errors, latency, upstreams, questions.

    Keys: q ends it, p pauses it. Into a pipe or a file goes one picture of the present.

    Example: rad mcp proxy top
    """
    from gateway_core.cli.live.top import top as run  # noqa: PLC0415

    run(config)
