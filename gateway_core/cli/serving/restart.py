"""Restarts: the process runs the program again, under the same process id, with the sockets that it has.

The old program lets calls in flight finish, keeps the sessions of agents in their file, and leaves descriptors open.
Connections and requests that come meanwhile wait in the sockets for the new program. What is in no file reaches it in
anonymous memory: requests that were received already, and keys.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NoReturn

import msgspec

from gateway_core.cli.client import RELOAD_TIMEOUT, fetch, send
from gateway_core.cli.inspecting.problems import with_plugins
from gateway_core.cli.instance import Hold, Inherited, Instance, read_instance
from gateway_core.cli.report import Failed, describe, put_json, say, say_error
from gateway_core.cli.running import NotAnswering, holder, instance
from gateway_core.cli.serving.detach import start_command
from gateway_core.cli.serving.launch import Launch
from gateway_core.config import Config, loads, read_file, text_of, unprotected
from gateway_core.errors import ConfigError, FileProblem, GatewayError, PluginError, ReloadRefused, parts_of
from gateway_core.generations.handover import Handover
from gateway_core.log import output

REHEARSAL_TIME: Final = 60.0
"""Seconds that the check by the new program may take."""
START_TIME: Final = 60.0
"""Seconds past `drain_timeout` that the command waits for the new program."""
POLL: Final = 0.1
"""Seconds between two looks at the pid file."""


class Restart(msgspec.Struct):
    """What the new program gets."""

    pid_file: str
    pid_descriptor: int
    tokens: tuple[str, str]
    """Those of the control plane, for everything and for reading."""
    detached: bool
    sockets: Handover

    @property
    def hold(self) -> Inherited:
        """The lock on the pid file."""
        return Inherited(Path(self.pid_file), self.pid_descriptor, self.tokens)


def execute(launch: Launch, hold: Hold, sockets: Handover) -> NoReturn:
    """Run the program again. Only once the event loop has ended. Raises `GatewayError` if that is not possible."""
    tokens = hold.instance.token, hold.instance.read_token
    left = Restart(str(hold.path), hold.descriptor, tokens, launch.detached, sockets)
    memory = os.memfd_create("restart")
    with open(memory, "wb", closefd=False) as file:
        file.write(msgspec.msgpack.encode(left))
    os.lseek(memory, 0, os.SEEK_SET)
    for descriptor in (memory, left.pid_descriptor, *sockets.descriptors):
        os.set_inheritable(descriptor, True)
    output.flush()
    command = _command([*_options(launch), "--restart-fd", str(memory)])
    try:
        os.execv(sys.executable, command)  # noqa: S606 - ourselves
    except OSError as error:
        raise GatewayError(f"cannot start again: {sys.executable}: {error.strerror}") from error


def received(memory: int) -> Restart:
    """What the old program left. Its descriptors are not inherited any further. Raises `Failed`."""
    try:
        with open(memory, "rb") as file:
            left = msgspec.msgpack.decode(file.read(), type=Restart)
        for descriptor in (left.pid_descriptor, *left.sockets.descriptors):
            os.set_inheritable(descriptor, False)
    except (OSError, msgspec.DecodeError) as error:
        raise Failed("--restart-fd is only for a gateway that starts itself again") from error
    return left


def _command(launch_options: Sequence[str]) -> list[str]:
    return [*start_command(), *launch_options]


def _options(launch: Launch) -> list[str]:
    """The options of the command line, besides those of `hints`."""
    return [*(f"--{key}={value}" for key, value in launch.overrides.items()), *(["--watch"] if launch.watch else [])]


async def rehearse(launch: Launch) -> None:
    """Let the new program build a gateway by the file. Raises `ConfigError` with all problems, or `ReloadRefused`."""
    child = await asyncio.create_subprocess_exec(
        *_command([*_options(launch), "--rehearse"]),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(REHEARSAL_TIME):
            out, err = await child.communicate()
    except BaseException as error:
        child.kill()
        await child.wait()
        if isinstance(error, TimeoutError):
            raise ReloadRefused(f"the new program did not check the file within {REHEARSAL_TIME:g} s") from None
        raise
    try:
        problems = [_problem(**one) for one in json.loads(out)["problems"]]
    except (ValueError, LookupError, TypeError):
        last = (err.decode(errors="replace").strip().splitlines() or [f"exit code {child.returncode}"])[-1]
        raise ReloadRefused(f"the new program cannot start: {last}") from None
    if problems:
        raise ConfigError(problems)


def _problem(*, file: str | None, line: int | None, key: str | None, message: str, text: str) -> str:
    if file is None:
        return text
    shown = text.removeprefix(file if line is None else f"{file}:{line}").removesuffix(message).strip(": ")
    return FileProblem(file, line, key, message, shown_key=shown)


def answer_rehearsal(launch: Launch) -> None:
    """In the new program: print the problems with which a gateway could not be built."""
    put_json({"problems": [{**parts_of(one), "text": str(one)} for one in asyncio.run(_problems(launch))]})


async def _problems(launch: Launch) -> Sequence[str]:
    from gateway_core.catalog.memory import Memory  # noqa: PLC0415 - loads the gateway
    from gateway_core.config.server_tls import ServerCertificate  # noqa: PLC0415
    from gateway_core.gateway import Gateway  # noqa: PLC0415

    try:
        config = read(launch)
        gateway = Gateway(config, memory=Memory(config.proxy, None))
        if reason := unprotected(config.proxy, authenticates=gateway.authenticates):
            return [reason]
        if config.proxy.tls is not None:
            ServerCertificate(config.proxy.tls)
    except (ConfigError, PluginError) as error:
        return error.problems or [str(error)]
    return []


def read(launch: Launch, text: str | None = None) -> Config:
    """The configuration of the file, for a gateway that serves. Raises `ConfigError` with every problem.

    `text`: take this as the content of the file.
    """
    path = launch.path
    try:
        text = text_of(path, read_file(path)) if text is None else text
        config = loads(text, path, state=launch.folder, options=launch.overrides)
    except ConfigError as error:
        raise ConfigError(with_plugins(error, path, text)) from None
    if not config.proxy.enable:
        what = "is false; to stop the gateway: rad mcp proxy stop"
        raise ConfigError([FileProblem(str(path), None, "mcp.proxy.enable", what)])
    return config


def _serves(found: Instance) -> bool:
    """Whether a gateway listens for agents."""
    try:
        return bool(found.control_port and fetch(found, "status")["address"])
    except NotAnswering:
        return False


def restart(config: Path | None) -> None:
    """Restart the running gateway and wait until it serves again. Raises `NotRunning`, `NotAnswering`, `Failed`."""
    running = instance(config)
    path, _ = holder(config)
    try:
        send(running, "POST", "restart", timeout=RELOAD_TIMEOUT)
    except ConfigError as error:
        say_error(describe(error)[0] + "\nthe running gateway goes on as it is")
        raise Failed("") from None
    say(f"restarting pid {running.pid}: calls in flight get up to {running.drain_timeout:g} s to end")
    deadline = time.monotonic() + running.drain_timeout + START_TIME
    while time.monotonic() < deadline:
        time.sleep(POLL)
        found = read_instance(path)
        if found is None:
            raise Failed("the gateway ended when it should restart; its log says why")
        if isinstance(found, Instance) and found.started != running.started and _serves(found):
            say(f"restarted: pid {found.pid}, {found.address}")
            return
    raise Failed(f"the gateway does not serve again within {running.drain_timeout + START_TIME:g} s; see its log")
