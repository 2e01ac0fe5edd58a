"""The commands on logins at upstreams.

The docstrings are the help texts. Annotations are not postponed here, because typer would evaluate all of them at each
start.
"""

from typing import Annotated

import typer

from gateway_core.cli.options import ConfigOption, StateDirOption


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


def logout(
    upstream: Annotated[str, typer.Argument(metavar="UPSTREAM", help="The upstream, by its name in the file.")],
    who: Annotated[
        str | None,
        typer.Option("--as", metavar="WHO", help='End the login of this user (identity = "user"), by subject.'),
    ] = None,
    config: ConfigOption = None,
    _state: StateDirOption = None,
) -> None:
    """Log out of an upstream: revoke its tokens at the authorization server, and delete them here.

    Example: rad mcp proxy logout tracker
    """
    from gateway_core.cli.logins.logout import logout as run  # noqa: PLC0415

    run(config, upstream, who)
