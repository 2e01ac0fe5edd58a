"""`rad mcp proxy start` in the foreground: checks and starts the children, then `lifetime` runs the gateway.

Children start before the gateway is loaded. So this module imports only what that needs, and what reports its errors.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gateway_core.cli.instance import Hold, acquire
from gateway_core.cli.locate import locate
from gateway_core.cli.serving import port
from gateway_core.cli.serving.launch import Launch, version_of
from gateway_core.cli.settings import require_enabled
from gateway_core.cli.state.folder import prepare, state_folder
from gateway_core.config import Config, load
from gateway_core.errors import GatewayError, UnknownProfile
from gateway_core.upstream.process.early import EarlyChildren

if TYPE_CHECKING:
    from gateway_core.cli.serving.detach import Starter
    from gateway_core.cli.serving.restart import Restart
    from gateway_core.generations.handover import Handover


def start(
    config: Path | None,
    *,
    stdio: bool,
    watch: bool = False,
    profile: str = "",
    ready_fd: int | None,
    restart_fd: int | None = None,
    options: Mapping[str, Any],
) -> None:
    """Serve until a signal, or with `stdio` also until the agent closes stdin, whose profile is `profile`.

    `watch`: reload the file whenever it changes. `ready_fd`: the pipe to the parent process of a detached start; see
    `detach`. `restart_fd`: what the program before a restart left; see `restart`. `options`: values from the command
    line for keys of `[mcp.proxy]`.
    """
    path = locate(config)
    before = None
    if restart_fd is not None:
        from gateway_core.cli.serving import restart  # noqa: PLC0415 - only a restart needs it

        before = restart.received(restart_fd)
    detached = ready_fd is not None or (before is not None and before.detached)
    launch = Launch(path, state_folder(path), options, watch, version_of(path), profile, detached)
    if stdio:
        _start_stdio(launch)
        return
    if ready_fd is None:
        _start(launch, starter=None, before=before)
        return
    from gateway_core.cli.serving.detach import Starter  # noqa: PLC0415 - only a detached start needs it

    with Starter(ready_fd) as starter:
        _start(launch, starter=starter)


def _start_stdio(launch: Launch) -> None:
    settings = load(launch.path, state=launch.folder)
    require_enabled(settings)
    known = [one.name for one in settings.proxy.profiles]
    if launch.profile and launch.profile not in known:
        raise UnknownProfile(launch.profile, known)
    with suppress(GatewayError):  # only the names file and a log need the folder; they report that it is missing
        prepare(launch.folder)
    _run(launch, settings, None, None)


def _start(launch: Launch, *, starter: Starter | None, before: Restart | None = None) -> None:
    path, folder = launch.path, launch.folder
    settings = load(path, state=folder, options=launch.overrides)
    require_enabled(settings)
    proxy = settings.proxy
    prepare(folder)
    hold = acquire(
        path,
        host=proxy.host,
        port=proxy.port,
        drain_timeout=proxy.drain_timeout,
        folder=folder,
        certificate="" if proxy.tls is None else proxy.tls.cert,
        before=None if before is None else before.hold,
    )
    sockets = None if before is None else before.sockets
    try:
        with port.explained(proxy.host, proxy.port):
            if sockets is None or not sockets.agents.is_at(proxy.host, proxy.port):
                port.check(proxy.host, proxy.port)
        control = proxy.control
        if control.port and (sockets is None or not sockets.control.is_at(control.host, control.port)):
            with port.explained(control.host, control.port, port.CONTROL_PORT):
                port.check(control.host, control.port)
        left = _run(launch, settings, hold, starter, sockets)
        if left is not None:
            from gateway_core.cli.serving import restart  # noqa: PLC0415 - loaded with the gateway

            restart.execute(launch, hold, left)
    finally:
        hold.release()


def _run(
    launch: Launch, config: Config, hold: Hold | None, starter: Starter | None, sockets: Handover | None = None
) -> Handover | None:
    """Serve to the end. Returns what the next program gets, if the gateway restarts."""
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(_serve(launch, config, hold, starter, sockets))


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    try:
        from uvloop import new_event_loop  # noqa: PLC0415 - not on every platform
    except ImportError:
        return asyncio.new_event_loop
    return new_event_loop


async def _serve(
    launch: Launch, config: Config, hold: Hold | None, starter: Starter | None, sockets: Handover | None
) -> Handover | None:
    """Serve agents on the port, or without `hold` one on stdin and stdout; children start while the gateway loads."""
    early = EarlyChildren(config.proxy.upstreams)
    try:
        await early.start()
        from gateway_core.cli.serving import lifetime  # noqa: PLC0415 - loads the log, and then the gateway

        if hold is None:
            await lifetime.serve_stdio(launch, config, early)
            return None
        return await lifetime.serve(launch, config, early, hold, starter, before=sockets)
    finally:
        await early.stop()
