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


def start(
    config: Path | None,
    *,
    stdio: bool,
    watch: bool = False,
    profile: str = "",
    ready_fd: int | None,
    options: Mapping[str, Any],
) -> None:
    """Serve until a signal, or with `stdio` also until the agent closes stdin, whose profile is `profile`.

    `watch`: reload the file whenever it changes. `ready_fd`: the pipe to the parent process of a detached start; see
    `detach`. `options`: values from the command line for keys of `[mcp.proxy]`.
    """
    path = locate(config)
    launch = Launch(path, state_folder(path), options, watch, version_of(path), profile)
    if stdio:
        _start_stdio(launch)
        return
    if ready_fd is None:
        _start(launch, starter=None)
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


def _start(launch: Launch, *, starter: Starter | None) -> None:
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
    )
    try:
        with port.explained(proxy.host, proxy.port):
            port.check(proxy.host, proxy.port)
        if proxy.control.port:
            with port.explained(proxy.control.host, proxy.control.port, port.CONTROL_PORT):
                port.check(proxy.control.host, proxy.control.port)
        _run(launch, settings, hold, starter)
    finally:
        hold.release()


def _run(launch: Launch, config: Config, hold: Hold | None, starter: Starter | None) -> None:
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(_serve(launch, config, hold, starter))


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    try:
        from uvloop import new_event_loop  # noqa: PLC0415 - not on every platform
    except ImportError:
        return asyncio.new_event_loop
    return new_event_loop


async def _serve(launch: Launch, config: Config, hold: Hold | None, starter: Starter | None) -> None:
    """Serve agents on the port, or without `hold` one on stdin and stdout; children start while the gateway loads."""
    early = EarlyChildren(config.proxy.upstreams)
    try:
        await early.start()
        from gateway_core.cli.serving import lifetime  # noqa: PLC0415 - loads the log, and then the gateway

        if hold is None:
            await lifetime.serve_stdio(launch, config, early)
        else:
            await lifetime.serve(launch, config, early, hold, starter)
    finally:
        await early.stop()
