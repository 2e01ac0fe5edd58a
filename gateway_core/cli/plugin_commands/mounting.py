"""Adds the commands of installed plugins to `rad mcp proxy`, by their entry points.

An entry point of the group `gateway_core.commands` names a typer application; its own name is the name of the command.
An application whose only command has that name is that command itself.
The metadata of distributions is read only for the help, and for a name that is not a command of the core. Only the
named command is then imported, and for the help all of them. A plugin cannot replace a command of the core.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import typer

from gateway_core.cli.options import Command, Group
from gateway_core.errors import PluginError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

GROUP: Final = "gateway_core.commands"


class ProxyGroup(Group):
    """The group `rad mcp proxy`: the commands of the core, then those of plugins."""

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        found = super().get_command(ctx, cmd_name)
        if found is None:
            points = _entry_points()
            named = [point for point in points if point.name == cmd_name]
            self._mount(named or points)  # the others are proposed for a misspelt name
            found = super().get_command(ctx, cmd_name)
        return found

    def list_commands(self, ctx: Any) -> list[str]:
        self._mount(_entry_points())
        return super().list_commands(ctx)

    def _mount(self, points: Sequence[EntryPoint]) -> None:
        by_name: dict[str, list[EntryPoint]] = {}
        for point in points:
            by_name.setdefault(point.name, []).append(point)
        for name in sorted(by_name.keys() - self.commands.keys()):
            self.add_command(_command(name, by_name[name]), name)


def _entry_points() -> Sequence[EntryPoint]:
    from importlib.metadata import entry_points  # noqa: PLC0415 - commands of the core do not need it

    return tuple(entry_points(group=GROUP))


def _command(name: str, points: Sequence[EntryPoint]) -> Any:
    """The command of an entry point; a command that only reports the reason if it cannot be used."""
    if len(points) > 1:
        owners = " and ".join(_distribution(point) for point in points)
        return _unusable(name, f"is provided by {len(points)} distributions, {owners}; uninstall all but one of them")
    point = points[0]
    try:
        app = point.load()
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        source = f"{point.value} ({_distribution(point)})"
        return _unusable(name, f"cannot be imported from {source}: {type(error).__name__}; reinstall it")
    if not isinstance(app, typer.Typer) or not (app.registered_commands or app.registered_groups):
        return _unusable(name, f"{point.value} ({_distribution(point)}) is not a typer application with commands")
    alone = [command.name for command in app.registered_commands] == [name] and not app.registered_groups
    return typer.main.get_command(app) if alone else typer.main.get_group(app)


def _distribution(point: EntryPoint) -> str:
    return "an unknown distribution" if point.dist is None else f"{point.dist.name} {point.dist.version}"


def _unusable(name: str, reason: str) -> Command:
    def report() -> None:
        raise PluginError(f"the command {name} {reason}")

    return Command(
        name,
        callback=report,
        help=f"Cannot be used: {reason}.",
        add_help_option=False,
        context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
    )
