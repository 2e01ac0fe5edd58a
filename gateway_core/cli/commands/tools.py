"""The commands on tools.

The docstrings are the help texts. Annotations are not postponed here, because typer would evaluate all of them at each
start.
"""

from pathlib import Path
from typing import Annotated

import typer

from gateway_core.cli.options import ConfigOption, JsonOption, StateDirOption


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
    profile: Annotated[
        str, typer.Option("--profile", metavar="NAME", help="Call as an agent at the address of this profile.")
    ] = "",
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
    requires a key or token, put it into the variable RADIUM_TOKEN. Questions of servers and plugins are asked here.
    Without --profile, the call goes to /mcp, as that of an agent whose address names no profile.
    Exit code 1: the call failed, or the tool reports an error.

    Example: rad mcp proxy call add --arg a=2 --arg b=3
    """
    from gateway_core.cli.tools.call import call as run  # noqa: PLC0415
    from gateway_core.cli.tools.tls import ClientFiles  # noqa: PLC0415

    client = ClientFiles(client_cert, client_key)
    run(config, name, args=arg or [], data=data, profile=profile, as_json=as_json, client=client)
