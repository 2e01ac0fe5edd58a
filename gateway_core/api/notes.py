"""Notes on the settings of a plugin: what is probably a mistake, for `rad mcp proxy check`."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from gateway_core.api.definition import Tool
from gateway_core.api.globs import Globs
from gateway_core.api.identity import OPERATOR


@dataclass(frozen=True, slots=True)
class Note:
    """One note: a sentence about a setting. The gateway adds file and line."""

    message: str
    setting: str = ""
    """The path of the setting, such as `rules[0].upstreams[1]`; empty for the plugin's table."""


@dataclass(frozen=True, slots=True)
class Known:
    """What is known about the rest of the configuration, for a plugin's optional method `notes`."""

    upstreams: frozenset[str]
    """The names of all upstreams in the file, also of disabled ones."""
    tools: Sequence[Tool] | None = None
    """The published tools; None unless the command has connected to all upstreams."""
    groups: frozenset[str] | None = None
    """The groups in which agents may be; None if an authenticating plugin does not know them before a request."""
    profiles: frozenset[str] | None = None
    """The names of the profiles of the file; None if it has none, so that only authenticating plugins name them."""

    def about_upstreams(self, globs: Iterable[str], setting: str) -> Iterator[Note]:
        """Notes on globs that match no upstream of the file. `setting`: the path of the list that has them."""
        for number, glob in enumerate(globs):
            if glob.strip("*") and not any(map(Globs([glob]).matches, self.upstreams)):
                yield Note(
                    f'"{glob}" matches no upstream of this file{_hint(glob, self.upstreams)}', _at(setting, number)
                )

    def about_groups(self, groups: Iterable[str], setting: str) -> Iterator[Note]:
        """Notes on groups in which no agent is; none if the groups are not known.

        The id of the operator counts as a group. `setting`: the path of the list.
        """
        for number, group in enumerate(groups):
            if self.groups is not None and group not in {*self.groups, OPERATOR.id}:
                hint = _hint(group, {*self.groups, OPERATOR.id})
                yield Note(f'no agent is in the group "{group}"{hint}', _at(setting, number))

    def about_profiles(self, profiles: Iterable[str], setting: str) -> Iterator[Note]:
        """Notes on names of profiles that the file does not have. `setting`: the path of the list."""
        for number, profile in enumerate(profiles):
            if self.profiles is not None and profile not in self.profiles:
                hint = _hint(profile, self.profiles)
                yield Note(f'no profile of this file has the name "{profile}"{hint}', _at(setting, number))

    def about_calls(self, globs: Sequence[str], setting: str) -> Iterator[Note]:
        """Notes on globs that match no call of a tool, by its name or as `upstream:tool`.

        `setting`: the path of the list that has them.
        """
        upstreams = [glob.partition(":")[0] if ":" in glob else "*" for glob in globs]
        yield from self.about_upstreams(upstreams, setting)
        yield from self.about_tools(globs, setting, _names)

    def about_tools(
        self, globs: Iterable[str], setting: str, names: Callable[[Tool], Iterable[str]] = lambda tool: (tool.name,)
    ) -> Iterator[Note]:
        """Notes on globs that match no published tool; none if the tools are not known.

        `setting`: the path of the list that has them. `names`: the names of a tool that the setting compares.
        """
        if self.tools is None:
            return
        found = [name for tool in self.tools for name in names(tool)]
        for number, glob in enumerate(globs):
            if glob.strip("*") and not any(map(Globs([glob]).matches, found)):
                yield Note(f'"{glob}" matches no published tool{_hint(glob, found)}', _at(setting, number))


def _names(tool: Tool) -> tuple[str, ...]:
    return tool.name, *(f"{upstream}:{tool.original_name}" for upstream in tool.upstreams)


def _at(setting: str, number: int) -> str:
    return f"{setting}[{number}]"


def _hint(glob: str, names: Iterable[str]) -> str:
    close = difflib.get_close_matches(glob, list(names), n=1)
    return f'; did you mean "{close[0]}"?' if close else ""
