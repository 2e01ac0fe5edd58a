"""The commands, their options and their help. Each command imports its own module when it runs, for a fast start.

Annotations are not postponed here, because typer would evaluate all of them at each start.
"""

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from gateway_core.cli.exit_codes import ExitCode
from gateway_core.cli.locate import UsageError
from gateway_core.cli.options import Command, ConfigOption, Group, JsonOption
from gateway_core.cli.plugin_commands.mounting import ProxyGroup
from gateway_core.cli.report import DEBUG_VARIABLE, guarded, put, say_error
from gateway_core.cli.state.folder import VARIABLE as STATE_DIR_VARIABLE

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
    cls=ProxyGroup,
    help="The MCP gateway: agents connect to one address and use the tools of many MCP servers.\n\n"
    "First steps: `rad mcp proxy init`, edit the file it writes, `rad mcp proxy start`. "
    "To see it at work without any server of your own: `rad mcp proxy demo`.\n\n"
    "Exit codes: 0 done, 1 failed, 2 wrong usage or configuration, 3 not running.",
    no_args_is_help=True,
)
app.add_typer(mcp, name="mcp")
mcp.add_typer(proxy, name="proxy")


def _state_dir(folder: Path | None) -> Path | None:
    if folder is not None:
        os.environ[STATE_DIR_VARIABLE] = os.path.abspath(folder)  # a detached gateway inherits it
    return folder


StateDirOption = Annotated[
    Path | None,
    typer.Option(
        "--state-dir",
        metavar="DIR",
        callback=_state_dir,
        help=f"Folder of the pid file, the names file and the log, in place of state_dir ({STATE_DIR_VARIABLE}).",
    ),
]


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


@proxy.command(cls=Command)
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


@proxy.command("import", cls=Command)
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


@proxy.command(cls=Command)
def start(
    *,
    config: ConfigOption = None,
    host: Annotated[
        str | None, typer.Option("--host", metavar="HOST", help="Address to listen on, in place of the file's.")
    ] = None,
    port: Annotated[
        int | None, typer.Option("--port", min=1, max=65535, help="Port to listen on, in place of the file's.")
    ] = None,
    _state: StateDirOption = None,
    detach: Annotated[
        bool, typer.Option("--detach", help="Run in the background; return once it listens, or with its error.")
    ] = False,
    stdio: Annotated[
        bool, typer.Option("--stdio", help="Serve one agent on stdin and stdout; opens no port for agents.")
    ] = False,
    profile: Annotated[
        str, typer.Option("--profile", metavar="NAME", help="The profile of the agent, with --stdio.")
    ] = "",
    ready_fd: Annotated[int | None, typer.Option("--ready-fd", hidden=True)] = None,
) -> None:
    """Start the gateway.

    Connects to the upstreams of the configuration and serves agents until Ctrl+C or `rad mcp proxy stop`. Calls in
    flight may then still finish; a second Ctrl+C ends it at once.

    Example: rad mcp proxy start --detach
    """
    from gateway_core.cli.serving.start import start as run  # noqa: PLC0415

    code = run(config, detach=detach, stdio=stdio, profile=profile, host=host, port=port, ready_fd=ready_fd)
    raise typer.Exit(code)


@proxy.command(cls=Command)
def stop(
    config: ConfigOption = None,
    _state: StateDirOption = None,
    now: Annotated[bool, typer.Option("--now", help="Do not wait for calls in flight.")] = False,
) -> None:
    """Stop the running gateway and wait until it has ended.

    Calls in flight get the configured drain_timeout to finish. Exit code 3: none was running.

    Example: rad mcp proxy stop
    """
    from gateway_core.cli.stop import stop as run  # noqa: PLC0415

    run(config, now=now)


@proxy.command(cls=Command)
def status(config: ConfigOption = None, _state: StateDirOption = None, as_json: JsonOption = False) -> None:
    """Show whether the gateway runs, its addresses, and the state of each upstream.

    Exit code 3: it is not running.

    Example: rad mcp proxy status
    """
    from gateway_core.cli.status import status as run  # noqa: PLC0415

    run(config, as_json=as_json)


@proxy.command(cls=Command)
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


@proxy.command(cls=Command)
def tools(
    name: Annotated[str | None, typer.Argument(help="One tool: show its arguments and how to call it.")] = None,
    *,
    profile: Annotated[
        str, typer.Option("--profile", metavar="NAME", help="What the agents of this profile see.")
    ] = "",
    config: ConfigOption = None,
    _state: StateDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the tools that agents see, which upstreams serve them, and how name conflicts were resolved.

    With a name, show the arguments of that tool and a call to paste. Asks the running gateway; if none is running,
    connects to the upstreams itself.

    Example: rad mcp proxy tools
    """
    from gateway_core.cli.tools.listing import tools as run  # noqa: PLC0415

    run(config, name, profile=profile, as_json=as_json)


@proxy.command(cls=Command)
def call(
    name: Annotated[str, typer.Argument(help="The tool, as `rad mcp proxy tools` lists it, or upstream:tool.")],
    arg: Annotated[
        list[str] | None,
        typer.Option("--arg", metavar="KEY=VALUE", help="One argument, typed as the tool's schema says; repeatable."),
    ] = None,
    data: Annotated[
        str | None, typer.Option("--data", metavar="JSON", help="All arguments as a JSON object; - reads stdin.")
    ] = None,
    *,
    client_cert: Annotated[
        Path | None,
        typer.Option("--client-cert", metavar="FILE", help="Client certificate in PEM, for a gateway with TLS."),
    ] = None,
    client_key: Annotated[
        Path | None,
        typer.Option("--client-key", metavar="FILE", help="Its key, if --client-cert does not hold it as well."),
    ] = None,
    config: ConfigOption = None,
    _state: StateDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Call one tool and print its result.

    Goes through the running gateway like an agent's call; if none is running, through a temporary one. If the gateway
    requires a key or token, put it into the variable RADIUM_TOKEN.
    Exit code 1: the call failed, or the tool reports an error.

    Example: rad mcp proxy call add --arg a=2 --arg b=3
    """
    from gateway_core.cli.tools.call import call as run  # noqa: PLC0415
    from gateway_core.cli.tools.tls import ClientFiles  # noqa: PLC0415

    client = ClientFiles(client_cert, client_key)
    run(config, name, args=arg or [], data=data, as_json=as_json, client=client)


@proxy.command(cls=Command)
def login(
    upstream: Annotated[str, typer.Argument(metavar="UPSTREAM", help="The upstream, by its name in the file.")],
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Print the address; open no browser.")] = False,
    config: ConfigOption = None,
    _state: StateDirOption = None,
) -> None:
    """Log in to an upstream with a browser, for all agents of this gateway.

    For upstreams with grant = "authorization_code" in their auth. The tokens are kept encrypted and renewed; a running
    gateway uses them at once.

    Example: rad mcp proxy login tracker
    """
    from gateway_core.cli.logins.login import login as run  # noqa: PLC0415

    run(config, upstream, browser=not no_browser)


@proxy.command(cls=Command)
def logout(
    upstream: Annotated[str, typer.Argument(metavar="UPSTREAM", help="The upstream, by its name in the file.")],
    config: ConfigOption = None,
    _state: StateDirOption = None,
) -> None:
    """Log out of an upstream: revoke its tokens at the authorization server, and delete them here.

    Example: rad mcp proxy logout tracker
    """
    from gateway_core.cli.logins.logout import logout as run  # noqa: PLC0415

    run(config, upstream)


@proxy.command(cls=Command)
def plugins(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """List the plugins with their settings: the enabled ones in their order, then the other installed ones.

    Imports every installed plugin to read its settings. A wrong configuration is reported after the list.

    Example: rad mcp proxy plugins
    """
    from gateway_core.cli.inspecting.plugins import list_plugins  # noqa: PLC0415

    list_plugins(config, as_json=as_json)


@proxy.command(cls=Command)
def demo() -> None:
    """Show the gateway at work on bundled servers: catalog, routing, failover, limits, redaction.

    Needs no configuration, leaves nothing behind, and takes less than 20 seconds.

    Example: rad mcp proxy demo
    """
    from gateway_core.demo import run  # noqa: PLC0415

    raise typer.Exit(run())


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
        text = message().strip().rstrip(".")
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
