"""Finds the gateway that a command addresses: the holder of a pid file of its configuration file."""

from __future__ import annotations

from pathlib import Path

from gateway_core.cli.hints import command
from gateway_core.cli.instance import (
    Holder,
    Instance,
    Locked,
    NotRunning,
    OtherVersion,
    other_file,
    pid_files,
    read_instance,
)
from gateway_core.cli.locate import UsageError, locate
from gateway_core.cli.report import Failed
from gateway_core.errors import GatewayError


class NotAnswering(GatewayError):
    """The gateway runs but does not answer as expected, or is another version."""


def holder(config: Path | None) -> tuple[Path, Holder]:
    """The pid file and the process that holds it. Raises `NotRunning`, `UsageError`, or `Failed` while one starts."""
    try:
        path = locate(config)
    except UsageError as error:
        if config is not None:
            raise
        raise NotRunning(f"not running: {error}") from None
    found = _holder(path)
    if found is None:
        raise NotRunning(f"not running (configuration {path})\n  to start it: {command('start')}")
    return found


def instance(config: Path | None) -> Instance:
    """The gateway to query. Raises `NotRunning`, `UsageError`, `Failed` while it starts, `NotAnswering`."""
    return _ready(holder(config)[1])


def instance_of(path: Path) -> Instance | None:
    """The gateway of the configuration file `path`; None if none runs. Raises `Failed`, `NotAnswering`."""
    found = _holder(path)
    return None if found is None else _ready(found[1])


def pid_file_in_use(path: Path) -> Path | None:
    """The pid file of the gateway that runs for the configuration file `path`; None if none runs. Raises `Failed`."""
    found = _holder(path)
    return None if found is None else found[0]


def _holder(path: Path) -> tuple[Path, Holder] | None:
    """The locked pid file of the configuration file `path`, and its holder."""
    for place in pid_files(path):
        found = read_instance(place)
        if isinstance(found, Locked):
            raise Failed(str(found))
        if found is not None and (file := other_file(path, found)):
            raise Failed(f"the gateway of {file} (pid {found.pid}) has the same state folder: {place.parent}")
        if found is not None:
            return place, found
    return None


def _ready(found: Holder) -> Instance:
    if isinstance(found, OtherVersion):
        raise NotAnswering(
            f"running (pid {found.pid}), but as another version of the gateway, which this command cannot ask\n"
            f"  to stop it:            {command('stop')}\n"
            f"  to start this version: {command('start')}, after that"
        )
    if not found.control_port:
        raise Failed(f"pid {found.pid} is starting and does not listen yet: try again in a moment")
    return found
