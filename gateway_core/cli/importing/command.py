"""`rad mcp proxy import`: prints the servers of a client's settings as TOML, or adds them to the configuration."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from gateway_core.cli.hints import command
from gateway_core.cli.importing.client_file import ClientFile, read
from gateway_core.cli.importing.convert import Conversion, convert
from gateway_core.cli.init import default_path, keep_out_of_git, write
from gateway_core.cli.locate import UsageError, locate
from gateway_core.cli.report import Failed, put, put_json, say
from gateway_core.config import default_file, loads
from gateway_core.errors import ConfigError, FileProblem, GatewayError
from gateway_core.log.escaping import escape
from gateway_core.log.wording import count

_STAND_INS: Final = ("x" * 40, "https://example.invalid/")
"""Values that stand in for the environment when the file is checked: one for texts, one for addresses."""
_UPSTREAM: Final = re.compile(r"mcp\.proxy\.upstreams\[(\d+)\]")

_IDENTITY: Final = ("transport", "command", "args", "url")
"""Keys that tell which server an upstream is."""


class AnySet(Mapping[str, str]):
    """An environment in which every variable has one value: the file is checked, not this environment."""

    def __init__(self, value: str = _STAND_INS[0]) -> None:
        self._value = value

    def __getitem__(self, name: str) -> str:
        return self._value

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0

    def __contains__(self, name: object) -> bool:
        return True


def import_servers(source: Path, config: Path | None, *, write_it: bool, as_json: bool) -> None:
    """Convert the servers of `source`. Raises `Failed` if one of them had to be left out."""
    file = read(source)
    if write_it:
        path, text = _target(config)
        before = loads(text, path, AnySet())
        address = (before.proxy.host, before.proxy.port)
        taken = [upstream.name for upstream in (*before.proxy.upstreams, *before.disabled)]
        found = convert(file, taken=taken, present=_present(file, text, address), address=address)
        if found.upstreams:
            _add(path, text, found, len(taken))
    else:
        path = None
        found = convert(file, address=_address(config))
    if as_json:
        put_json(
            {
                "config": None if path is None else str(path),
                "toml": found.toml() if found.upstreams else "",
                "upstreams": [upstream["name"] for upstream in found.upstreams],
                "left_out": found.left_out,
                "variables": found.variables.purposes,
                "notes": {name: comments[1:] for name, comments in found.comments.items() if comments[1:]},
            }
        )
    else:
        if path is None and found.upstreams:
            put(found.toml())
        _summarise(found, len(file.servers), path)
    if found.left_out:
        raise Failed(f"{len(found.left_out)} of {count(len(file.servers), 'server')} left out")


def _target(config: Path | None) -> tuple[Path, str]:
    """The configuration file to add to, and its text; without a file, the text that `init` writes."""
    try:
        path = locate(config)
    except UsageError:
        path = default_path(config)
        if path.exists():
            raise
    return path, path.read_text(encoding="utf-8-sig") if path.exists() else default_file()


def _address(config: Path | None) -> tuple[str, int]:
    """Host and port of the configuration; the defaults if it cannot be read."""
    try:
        path, text = _target(config)
        proxy = loads(text, path, AnySet()).proxy
    except (OSError, ValueError, GatewayError):
        proxy = loads(default_file(), Path(), AnySet()).proxy
    return proxy.host, proxy.port


def _present(file: ClientFile, text: str, address: tuple[str, int]) -> set[str]:
    """Names of the servers whose upstream is already in the configuration, with the same command or URL."""
    listed = tomllib.loads(text).get("mcp", {}).get("proxy", {}).get("upstreams", [])
    written = {upstream["name"]: upstream for upstream in listed}
    return {
        upstream["name"]
        for upstream in convert(file, address=address).upstreams
        if (there := written.get(upstream["name"])) is not None
        and all(there.get(key) == upstream.get(key) for key in _IDENTITY)
    }


def _add(path: Path, text: str, found: Conversion, present: int) -> None:
    """Append the upstreams to the file, after the `present` ones; leaves out invalid ones.

    Raises `Failed` and writes nothing if the file would not be valid without these either.
    """
    problems = _problems(path, text, found)
    wrong = {int(match[1]) - present: one for one in problems if (match := _UPSTREAM.match(one.key or ""))}
    names = [upstream["name"] for upstream in found.upstreams]
    for index, problem in wrong.items():
        if 0 <= index < len(names):
            found.leave_out(names[index], problem.message)
    if problems and (problems := _problems(path, text, found) if wrong else problems):
        listed = "\n".join(f"  {problem}" for problem in problems)
        raise Failed(f"the upstreams do not fit into this file, which stays as it is:\n{listed}")
    if found.upstreams:
        is_new = not path.exists()
        write(path, _joined(text, found))
        if is_new:
            keep_out_of_git(path.parent)


def _joined(text: str, found: Conversion) -> str:
    return f"{text.rstrip()}\n\n{found.toml()}" if found.upstreams else text


def _problems(path: Path, text: str, found: Conversion) -> list[FileProblem]:
    """The problems of the file with the upstreams in it, for any values of the variables."""
    by_value: list[list[FileProblem]] = []
    for value in _STAND_INS:
        try:
            loads(_joined(text, found), path, AnySet(value))
        except ConfigError as error:
            by_value.append([one for one in error.problems if isinstance(one, FileProblem)])
        else:
            return []
    first, second = by_value
    keys = {problem.key for problem in second}
    return [problem for problem in first if problem.key in keys]


def _summarise(found: Conversion, servers: int, path: Path | None) -> None:
    carried = count(len(found.upstreams), "upstream")
    if found.present and not found.upstreams and not found.left_out:
        say("nothing new: the configuration already has these servers")
        return
    if path is not None and found.upstreams:
        put(f"added {carried} to {escape(str(path))}")
    else:
        say(f"{count(servers, 'server')} found: {carried}")
    for name, comments in found.comments.items():
        for comment in comments[1:]:
            say(f"note: {escape(name)}: {escape(comment)}")
    if found.upstreams:
        say("note: look through args and urls for secrets that have no usual form")
    if found.present:
        say(f"already there: {escape(', '.join(found.present))}")
    for reason in found.left_out:
        say(f"left out: {escape(reason)}")
    if found.variables.purposes:
        say("set these variables where the gateway is started; the values stand in the client's settings:")
        width = max(map(len, found.variables.purposes))
        for name, purposes in found.variables.purposes.items():
            say(f"  {name:<{width}}  {escape(', '.join(purposes))}")
    if path is not None:
        say(f"next: {command('check --connect')}")
    elif found.upstreams:
        say("to add them to the configuration, repeat the command with --write")
