"""The commands of `rad mcp proxy`: those of the core, then those of installed plugins, by their entry points.

An entry point of the group `gateway_core.commands` names a typer application; its own name is the name of the command.
An application whose only command has that name is that command itself.
The metadata of distributions is read only for the help, and for a name that is not a command of the core. Only the
named command is then imported, and for the help all of them. A plugin cannot replace a command of the core.

Typer takes half a millisecond to make a command. So only the named one is made, and for the help all of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Final

import typer

from gateway_core.cli.options import Command, Group
from gateway_core.errors import PluginError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

GROUP: Final = "gateway_core.commands"


class ProxyGroup(Group):
    """The group `rad mcp proxy`: the commands of the core, then those of plugins."""

    core: ClassVar[Mapping[str, typer.Typer]] = {}
    """The applications of the commands of the core by name, in the order of the help."""

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name in self.core:
            self._make([cmd_name])
            return super().get_command(ctx, cmd_name)
        found = super().get_command(ctx, cmd_name)
        if found is None:
            points = _entry_points()
            named = [point for point in points if point.name == cmd_name]
            if not named:
                self._make(self.core)  # proposed for a misspelt name, as are those of plugins
            self._mount(named or points)
            found = super().get_command(ctx, cmd_name)
        return found

    def list_commands(self, ctx: Any) -> list[str]:
        self._make(self.core)
        self._mount(_entry_points())
        return super().list_commands(ctx)

    def _make(self, names: Iterable[str]) -> None:
        for name in names:
            if name not in self.commands:
                self.add_command(_made(name, self.core[name]), name)

    def _mount(self, points: Sequence[EntryPoint]) -> None:
        by_name: dict[str, list[EntryPoint]] = {}
        for point in points:
            by_name.setdefault(point.name, []).append(point)
        for name in sorted(by_name.keys() - self.commands.keys() - self.core.keys()):
            self.add_command(_command(name, by_name[name]), name)


def _entry_points() -> Sequence[EntryPoint]:
    from importlib.metadata import entry_points  # noqa: PLC0415 - commands of the core do not need it

    return tuple(entry_points(group=GROUP))


def _command(name: str, points: Sequence[EntryPoint]) -> Any:
    """The command of an entry point; a command that only reports the reason if it cannot be used."""
    if len(points) > 1:
        owners = " and ".join(sorted(_distribution(point) for point in points))
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
    return _made(name, app)


def _made(name: str, app: typer.Typer) -> Any:
    """The command, or the group, of an application."""
    if [command.name for command in app.registered_commands] == [name] and not app.registered_groups:
        return typer.main.get_command(app)
    parent = typer.Typer()  # which gives it its name in the help
    parent.add_typer(app, name=name)
    return typer.main.get_group(parent).commands[name]


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
