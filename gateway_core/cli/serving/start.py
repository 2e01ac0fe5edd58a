"""`rad mcp proxy start`: in the foreground, in the background, or for one agent on stdin and stdout."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from gateway_core.cli.locate import UsageError, locate
from gateway_core.cli.serving import pid_one
from gateway_core.cli.serving.launch import Launch
from gateway_core.cli.state.folder import state_folder


def start(
    config: Path | None,
    *,
    detach: bool = False,
    stdio: bool = False,
    profile: str = "",
    watch: bool = False,
    options: Mapping[str, Any] = MappingProxyType({}),
    ready_fd: int | None = None,
    restart_fd: int | None = None,
    rehearse: bool = False,
) -> int:
    """Start the gateway and return the exit code; in the foreground, once it has ended.

    `profile`: of the agent on stdin and stdout. `watch`: reload the file whenever it changes. `options`: values from
    the command line for keys of `[mcp.proxy]`. `ready_fd`: see `detach`. `restart_fd`, `rehearse`: see `restart`.
    """
    if detach and stdio:
        raise UsageError("--detach and --stdio exclude each other: with --stdio, the agent starts the gateway")
    if profile and not stdio:
        raise UsageError("--profile has no effect without --stdio; over HTTP, the address is /mcp/p/NAME")
    if stdio and options:
        raise UsageError(f"--{next(iter(options))} has no effect with --stdio, which opens no port for agents")
    if rehearse:
        from gateway_core.cli.serving.restart import answer_rehearsal  # noqa: PLC0415

        path = locate(config)
        answer_rehearsal(Launch(path, state_folder(path), options))
        return 0
    first = pid_one.is_pid_one()
    if detach and first:
        raise UsageError(
            "--detach would end the container: this is its process 1, and a container ends with it; leave --detach out"
        )
    if detach:
        from gateway_core.cli.serving import detach as background  # noqa: PLC0415 - does not load the gateway

        given = [f"--{key}={value}" for key, value in options.items()]
        return background.start(config, options=[*given, *(["--watch"] if watch else [])])
    code = pid_one.split() if first else None
    if code is not None:
        return code
    from gateway_core.cli.serving.serve import start as run  # noqa: PLC0415

    run(
        config,
        stdio=stdio,
        watch=watch,
        profile=profile,
        ready_fd=ready_fd,
        restart_fd=restart_fd,
        options=options,
    )
    return 0
