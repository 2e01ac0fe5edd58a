"""`rad mcp proxy start`: in the foreground, in the background, or for one agent on stdin and stdout."""

from __future__ import annotations

from pathlib import Path

from gateway_core.cli.locate import UsageError
from gateway_core.cli.serving import pid_one


def start(
    config: Path | None,
    *,
    detach: bool = False,
    stdio: bool = False,
    profile: str = "",
    host: str | None = None,
    port: int | None = None,
    ready_fd: int | None = None,
) -> int:
    """Start the gateway and return the exit code; in the foreground, once it has ended.

    `profile`: of the agent on stdin and stdout. `ready_fd`: see `detach`.
    """
    if detach and stdio:
        raise UsageError("--detach and --stdio exclude each other: with --stdio, the agent starts the gateway")
    if profile and not stdio:
        raise UsageError("--profile has no effect without --stdio; over HTTP, the address is /mcp/p/NAME")
    options = {key: value for key, value in (("host", host), ("port", port)) if value is not None}
    if stdio and options:
        raise UsageError(f"--{next(iter(options))} has no effect with --stdio, which opens no port for agents")
    first = pid_one.is_pid_one()
    if detach and first:
        raise UsageError(
            "--detach would end the container: this is its process 1, and a container ends with it; leave --detach out"
        )
    if detach:
        from gateway_core.cli.serving import detach as background  # noqa: PLC0415 - does not load the gateway

        return background.start(config, options=[f"--{key}={value}" for key, value in options.items()])
    code = pid_one.split() if first else None
    if code is not None:
        return code
    from gateway_core.cli.serving.serve import start as run  # noqa: PLC0415

    run(config, stdio=stdio, profile=profile, ready_fd=ready_fd, options=options)
    return 0
