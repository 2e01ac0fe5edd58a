"""What a command of a plugin works with: the configuration file, the plugin's settings, and output."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import typer

from gateway_core.api import PluginConfig, Tool
from gateway_core.cli import hints
from gateway_core.cli.locate import locate
from gateway_core.cli.options import Command, Group
from gateway_core.cli.rendering.table import show_table
from gateway_core.cli.report import Failed, put, put_json, say
from gateway_core.config import DEFAULT_PLUGINS, PluginEntry, load, plugin_entries, profile_names
from gateway_core.hooks.settings import settings_of
from gateway_core.log.escaping import escape

SettingsT = TypeVar("SettingsT", bound=PluginConfig)
FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])


class CommandError(Failed):
    """The command of a plugin failed: its text is printed, and the exit code is 1.

    For wrong usage, with exit code 2, raise `typer.BadParameter`.
    """


class CommandGroup(typer.Typer):
    """A typer application for the commands of a plugin."""

    def __init__(self, help: str) -> None:
        """`help`: what `rad mcp proxy --help` says about the group."""
        super().__init__(cls=Group, help=help, no_args_is_help=True, add_completion=False)

    def command(self, name: str | None = None, **options: Any) -> Callable[[FunctionT], FunctionT]:
        """Decorate a function that becomes a command. `options`: as for `typer.Typer.command`."""
        return super().command(name, **{"cls": Command, **options})


@dataclass(frozen=True, slots=True)
class CommandContext(Generic[SettingsT]):
    """The configuration file that a command of a plugin is about, and the plugin's settings in it."""

    file: Path
    """The configuration file, absolute."""
    settings: SettingsT
    """The plugin's settings in the file; the defaults if it is not listed there."""
    to_enable: str
    """What to change in the file to enable the plugin; empty if it is enabled."""

    @classmethod
    def of(cls, plugin: str, settings: type[SettingsT], config: Path | None) -> CommandContext[SettingsT]:
        """Find the configuration file as all commands do, and check the plugin's settings.

        Mistakes elsewhere in the file, and variables that are not set, do not matter. `config`: the value of the
        option `--config`. Raises `GatewayError` for a file that is missing or cannot be read, and for wrong settings.
        """
        path = locate(config)
        entries = plugin_entries(path)
        if not entries:
            load(path)  # its error says why the file cannot be read
        named = [(index, entry, known) for index, (entry, known) in enumerate(entries) if entry.name == plugin]
        named.sort(key=lambda found: not found[1].enabled)
        if not named:
            checked = settings_of(settings, PluginEntry(name=plugin), len(entries), str(path))
            return cls(path, checked, _lines_to_add(plugin, path, [entry for entry, _ in entries]))
        index, entry, known = named[0]
        if not known:
            load(path)  # its error says which variable is not set
        advice = "" if entry.enabled else f"{path}:{entry.line}: {plugin} is listed with enabled = false; remove that"
        return cls(path, settings_of(settings, entry, index, str(path)), advice)

    @property
    def folder(self) -> Path:
        """The folder of the configuration file."""
        return self.file.parent

    @property
    def profiles(self) -> tuple[str, ...]:
        """The names of the profiles in the file."""
        return profile_names(self.file)

    @property
    def enabled(self) -> bool:
        """Whether a gateway with this file uses the plugin."""
        return not self.to_enable

    def tools(self, name: str | None = None, *, profile: str = "") -> Sequence[Tool]:
        """The published tools, or the tool `name` if there is one: its published name or `upstream:tool`.

        From the running gateway of the configuration file, or by connecting to its upstreams. `Tool.upstreams` are
        those that can get a call of that name. `profile`: only the tools that its agents see; `name` is then the name
        that they use. Raises `GatewayError`.
        """
        from gateway_core.cli.tools.listing import known_tools, tools_in  # noqa: PLC0415 - most commands do not need it

        answer, tool = known_tools(self.file, name, profile)
        if name is None:
            return tools_in(answer)
        if tool is None or tool["definition"] is None:
            return []
        return [Tool(tool["published_name"], tool["original_name"], tool["definition"], tuple(tool["upstreams"]))]

    def command(self, *words: str) -> str:
        """`rad mcp proxy WORDS`, ready to paste, with the same `--config`."""
        return shlex.join(["rad", "mcp", "proxy", *words, *hints.arguments()])

    def put(self, text: str = "") -> None:
        """Print a line of the result on stdout. Control characters are escaped."""
        put(escape(text))

    def put_table(self, columns: Sequence[str], rows: Iterable[Sequence[str]], whole: Collection[str] = ()) -> None:
        """Print a table on stdout that fits the terminal. `whole`: columns that are not cut."""
        show_table(columns, rows, whole=whole)

    def put_json(self, value: Any) -> None:
        """Print the result as JSON on stdout, for `--json`."""
        put_json(value)

    def say(self, text: str) -> None:
        """Print remarks on stderr, line by line. Control characters are escaped."""
        for line in text.split("\n"):
            say(escape(line))


def _lines_to_add(plugin: str, path: Path, entries: Sequence[PluginEntry]) -> str:
    if any(entry.line is not None for entry in entries):
        return f"{plugin} is not enabled; add these lines to {path}:\n\n{_table(plugin)}"
    tables = "\n\n".join(_table(name) for name in (plugin, *DEFAULT_PLUGINS))
    reason = "an empty list of plugins" if not entries else "no list of plugins, so the default set runs"
    return (
        f"{plugin} is not enabled; {path} has {reason}.\n"
        f"A list replaces the default set, so add all of these lines:\n\n{tables}"
    )


def _table(name: str) -> str:
    return f'[[mcp.proxy.plugins]]\nname = "{name}"'
