"""Read and check the configuration file."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path as FilePath
from types import MappingProxyType
from typing import Any, Final, TypeVar

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from gateway_core import files
from gateway_core.config import rules
from gateway_core.config.expand import PLUGINS, expand
from gateway_core.config.fields import NAME_PATTERN
from gateway_core.config.models import Config, FileTable, ProxyConfig
from gateway_core.config.placeholders.conversion import convert
from gateway_core.config.placeholders.interpolate import Interpolated, fill
from gateway_core.config.placeholders.missing import Unfilled
from gateway_core.config.report import Problem, from_pydantic
from gateway_core.config.sections import RESERVED, PluginEntry, SecurityConfig
from gateway_core.config.server_tls import server_context_of
from gateway_core.config.source import Layout, Path, layout_of, line_of, show
from gateway_core.config.tls import TlsFileError, TlsFiles, context_of
from gateway_core.errors import ConfigError, FileProblem

RELATIVE_PATH: Final = FilePath(".radium", "mcp-proxy.toml")
"""Path of the configuration file in a project."""
FILE_LIMIT: Final = 1024 * 1024
"""Maximum size of a configuration file, bytes."""

Files = TypeVar("Files", bound=TlsFiles)

_PROXY: Final[Path] = ("mcp", "proxy")
_TOML_PLACE = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)$")
_TOML_HINTS: Final = {
    "Invalid value": 'text needs quotes, for example: name = "github"',
    "Cannot overwrite a value": "the same key stands twice in one table; remove one",
    "Cannot declare": "the same [table] stands twice; several upstreams or plugins need double brackets: "
    "[[mcp.proxy.upstreams]]",
    "Unescaped '\\'": "write a backslash twice, or use single quotes: 'C:\\dir'",
}


def load(
    path: FilePath,
    env: Mapping[str, str] = os.environ,
    *,
    state: FilePath | None = None,
    options: Mapping[str, Any] = MappingProxyType({}),
) -> Config:
    """Read and check `path`. Raises `ConfigError` with every problem of the file, each `file:line: path: what`.

    Refuses a file that others may write, because its commands run with the operator's rights. Also refuses a file that
    neither root nor the running user owns, even if root runs it. `RADIUM_TRUST_CONFIG=1` in `env` accepts both.
    `state`, `options`: see `loads`.
    """
    return loads(text_of(path, read_file(path, env)), path, env, state=state, options=options)


def loads(
    text: str,
    path: FilePath,
    env: Mapping[str, str] = os.environ,
    *,
    state: FilePath | None = None,
    options: Mapping[str, Any] = MappingProxyType({}),
) -> Config:
    """Check `text` as the content of `path`. Raises `ConfigError`.

    Relative paths start at the folder of `path`, the log's at `state`, if given. `options`: values from
    the command line for keys of `[mcp.proxy]`; they replace those of the file.
    """
    raw, layout = parse(text, path)
    lines = layout.lines
    folder = path.absolute().parent
    filled = fill(_with_options(raw, options), env, folder)
    proxy, problems = _validate(filled, lines)
    if problems or proxy is None:
        raise ConfigError(_formatted(problems, path, raw, lines, options))
    proxy = _with_absolute_paths(proxy, folder, state or folder)
    if problems := list(_tls_files(proxy)):
        raise ConfigError(_formatted(problems, path, raw, lines, options))
    enabled = tuple(upstream for upstream in proxy.upstreams if upstream.enabled)
    disabled = tuple(upstream for upstream in proxy.upstreams if not upstream.enabled)
    proxy = expand(proxy.model_copy(update={"upstreams": enabled}), lines)
    return Config(path.absolute(), proxy, disabled)


def parse(text: str, path: FilePath) -> tuple[dict[str, Any], Layout]:
    """Decode `text` as the content of `path`, and find what stands where. Raises `ConfigError` if it is no TOML."""
    try:
        return tomllib.loads(text), layout_of(text)
    except RecursionError:
        raise ConfigError([_of_file(path, "is nested too deeply")]) from None
    except ValueError as error:
        raise ConfigError([_syntax(path, text, str(error))]) from None


def plugin_entries(
    path: FilePath, env: Mapping[str, str] = os.environ, *, text: str | None = None
) -> tuple[tuple[PluginEntry, bool], ...]:
    """The plugins of a file that `load` may refuse, each with whether all its values are known.

    An entry that is wrong is replaced by one that is switched off, so that the others keep their index. Empty if the
    file cannot be trusted or read. `text`: take this as the content of the file.
    """
    known = _proxy_of(path, env, text)
    if known is None:
        return ()
    proxy, filled, lines = known
    found: dict[str, Any] = {}
    if isinstance(listed := proxy.get("plugins"), list):
        found["plugins"] = tuple(_entry_of(entry, index, lines, filled) for index, entry in enumerate(listed))
    with suppress(ValidationError):
        found["security"] = SecurityConfig.model_validate(proxy.get("security", {}))
    lacking = {where[3] for where, _ in filled.problems if where[:3] == PLUGINS and len(where) > 3}
    expanded = expand(ProxyConfig().model_copy(update=found), lines).plugins
    return tuple((entry, index not in lacking) for index, entry in enumerate(expanded))


def profile_names(path: FilePath, env: Mapping[str, str] = os.environ) -> tuple[str, ...]:
    """The names of the profiles of a file that `load` may refuse. Empty if it cannot be trusted or read."""
    known = _proxy_of(path, env)
    listed = None if known is None else known[0].get("profiles")
    names = [one.get("name") for one in listed if isinstance(one, dict)] if isinstance(listed, list) else []
    return tuple(name for name in names if isinstance(name, str))


def _proxy_of(
    path: FilePath, env: Mapping[str, str], text: str | None = None
) -> tuple[dict[str, Any], Interpolated, dict[Path, int]] | None:
    """The table `[mcp.proxy]` of a file, with placeholders filled in; None if the file cannot be trusted or read."""
    try:
        raw, layout = parse(text_of(path, read_file(path, env)) if text is None else text, path)
    except ConfigError:
        return None
    lines = layout.lines
    filled = fill(raw, env, path.absolute().parent)
    mcp = filled.data.get("mcp")
    proxy = mcp.get("proxy") if isinstance(mcp, dict) else None
    return (proxy, filled, lines) if isinstance(proxy, dict) else None


def _entry_of(entry: Any, index: int, lines: dict[Path, int], filled: Interpolated) -> PluginEntry:
    try:
        return PluginEntry.model_validate(_plugin_entry(entry, index, lines, filled))
    except ValidationError:
        return PluginEntry(name="invalid", enabled=False)


def _with_options(data: dict[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
    mcp = data.get("mcp")
    proxy = mcp.get("proxy") if isinstance(mcp, dict) else None
    if not options or not isinstance(mcp, dict) or not isinstance(proxy, dict):
        return data
    return {**data, "mcp": {**mcp, "proxy": {**proxy, **options}}}


def read_file(path: FilePath, env: Mapping[str, str] = os.environ) -> bytes:
    """The content of the file. Raises `ConfigError` for a file that cannot be read, or that `load` does not trust."""
    try:
        with files.opened(path) as file:
            status = os.fstat(file.fileno())
            why = ", and its commands run with your rights"
            files.check(path, status, files.Rule.OWN, provided=True, env=env, why=why)
            content = file.read(FILE_LIMIT + 1)
    except files.Unusable as error:
        raise ConfigError([_of_file(path, str(error))]) from None
    except FileNotFoundError:
        raise ConfigError([_of_file(path, "no such file; `rad mcp proxy init` writes one")]) from None
    except OSError as error:
        raise ConfigError([_of_file(path, f"cannot be read: {error.strerror}")]) from None
    if len(content) > FILE_LIMIT:
        raise ConfigError([_of_file(path, f"is larger than {FILE_LIMIT // 1024} KiB")])
    return content


def text_of(path: FilePath, content: bytes) -> str:
    """The content of the file as text. Raises `ConfigError` if it is not UTF-8."""
    try:
        return content.decode("utf-8-sig")  # some editors write a byte order mark
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigError([_of_file(path, "is not UTF-8 text; save the file as UTF-8", line)]) from None


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


def _validate(filled: Interpolated, lines: dict[Path, int]) -> tuple[ProxyConfig | None, list[Problem]]:
    """The model and no problems, or all problems."""
    data = filled.data
    mcp = data.get("mcp", {})
    proxy = mcp.get("proxy") if isinstance(mcp, dict) else None
    if proxy is None:
        problems = [Problem(where, what) for where, what in filled.problems]
        problems.append(Problem(_PROXY, "is missing; write [mcp.proxy] and below it enable = true"))
        known = {"mcp": {"proxy": {}, **mcp}} if isinstance(mcp, dict) else {}
        errors = _model({**data, **known})[1]
        return None, [*problems, *(from_pydantic(error, filled.sources) for error in errors)]
    plugins = proxy.get("plugins") if isinstance(proxy, dict) else None
    if isinstance(plugins, list):
        entries = [_plugin_entry(entry, index, lines, filled) for index, entry in enumerate(plugins)]
        proxy = {**proxy, "plugins": entries}
        data = {**data, "mcp": {**mcp, "proxy": proxy}}
    problems = convert(data, _model(data)[1], filled.whole, filled.sources) if filled.whole else []
    unfilled = Unfilled.of(filled, proxy, lines)
    problems += unfilled.problems
    known_paths = {problem.path for problem in problems} | unfilled.paths
    model, errors = _model(unfilled.without(data))
    found = [from_pydantic(error, filled.sources) for error in errors]
    if isinstance(proxy, dict):
        raw = proxy if plugins is None else {**proxy, "plugins": plugins}
        found += rules.check(raw, lines, filled.sources)
    problems += [problem for problem in found if problem.path not in known_paths]
    return (None if problems or model is None else unfilled.marked(model)), problems


def _model(data: dict[str, Any]) -> tuple[ProxyConfig | None, list[ErrorDetails]]:
    try:
        return FileTable.model_validate(data).mcp.proxy, []
    except ValidationError as error:
        return None, error.errors(include_url=False)


def _plugin_entry(entry: Any, index: int, lines: dict[Path, int], filled: Interpolated) -> Any:
    """Split the keys of an entry into reserved ones and plugin settings, and add lines and sources of the settings."""
    if not isinstance(entry, dict):
        return entry
    path = (*PLUGINS, index)
    inside = {where[len(path) :]: line for where, line in lines.items() if where[: len(path)] == path}
    sources = {where[len(path) :]: source for where, source in filled.sources.items() if where[: len(path)] == path}
    settings = {key: value for key, value in entry.items() if key not in RESERVED}
    return {
        **{key: value for key, value in entry.items() if key in RESERVED},
        "settings": settings,
        "line": line_of(lines, path),
        "key_lines": {show(where): line for where, line in inside.items() if where and where[0] in settings},
        "sources": {show(where): source for where, source in sources.items() if where[0] in settings},
    }


def _formatted(
    problems: list[Problem], path: FilePath, raw: dict[str, Any], lines: dict[Path, int], options: Mapping[str, Any]
) -> list[str]:
    """Messages in file order: `file:line: dotted.path: what`, with the name of the entry of a list if it is known.

    Each is a `FileProblem`, but the problem of a value from the command line is text that begins with its option.
    """
    placed = sorted(((line_of(lines, problem.path) or 1, problem) for problem in problems), key=lambda item: item[0])
    texts = [
        f"--{problem.path[2]}: {problem.message}"
        if problem.path[:2] == _PROXY and problem.path[2:] and problem.path[2] in options
        else FileProblem(
            str(path), line, show(problem.path), _of(problem.path, raw) + problem.message, unset=problem.unset
        )
        for line, problem in placed
    ]
    return list(dict.fromkeys(texts))


def _of(path: Path, raw: dict[str, Any]) -> str:
    """`upstream "github": ` if `path` is inside an entry with a valid literal name; otherwise empty."""
    if len(path) < 5 or path[2] not in ("upstreams", "profiles", "plugins"):
        return ""
    value: Any = raw
    for part in (*path[:4], "name"):
        try:
            value = value[part]
        except (KeyError, IndexError, TypeError):
            return ""
    known = isinstance(value, str) and NAME_PATTERN.fullmatch(value)
    return f'{str(path[2])[:-1]} "{value}": ' if known else ""


def _with_absolute_paths(proxy: ProxyConfig, folder: FilePath, state: FilePath) -> ProxyConfig:
    def absolute(name: str | None, start: FilePath = folder) -> str | None:
        # A "~" that cannot be expanded stays; using the path then fails.
        return None if name is None else str(start / os.path.expanduser(name))

    def tls(found: Files | None) -> Files | None:
        return None if found is None else found.model_copy(update={key: absolute(at) for key, at in found.files})

    upstreams = tuple(
        item.model_copy(update={"cwd": absolute(item.cwd), "tls": tls(item.tls)}) for item in proxy.upstreams
    )
    log = proxy.log.model_copy(update={"file": absolute(proxy.log.file, state)})
    named = absolute(proxy.state_dir)
    own = tls(proxy.tls)
    return proxy.model_copy(update={"upstreams": upstreams, "log": log, "state_dir": named, "tls": own})


def _tls_files(proxy: ProxyConfig) -> Iterator[Problem]:
    """Yield the problems of the files that the tables `tls` name, of the gateway and of the upstreams that are used."""
    if proxy.tls is not None:
        try:
            server_context_of(proxy.tls)
        except TlsFileError as problem:
            yield Problem((*_PROXY, "tls", problem.key), str(problem))
    for index, upstream in enumerate(proxy.upstreams):
        if upstream.tls is not None and upstream.enabled and not upstream.misconfigured:
            try:
                context_of(upstream.tls)
            except TlsFileError as problem:
                yield Problem((*_PROXY, "upstreams", index, "tls", problem.key), str(problem))
