"""Read and check the configuration file."""

from __future__ import annotations

import os
import re
import stat
import tomllib
from collections.abc import Mapping
from pathlib import Path as FilePath
from typing import Any, Final

from pydantic import ValidationError

from gateway_core.config import rules
from gateway_core.config.expand import PLUGINS, expand
from gateway_core.config.fields import NAME_PATTERN
from gateway_core.config.interpolate import fill
from gateway_core.config.models import Config, FileTable, ProxyConfig
from gateway_core.config.report import Problem, from_pydantic
from gateway_core.config.source import Path, line_of, scan, show
from gateway_core.errors import ConfigError, FileProblem

RELATIVE_PATH: Final = FilePath(".radium", "mcp-proxy.toml")
"""Path of the configuration file in a project."""
FILE_LIMIT: Final = 1024 * 1024
"""Maximum size of a configuration file, bytes."""

_RESERVED = frozenset({"name", "enabled", "on_error"})
_TOML_PLACE = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)$")
_TOML_HINTS: Final = {
    "Invalid value": 'text needs quotes, for example: name = "github"',
    "Cannot overwrite a value": "the same key stands twice in one table; remove one",
    "Cannot declare": "the same [table] stands twice; several upstreams or plugins need double brackets: "
    "[[mcp.proxy.upstreams]]",
    "Unescaped '\\'": "write a backslash twice, or use single quotes: 'C:\\dir'",
}


def load(path: FilePath, env: Mapping[str, str] = os.environ) -> Config:
    """Read and check `path`. Raises `ConfigError` with every problem of the file, each `file:line: path: what`.

    Refuses a file that others may write, because its commands run with the operator's rights. Unless run by root, also
    refuses a file that neither root nor the running user owns.
    """
    return loads(_read(path), path, env)


def loads(text: str, path: FilePath, env: Mapping[str, str] = os.environ) -> Config:
    """Check `text` as the content of `path`; relative paths start at its folder. Raises `ConfigError`."""
    try:
        raw = tomllib.loads(text)
        lines = scan(text)
    except RecursionError:
        raise ConfigError([_of_file(path, "is nested too deeply")]) from None
    except ValueError as error:
        raise ConfigError([_syntax(path, text, str(error))]) from None

    filled = fill(raw, env, path.absolute().parent)
    problems = [Problem(where, what) for where, what in filled.problems]
    proxy, found = _validate(filled.data, lines, filled.touched)
    unfilled = {problem.path for problem in problems}
    problems += [problem for problem in found if problem.path not in unfilled]
    if problems or proxy is None:
        raise ConfigError(_formatted(problems, path, raw, lines))
    return Config(path.absolute(), _with_absolute_paths(expand(proxy, lines), path.absolute().parent))


def _read(path: FilePath) -> str:
    try:
        with path.open("rb") as file:
            _refuse_writable_by_others(path, os.fstat(file.fileno()))
            content = file.read(FILE_LIMIT + 1)
    except FileNotFoundError:
        raise ConfigError([_of_file(path, "no such file; `rad mcp proxy init` writes one")]) from None
    except OSError as error:
        raise ConfigError([_of_file(path, f"cannot be read: {error.strerror}")]) from None
    if len(content) > FILE_LIMIT:
        raise ConfigError([_of_file(path, f"is larger than {FILE_LIMIT // 1024} KiB")])
    try:
        return content.decode("utf-8-sig")  # some editors write a byte order mark
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigError([_of_file(path, "is not UTF-8 text; save the file as UTF-8", line)]) from None


def _refuse_writable_by_others(path: FilePath, status: os.stat_result) -> None:
    if os.name != "posix":
        return
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise ConfigError(
            [
                _of_file(
                    path,
                    f"others may write to this file, and its commands run with your rights; run: chmod go-w '{path}'",
                )
            ]
        )
    if os.geteuid() not in (0, status.st_uid) and status.st_uid != 0:
        raise ConfigError(
            [_of_file(path, "belongs to another user, and its commands would run with your rights; make your own copy")]
        )


def _of_file(path: FilePath, message: str, line: int | None = None) -> FileProblem:
    """A problem that belongs to no key."""
    return FileProblem(str(path), line, None, message)


def _syntax(path: FilePath, text: str, message: str) -> FileProblem:
    """The message of `tomllib`, which never quotes a value, after file and line."""
    place = _TOML_PLACE.search(message)
    what = message[: place.start()] if place else message
    if place and place.group(1) is None:
        last = text.rstrip().count("\n") + 1
        ending = "at the end of the file; is a bracket or a quote not closed?"
        return _of_file(path, f"is not valid TOML: {what} {ending}", last)
    line, column = (int(place.group(1)), f" at column {place.group(2)}") if place else (None, "")
    hint = next((f"; {hint}" for start, hint in _TOML_HINTS.items() if what.startswith(start)), "")
    return _of_file(path, f"is not valid TOML: {what}{column}{hint}", line)


def _validate(
    data: dict[str, Any], lines: dict[Path, int], touched: set[Path]
) -> tuple[ProxyConfig | None, list[Problem]]:
    mcp = data.get("mcp", {})
    proxy = mcp.get("proxy") if isinstance(mcp, dict) else None
    if proxy is None:
        missing = Problem(("mcp", "proxy"), "is missing; write [mcp.proxy] and below it enable = true")
        unknown = {"mcp": {"proxy": {}, **mcp}} if isinstance(mcp, dict) else {}
        return None, [missing, *_model_problems({**data, **unknown}, touched)[1]]
    if isinstance(proxy, dict) and isinstance(plugins := proxy.get("plugins"), list):
        proxy = {**proxy, "plugins": [_plugin_entry(entry, index, lines) for index, entry in enumerate(plugins)]}
        data = {**data, "mcp": {**mcp, "proxy": proxy}}
    model, problems = _model_problems(data, touched)
    if isinstance(raw := mcp["proxy"], dict):
        problems += rules.check(raw, lines)
    return model, problems


def _model_problems(data: dict[str, Any], touched: set[Path]) -> tuple[ProxyConfig | None, list[Problem]]:
    try:
        return FileTable.model_validate(data).mcp.proxy, []
    except ValidationError as error:
        return None, [from_pydantic(detail, touched) for detail in error.errors(include_url=False)]


def _plugin_entry(entry: Any, index: int, lines: dict[Path, int]) -> Any:
    """Split the keys of an entry into reserved ones and plugin settings, and add the lines of the settings."""
    if not isinstance(entry, dict):
        return entry
    path = (*PLUGINS, index)
    inside = {where[len(path) :]: line for where, line in lines.items() if where[: len(path)] == path}
    settings = {key: value for key, value in entry.items() if key not in _RESERVED}
    return {
        **{key: value for key, value in entry.items() if key in _RESERVED},
        "settings": settings,
        "line": line_of(lines, path),
        "key_lines": {show(where): line for where, line in inside.items() if where and where[0] in settings},
    }


def _formatted(
    problems: list[Problem], path: FilePath, raw: dict[str, Any], lines: dict[Path, int]
) -> list[FileProblem]:
    """Messages in file order: `file:line: dotted.path: what`, with the name of the upstream or plugin if known."""
    placed = sorted(((line_of(lines, problem.path) or 1, problem) for problem in problems), key=lambda item: item[0])
    texts = [
        FileProblem(str(path), line, show(problem.path), _of(problem.path, raw) + problem.message)
        for line, problem in placed
    ]
    return list(dict.fromkeys(texts))


def _of(path: Path, raw: dict[str, Any]) -> str:
    """`upstream "github": ` if `path` is inside an entry with a valid literal name; otherwise empty."""
    if len(path) < 5 or path[2] not in ("upstreams", "plugins"):
        return ""
    value: Any = raw
    for part in (*path[:4], "name"):
        try:
            value = value[part]
        except (KeyError, IndexError, TypeError):
            return ""
    known = isinstance(value, str) and NAME_PATTERN.fullmatch(value)
    return f'{str(path[2])[:-1]} "{value}": ' if known else ""


def _with_absolute_paths(proxy: ProxyConfig, folder: FilePath) -> ProxyConfig:
    def absolute(name: str | None) -> str | None:
        # A "~" that cannot be expanded stays; using the path then fails.
        return None if name is None else str(folder / os.path.expanduser(name))

    upstreams = tuple(item.model_copy(update={"cwd": absolute(item.cwd)}) for item in proxy.upstreams)
    log = proxy.log.model_copy(update={"file": absolute(proxy.log.file)})
    return proxy.model_copy(update={"upstreams": upstreams, "log": log})
