"""The commands that start, watch and stop a gateway.

The docstrings are the help texts. Annotations are not postponed here, because typer would evaluate all of them at each
start.
"""

from typing import Annotated

import typer

from gateway_core.cli.options import ConfigOption, JsonOption, StateDirOption


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
    watch: Annotated[bool, typer.Option("--watch", help="Reload the configuration file whenever it changes.")] = False,
    profile: Annotated[
        str, typer.Option("--profile", metavar="NAME", help="The profile of the agent, with --stdio.")
    ] = "",
    ready_fd: Annotated[int | None, typer.Option("--ready-fd", hidden=True)] = None,
    restart_fd: Annotated[int | None, typer.Option("--restart-fd", hidden=True)] = None,
    rehearse: Annotated[bool, typer.Option("--rehearse", hidden=True)] = False,
) -> None:
    """Start the gateway.

    Connects to the upstreams of the configuration and serves agents until Ctrl+C or `rad mcp proxy stop`. Calls in
    flight may then still finish; a second Ctrl+C ends it at once.

    Example: rad mcp proxy start --detach
    """
    from gateway_core.cli.serving.start import start as run  # noqa: PLC0415

    options = {key: value for key, value in (("host", host), ("port", port)) if value is not None}
    code = run(
        config,
        detach=detach,
        stdio=stdio,
        profile=profile,
        watch=watch,
        options=options,
        ready_fd=ready_fd,
        restart_fd=restart_fd,
        rehearse=rehearse,
    )
    raise typer.Exit(code)


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


def status(config: ConfigOption = None, _state: StateDirOption = None, as_json: JsonOption = False) -> None:
    """Show whether the gateway runs, its addresses, and the state of each upstream.

    Exit code 3: it is not running.

    Example: rad mcp proxy status
    """
    from gateway_core.cli.status import status as run  # noqa: PLC0415

    run(config, as_json=as_json)


def reload(config: ConfigOption = None, _state: StateDirOption = None, as_json: JsonOption = False) -> None:
    """Apply the changed configuration file to the running gateway.

    No call is lost: calls in flight end under the configuration that they began with. A file with problems changes
    nothing. Prints what changed, and what needs a restart. Exit code 1: the file has problems. 3: it is not running.

    Example: rad mcp proxy reload
    """
    from gateway_core.cli.serving.reload import reload as run  # noqa: PLC0415

    run(config, as_json=as_json)


def restart(config: ConfigOption = None, _state: StateDirOption = None) -> None:
    """Restart the running gateway without an error for agents, for example after an upgrade.

    New calls wait while calls in flight finish, for drain_timeout at most, and while the program starts. Connections
    and sessions of agents go on. A file with problems, or a program that cannot start, changes nothing. Exit code 1:
    it was not restarted. 3: it is not running.

    Example: rad mcp proxy restart
    """
    from gateway_core.cli.serving.restart import restart as run  # noqa: PLC0415

    run(config)


def diff(config: ConfigOption = None, _state: StateDirOption = None, as_json: JsonOption = False) -> None:
    """Show what `reload` would change in the running gateway.

    Changes nothing. Exit code 1: the file has problems. 3: it is not running.

    Example: rad mcp proxy diff
    """
    from gateway_core.cli.serving.reload import diff as run  # noqa: PLC0415

    run(config, as_json=as_json)


def demo() -> None:
    """Show the gateway at work on bundled servers: catalog, routing, failover, limits, redaction.

    Needs no configuration, leaves nothing behind, and takes less than 20 seconds.

    Example: rad mcp proxy demo
    """
    from gateway_core.demo import run  # noqa: PLC0415

    raise typer.Exit(run())
