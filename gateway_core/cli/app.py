"""The program `rad`: its groups of commands, and what their errors look like.

Annotations are not postponed here, because typer would evaluate all of them at each start.
"""

import os
from collections.abc import Callable, Mapping
from typing import Annotated, Any, ClassVar, Final

import typer

from gateway_core.cli.commands import config, files, live, logins, serving, tools, upstreams
from gateway_core.cli.exit_codes import ExitCode
from gateway_core.cli.locate import UsageError
from gateway_core.cli.options import Command, Group
from gateway_core.cli.plugin_commands.mounting import ProxyGroup
from gateway_core.cli.report import DEBUG_VARIABLE, guarded, put, say_error

_COMMANDS: Final[Mapping[str, Callable[..., None]]] = {
    "init": files.init,
    "import": files.import_servers,
    "start": serving.start,
    "stop": serving.stop,
    "restart": serving.restart,
    "status": serving.status,
    "reload": serving.reload,
    "diff": serving.diff,
    "check": files.check,
    "tools": tools.tools,
    "call": tools.call,
    "calls": live.calls,
    "sessions": live.sessions,
    "reconnect": live.reconnect,
    "top": live.top,
    "logs": live.logs,
    "events": live.events,
    "questions": live.questions,
    "definitions": live.definitions,
    "drain": upstreams.drain,
    "resume": upstreams.resume,
    "disable": upstreams.disable,
    "enable": upstreams.enable,
    "ui": live.ui,
    "token": live.token,
    "login": logins.login,
    "logout": logins.logout,
    "plugins": files.plugins,
    "demo": serving.demo,
}
"""In the order of the help."""


def _alone(name: str, command: Callable[..., None]) -> typer.Typer:
    """An application whose only command has its name."""
    made = typer.Typer(add_completion=False)
    made.command(name, cls=Command)(command)
    return made


class _Proxy(ProxyGroup):
    """The group with the commands above."""

    core: ClassVar = {
        **{name: _alone(name, command) for name, command in _COMMANDS.items()},
        "config": config.app,
    }


app = typer.Typer(
    name="rad",
    cls=Group,
    help="Radium: one MCP server in front of many. Everything is under `rad mcp proxy`.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
mcp = typer.Typer(cls=Group, help="Model Context Protocol: the gateway (proxy).", no_args_is_help=True)
proxy = typer.Typer(
    cls=_Proxy,
    help="The MCP gateway: agents connect to one address and use the tools of many MCP servers.\n\n"
    "First steps: `rad mcp proxy init`, edit the file it writes, `rad mcp proxy start`. "
    "To see it at work without any server of your own: `rad mcp proxy demo`.\n\n"
    "Exit codes: 0 done, 1 failed, 2 wrong usage or configuration, 3 not running.",
    no_args_is_help=True,
)
app.add_typer(mcp, name="mcp")
mcp.add_typer(proxy, name="proxy")


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version  # noqa: PLC0415

        put(f"rad {version('gateway-core')}")
        raise typer.Exit


@app.callback()
def root(
    *,
    _version_wanted: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help=f"Show tracebacks of errors ({DEBUG_VARIABLE}=1).")] = False,
) -> None:
    """Radium: one MCP server in front of many. Everything is under `rad mcp proxy`."""
    if debug:
        os.environ[DEBUG_VARIABLE] = "1"  # a detached gateway inherits it


def _parsed() -> Any:
    """Run typer; its errors have the form of all others. Raises `UsageError`."""
    try:
        return app(prog_name="rad", standalone_mode=False)
    except Exception as error:
        message = getattr(error, "format_message", None)  # typer's own errors; their classes are private to it
        if message is None:
            raise
        context: Any = getattr(error, "ctx", None)
        if type(error).__name__ == "NoArgsIsHelpError":
            error.show()  # type: ignore[attr-defined]
            return ExitCode.USAGE
        text = message().strip().rstrip(".").replace(": Value error, ", ": ")
        path = "rad mcp proxy" if context is None else context.command_path
        raise UsageError(f"{text[:1].lower()}{text[1:]}\n  for help: {path} --help") from error


def run() -> int:
    """Run the command line and return the exit code."""
    try:
        return guarded(_parsed)
    except SystemExit as leaving:
        if leaving.code is None or isinstance(leaving.code, int):
            return leaving.code or ExitCode.DONE
        say_error(str(leaving.code))
        return ExitCode.FAILED
