"""What only a person with access to the file may write into it, while `control.allow_commands` is false.

The holder of the change token decides which servers agents reach and by which rules. It must not get more than that
from the token: code that runs as the gateway's user, files that the gateway reads or writes, variables of its
environment, or a secret of the file. So what gives these must stand in the file already:

- `command`, `args`, `env` and `cwd` of an upstream, all four together;
- a string with `${…}`, at the same key;
- a file or folder, at the same key;
- the entry of a plugin that is not released with the gateway, but for `enabled` and `on_error`: the core cannot know
  what its settings do;
- where an upstream is and how it is reached (`url`, `proxy`, `tls`, `auth`), while its table has a secret of the file;
- the URLs in the entry of any plugin, while that entry has a secret of the file;
- the tool that an override sends a secret of the file to, and the place of the upstream that may serve it;
- an upstream that gets credentials of agents (`header:NAME` in `forward`, `token_exchange`) or tokens of logins
  (`authorization_code`), and its place.

Rules apply to the texts, before any placeholder is filled in: a value that must not be read is not read to judge it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import PurePath
from typing import Any, Final, get_args

from gateway_core.config.forwarding.sources import ForwardSource
from gateway_core.config.placeholders.interpolate import has_placeholder
from gateway_core.config.report import field_of, section_in
from gateway_core.config.source import Path
from gateway_core.errors import FileProblem
from gateway_core.generations.editing.concealed import FileText
from gateway_core.hooks.loader import is_bundled, settings_model
from gateway_core.hooks.places import place_of

ALLOW: Final = "control.allow_commands"
"""The key of `[mcp.proxy]` that lifts these rules. The control plane never changes it."""
_PROXY: Final = ("mcp", "proxy")
_UPSTREAMS: Final = (*_PROXY, "upstreams")
_PLUGINS: Final = (*_PROXY, "plugins")
_PROFILES: Final = (*_PROXY, "profiles")
_LAUNCH: Final = ("command", "args", "env", "cwd")
_DESTINATION: Final = ("transport", "url", "proxy", "tls", "auth")
_OWN_SECRETS: Final = frozenset({"client_secret", "private_key"})
_OF_PEOPLE: Final = frozenset({"authorization_code", "token_exchange"})
"""The grants whose tokens are those of people; logins are in their own file."""
_SWITCHES: Final = ("enabled", "on_error")
_ADVICE: Final = f"; write it into the file yourself and reload, or allow it there with {ALLOW} = true"
_AGAIN: Final = "; enter the secret again" + _ADVICE.replace("; write", ", or write", 1)


def forbidden(before: FileText, after: FileText, *, allowed: bool) -> list[FileProblem]:
    """What the control plane must not write into the file. `allowed`: what `control.allow_commands` says now."""
    path = (*_PROXY, "control", "allow_commands")
    if _at(before.raw, path) != _at(after.raw, path):
        return [after.problem(path, "is not changed through the control plane; write it into the file yourself")]
    if allowed and _at(before.raw, path) is True:
        return []
    return [
        *_launches(before, after),
        *_strings(before, after),
        *_plugins(before, after),
        *_destinations(before, after),
        *_addresses(before, after),
        *_arguments(before, after),
        *_credentials(before, after),
    ]


def _launches(before: FileText, after: FileText) -> Iterator[FileProblem]:
    known = [_launch(entry) for entry in _entries(before, _UPSTREAMS)]
    for index, entry in enumerate(_entries(after, _UPSTREAMS)):
        if any(key in entry for key in _LAUNCH) and _launch(entry) not in known:
            what = "would run a program in a way that the file does not name"
            key = next(key for key in _LAUNCH if key in entry)
            yield after.problem((*_UPSTREAMS, index, key), what + _ADVICE)


def _launch(entry: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(entry.get(key) for key in _LAUNCH)


def _strings(before: FileText, after: FileText) -> Iterator[FileProblem]:
    """Placeholders and names of files that the file does not have at the same key."""
    for place, path in after.strings.items():
        value = after.value(path)
        what = ""
        if path[:3] == _UPSTREAMS and len(path) > 4 and path[4] in _LAUNCH:
            continue  # judged as a whole
        if has_placeholder(value):
            what = "names a variable or a file that the file does not name there"
        elif _is_file(after, path):
            what = "names a file or folder that the file does not name there"
        mine = before.strings.get(place)
        if what and (mine is None or before.value(mine) != value):
            yield after.problem(path, what + _ADVICE)


def _is_file(text: FileText, path: Path) -> bool:
    """Whether a string names a file, by the models of the gateway and of its plugins."""
    if path[:3] != _PLUGINS:
        field = field_of(path[:-1])
        table = None if field is None else section_in(field.annotation)
        return table is not None and path[-1] in table.file_names
    name = _at(text.raw, (*path[:4], "name"))
    if len(path) < 5 or not isinstance(name, str) or not is_bundled(name):
        return False  # of another plugin: its whole entry is judged
    return _names_path(place_of(settings_model(name), path[4:], is_unknown=False).annotation)


def _names_path(annotation: Any) -> bool:
    inside = get_args(annotation)
    if not inside:
        return isinstance(annotation, type) and issubclass(annotation, PurePath)
    return any(_names_path(one) for one in inside)


def _plugins(before: FileText, after: FileText) -> Iterator[FileProblem]:
    known = [_settings(entry) for entry in _entries(before, _PLUGINS)]
    for index, entry in enumerate(_entries(after, _PLUGINS)):
        name = entry.get("name")
        if isinstance(name, str) and not is_bundled(name) and _settings(entry) not in known:
            what = f'sets up the plugin "{name[:64]}", which is not released with the gateway'
            yield after.problem((*_PLUGINS, index), what + _ADVICE)


def _settings(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in entry.items() if key not in _SWITCHES}


def _destinations(before: FileText, after: FileText) -> Iterator[FileProblem]:
    known = _by_name(before, _UPSTREAMS)
    for index, entry in enumerate(_entries(after, _UPSTREAMS)):
        mine = known.get(_name(entry))
        if mine is None or _destination(mine) == _destination(entry):
            continue
        if _has_secret(before, entry):
            key = next(key for key in _DESTINATION if mine.get(key) != entry.get(key))
            what = "would send a secret of the file to another place, or in another way" + _AGAIN
            yield after.problem((*_UPSTREAMS, index, key), what)


def _addresses(before: FileText, after: FileText) -> Iterator[FileProblem]:
    """The URLs of plugins: nothing else says where a plugin sends its secrets."""
    known = _by_name(before, _PLUGINS)
    for index, entry in enumerate(_entries(after, _PLUGINS)):
        mine = known.get(_name(entry))
        if mine is not None and _has_secret(before, entry) and _urls(mine) != _urls(entry):
            what = "has another URL, to which the plugin could send a secret of the file" + _AGAIN
            yield after.problem((*_PLUGINS, index), what)


def _urls(value: Any) -> list[str]:
    return [text for text in _texts(value) if "://" in text]


def _arguments(before: FileText, after: FileText) -> Iterator[FileProblem]:
    """Secrets among the arguments that profiles set: they go to the same tool of an upstream at the same place."""
    known = {(profile, _name(override, "tool")) for _, profile, override in _secret_overrides(before, before)}
    tools: set[str] = set()
    for path, profile, override in _secret_overrides(before, after):
        tool = _name(override, "tool")
        tools.add(tool)
        if (profile, tool) not in known:
            yield after.problem((*path, "tool"), "would send a secret of the file to another tool" + _AGAIN)
    upstreams = _by_name(before, _UPSTREAMS)
    for index, entry in enumerate(_entries(after, _UPSTREAMS)):
        name = _name(entry)
        mine = upstreams.get(name)
        if mine is not None and _destination(mine) == _destination(entry) and _launch(mine) == _launch(entry):
            continue
        if any(":" not in tool or tool.startswith(f"{name}:") for tool in tools):
            what = "may get a secret of the file, which a profile sets as an argument" + _AGAIN
            yield after.problem((*_UPSTREAMS, index), what)


def _secret_overrides(before: FileText, text: FileText) -> Iterator[tuple[Path, str, dict[str, Any]]]:
    """The overrides in `text` whose arguments hold a secret of the file, each with its path and its profile."""
    for number, profile in enumerate(_entries(text, _PROFILES)):
        path = (*_PROFILES, number, "overrides")
        for index, override in enumerate(_entries(text, path)):
            if any(_has_secret(before, override.get(key)) for key in ("fixed", "defaults")):
                yield (*path, index), _name(profile), override


def _credentials(before: FileText, after: FileText) -> Iterator[FileProblem]:
    """What agents present, and the logins of people, are not the token holder's. No secret of the file stands there."""
    known = _by_name(before, _UPSTREAMS)
    for index, entry in enumerate(_entries(after, _UPSTREAMS)):
        found, mine = _presented(entry), known.get(_name(entry))
        if found and (mine is None or _destination(mine) != _destination(entry) or not found <= _presented(mine)):
            what = (
                "would send credentials of agents, or tokens of logins, to a place that the file does not name for them"
            )
            yield after.problem((*_UPSTREAMS, index), what + _ADVICE)


def _presented(entry: Mapping[str, Any]) -> set[str]:
    """The headers of agents that an upstream gets, and the grant by which it gets tokens of people."""
    forward, auth = entry.get("forward"), entry.get("auth")
    sources = {
        source.name
        for text in (_texts(forward) if isinstance(forward, dict) else ())
        if (source := ForwardSource.parse(text)) is not None and source.kind == "header"
    }
    grant = auth.get("grant") if isinstance(auth, dict) else None
    return sources | {grant} if isinstance(grant, str) and grant in _OF_PEOPLE else sources


def _has_secret(before: FileText, value: Any) -> bool:
    return any(has_placeholder(text) or before.holds_secret(text) for text in _texts(value))


def _destination(entry: Mapping[str, Any]) -> dict[str, Any]:
    found = {key: entry.get(key) for key in _DESTINATION}
    if isinstance(auth := found["auth"], dict):
        found["auth"] = {key: value for key, value in auth.items() if key not in _OWN_SECRETS}
    return found


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    for part in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _texts(part)


def _entries(text: FileText, path: Path) -> list[dict[str, Any]]:
    """The tables of a list, each at its index; an empty one in place of what is no table."""
    found = _at(text.raw, path)
    return [one if isinstance(one, dict) else {} for one in found] if isinstance(found, list) else []


def _by_name(text: FileText, path: Path) -> dict[str, dict[str, Any]]:
    """The tables of a list that have a name, by it."""
    return {name: entry for entry in _entries(text, path) if (name := _name(entry))}


def _name(entry: Mapping[str, Any], key: str = "name") -> str:
    """The name of a table in a list, at `key`; empty if it is missing or no text."""
    name = entry.get(key)
    return name if isinstance(name, str) else ""


def _at(raw: Any, path: Path) -> Any:
    """The value at a path; None if there is none."""
    for part in path:
        if isinstance(part, int):
            raw = raw[part] if isinstance(raw, list) and part < len(raw) else None
        else:
            raw = raw.get(part) if isinstance(raw, dict) else None
    return raw
