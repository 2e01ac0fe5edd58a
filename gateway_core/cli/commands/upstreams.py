"""The commands that decide whether an upstream of the running gateway gets calls.

The docstrings are the help texts. Annotations are not postponed here, because typer would evaluate all of them at each
start.
"""

from typing import Annotated

import typer

from gateway_core.cli.options import ConfigOption, JsonOption, StateDirOption

_Upstream = Annotated[str, typer.Argument(metavar="UPSTREAM", help="The upstream, by its name in the file.")]


def drain(upstream: _Upstream, config: ConfigOption = None, _state: StateDirOption = None) -> None:
    """Keep new calls from an upstream until `resume`, or until the gateway stops.

    They go to its replicas, or are refused as not executed. Calls in flight end. The file stays as it is.

    Example: rad mcp proxy drain tracker
    """
    from gateway_core.cli.live.upstreams import drain as run  # noqa: PLC0415

    run(config, upstream)


def resume(upstream: _Upstream, config: ConfigOption = None, _state: StateDirOption = None) -> None:
    """Let new calls come to a drained upstream again.

    Example: rad mcp proxy resume tracker
    """
    from gateway_core.cli.live.upstreams import resume as run  # noqa: PLC0415

    run(config, upstream)


def disable(
    upstream: _Upstream, config: ConfigOption = None, _state: StateDirOption = None, as_json: JsonOption = False
) -> None:
    """Disconnect an upstream, and write `enabled = false` into the file.

    Calls in flight end first. Its tools leave the lists.

    Example: rad mcp proxy disable tracker
    """
    from gateway_core.cli.live.upstreams import enable as run  # noqa: PLC0415

    run(config, upstream, enabled=False, as_json=as_json)


def enable(
    upstream: _Upstream, config: ConfigOption = None, _state: StateDirOption = None, as_json: JsonOption = False
) -> None:
    """Connect to an upstream that the file switches off, and write `enabled = true` into the file.

    Example: rad mcp proxy enable tracker
    """
    from gateway_core.cli.live.upstreams import enable as run  # noqa: PLC0415

    run(config, upstream, enabled=True, as_json=as_json)
