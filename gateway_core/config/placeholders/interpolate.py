"""`${NAME}`, `${NAME:-default}` and `${file:PATH}` in the strings of a configuration.

Applies to every string value of the file, including plugin settings. `$${` is a literal `${`. Values from a variable
or a file count as secret: error messages do not show the values of paths in `Interpolated.sources`.
"""

from __future__ import annotations

import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path as FilePath
from typing import Any, Final

from gateway_core.config.source import Path

FILE_LIMIT: Final = 64 * 1024
"""Maximum size of a file that `${file:…}` reads, bytes."""

_MARK = re.compile(r"\$\$\{|\$\{([^{}\n]*)\}|\$\{")
_NAME = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(?::-(.*))?")
_FORMS: Final = 'neither "${NAME}", "${NAME:-default}" nor "${file:PATH}"; write "$${" for a literal "${"'


@dataclass(slots=True)
class Interpolated:
    """A document with its placeholders filled in."""

    data: Any
    sources: dict[Path, str] = field(default_factory=dict)
    """Path of each string that had a placeholder -> where its value came from, in words. The value may be a secret."""
    whole: set[Path] = field(default_factory=set)
    """Paths of strings that consisted of one placeholder. Such a value may fill a key that is not text."""
    problems: list[tuple[Path, str]] = field(default_factory=list)
    """Path and message of each placeholder that could not be filled in."""
    malformed: set[Path] = field(default_factory=set)
    """Paths of problems that are mistakes in the file, and not missing variables or files."""


class _MissingError(Exception):
    """A variable or file that is not there."""


class _MalformedError(Exception):
    """A placeholder in an unknown form."""


def fill(data: Any, env: Mapping[str, str], folder: FilePath) -> Interpolated:
    """Fill in every string of `data`; relative paths of `${file:…}` start at `folder`.

    A string that cannot be filled in stays unchanged and is reported in `problems`.
    """
    found = Interpolated(None)
    return replace(found, data=_fill(data, (), env, folder, found))


def has_placeholder(text: str) -> bool:
    """Whether a text names a variable or a file, or tries to."""
    return any(mark.group() != "$${" for mark in _MARK.finditer(text))


def literal_parts(text: str) -> tuple[str, str]:
    """What stands in the file itself: `text` without its placeholders, and with the default of each in its place."""

    def default(mark: re.Match[str]) -> str:
        named = _NAME.fullmatch(mark.group(1) or "")
        return "${" if mark.group() == "$${" else (named.group(2) or "") if named is not None else ""

    return _MARK.sub(lambda mark: "${" if mark.group() == "$${" else "", text), _MARK.sub(default, text)


def _fill(value: Any, path: Path, env: Mapping[str, str], folder: FilePath, found: Interpolated) -> Any:
    if isinstance(value, dict):
        return {key: _fill(item, (*path, key), env, folder, found) for key, item in value.items()}
    if isinstance(value, list):
        return [_fill(item, (*path, index), env, folder, found) for index, item in enumerate(value)]
    if not isinstance(value, str) or "${" not in value:
        return value

    found_problem = False
    sources: dict[str, None] = {}

    def fill_in(match: re.Match[str]) -> str:
        nonlocal found_problem
        if match.group() == "$${":
            return "${"
        try:
            source, text = _lookup(match.group(1), env, folder)
        except (_MissingError, _MalformedError) as error:
            found_problem = True
            found.problems.append((path, str(error)))
            if isinstance(error, _MalformedError):
                found.malformed.add(path)
            return match.group()
        sources[source] = None
        return text

    result = _MARK.sub(fill_in, value)
    if sources or found_problem:
        found.sources[path] = " and ".join(sources)
    if found_problem:
        return value
    if (match := _MARK.fullmatch(value)) is not None and match.group(1) is not None:
        found.whole.add(path)
    return result


def _lookup(placeholder: str | None, env: Mapping[str, str], folder: FilePath) -> tuple[str, str]:
    """Where the text of a placeholder comes from, in words, and the text."""
    if placeholder is None:
        raise _MalformedError('has "${" without its "}"; write "$${" for a literal "${"')
    if placeholder.startswith("file:"):
        name = placeholder.removeprefix("file:")
        return f"the file {name}", _read(name, folder)
    match = _NAME.fullmatch(placeholder)
    if match is None:
        raise _MalformedError(f"has a placeholder that is {_FORMS}")
    name, default = match.groups()
    source = f"environment variable {name}"
    if default is not None:
        return source, env.get(name) or default  # as in a shell: an empty variable counts as not set
    if name not in env:
        raise _MissingError(
            f"environment variable {name} is not set; set it where the gateway is started, "
            f'for example: export {name}="…"'
        )
    return source, env[name]


def _read(name: str, folder: FilePath) -> str:
    """The text of a file, without one newline at its end. Raises `_MissingError`."""
    try:
        path = folder / FilePath(name).expanduser()
        if not name or not stat.S_ISREG(path.stat().st_mode):
            # Reading a pipe or device could block the start or never end.
            raise _MissingError(f"${{file:{name}}}: {path} is not a regular file")
        with path.open("rb") as file:
            content = file.read(FILE_LIMIT + 1)
    except (OSError, RuntimeError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise _MissingError(f"${{file:{name}}} cannot be read: {reason} (looked from {folder})") from None
    if len(content) > FILE_LIMIT:
        raise _MissingError(f"${{file:{name}}} is larger than {FILE_LIMIT // 1024} KiB")
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        raise _MissingError(f"${{file:{name}}} is not UTF-8 text") from None
    return text[:-2] if text.endswith("\r\n") else text.removesuffix("\n")
