"""A scanner that finds every key of a TOML file: its line for error messages, its value for changes in place.

`tomllib` does not report positions. The scanner runs on texts that `tomllib` accepted, so it follows TOML's structure
and validates nothing. A **path** is a tuple of keys and, inside arrays, indexes:
`("mcp", "proxy", "upstreams", 1, "url")`, shown as `mcp.proxy.upstreams[1].url`.
"""

from __future__ import annotations

import json
import re
import tomllib
from dataclasses import dataclass, field
from typing import TypeAlias

Path = tuple[str | int, ...]

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_BLANK = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_COMMENT = re.compile(r"#[^\r\n]*")
_SPACE = re.compile(r"[ \t]*")
_BARE_VALUE = re.compile(r"[^,\]}#\n]*")
_BASIC = re.compile(r'"(?:[^"\\]|\\.)*"')
_LITERAL = re.compile(r"'[^']*'")
# The closing quotes of a multi-line string may be preceded by one or two quotes that belong to it.
_LONG_BASIC = re.compile(r'"""(?:[^\\]|\\.)*?"{3,5}(?!")', re.DOTALL)
_LONG_LITERAL = re.compile(r"'''.*?'{3,5}(?!')", re.DOTALL)

Span: TypeAlias = tuple[int, int]
"""Where something begins and ends in a text."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the parts of a TOML text are."""

    lines: dict[Path, int] = field(default_factory=dict)
    """See `scan`."""
    strings: dict[Path, Span] = field(default_factory=dict)
    """The strings that are values, with their quotes."""
    headers: dict[Path, int] = field(default_factory=dict)
    """Where the headers of tables begin, in the order of the text; `[[a]]` is the header of an element of `a`."""
    comments: list[Span] = field(default_factory=list)
    """The comments, each from its `#` to the end of its line."""


def show(path: Path) -> str:
    """A path in dotted form; keys that are not bare are quoted, and cut to 80 characters."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            key = part if _BARE_KEY.fullmatch(part) else json.dumps(part[:80])
            text += f".{key}" if text else key
    return text


def line_of(lines: dict[Path, int], path: Path) -> int | None:
    """The line of `path`, or of the nearest enclosing table that has one."""
    while path:
        if path in lines:
            return lines[path]
        path = path[:-1]
    return None


def scan(text: str) -> dict[Path, int]:
    """Map every path of a valid TOML text to the 1-based line of its key.

    A table has the line of its header. An array of tables has the line of its first header, and an array element the
    line of its first character. A table without a header has the line of the first dotted key or deeper header that
    makes it.
    """
    return layout_of(text).lines


def layout_of(text: str) -> Layout:
    """Find the parts of a valid TOML text."""
    return _Scanner(text).run()


class _Scanner:
    def __init__(self, text: str) -> None:
        self.text = text
        self.position = 0
        self.layout = Layout()
        self.lines = self.layout.lines
        self._counted = 0  # everything before this position is counted in _line
        self._line = 1

    def run(self) -> Layout:
        table: Path = ()
        lengths: dict[Path, int] = {}  # arrays of tables -> elements so far
        self.blank()
        while self.position < len(self.text):
            line = self.line()
            if self.text.startswith("[", self.position):
                start, is_array = self.position, self.text.startswith("[[", self.position)
                self.position += 2 if is_array else 1
                table = self.header(self.keys(), is_array, lengths, line)
                self.layout.headers[table] = start
                self.position += 2 if is_array else 1
            else:
                self.pair(table)
            self.blank()
        return self.layout

    def header(self, keys: list[str], is_array: bool, lengths: dict[Path, int], line: int) -> Path:
        """The path of a `[table]` or `[[table]]` header. `[a.b]` below `[[a]]` means the last element of `a`."""
        path: Path = ()
        for depth, key in enumerate(keys):
            path += (key,)
            last = depth == len(keys) - 1
            if is_array and last:
                lengths[path] = lengths.get(path, 0) + 1
            if not last or is_array:
                self.lines.setdefault(path, line)
            else:
                self.lines[path] = line
            if path in lengths:
                path += (lengths[path] - 1,)
                self.lines.setdefault(path, line)
        return path

    def pair(self, table: Path) -> None:
        """`key = value`, where the key may be dotted."""
        line = self.line()
        path = table
        for key in self.keys():
            path += (key,)
            self.lines.setdefault(path, line)
        self.position += 1  # the equals sign
        self.take(_SPACE)
        self.value(path)

    def value(self, path: Path) -> None:
        self.lines.setdefault(path, self.line())
        if self.text.startswith("[", self.position):
            self.position += 1
            index = 0
            while not self.closed("]"):
                self.value((*path, index))
                index += 1
        elif self.text.startswith("{", self.position):
            self.position += 1
            while not self.closed("}"):
                self.pair(path)
        else:
            self.scalar(path)

    def closed(self, bracket: str) -> bool:
        """Skip separators; at the end of the array or table, also skip the bracket and return True."""
        self.blank()
        if self.text.startswith(",", self.position):
            self.position += 1
            self.blank()
        if self.text.startswith(bracket, self.position) or self.position >= len(self.text):
            self.position += 1
            return True
        return False

    def scalar(self, path: Path) -> None:
        for opening, pattern in (('"""', _LONG_BASIC), ("'''", _LONG_LITERAL), ('"', _BASIC), ("'", _LITERAL)):
            if self.text.startswith(opening, self.position):
                start = self.position
                self.take(pattern)
                self.layout.strings[path] = (start, self.position)
                return
        self.take(_BARE_VALUE)

    def blank(self) -> None:
        """Skip white space and comments."""
        start = self.position
        if "#" in self.take(_BLANK):
            found = _COMMENT.finditer(self.text, start, self.position)
            self.layout.comments.extend(match.span() for match in found)

    def keys(self) -> list[str]:
        """Read the parts of a dotted key, unquoted; stops before `=` or `]`."""
        keys = []
        while True:
            self.take(_SPACE)
            if self.text[self.position] == '"':
                # A basic string in a key has TOML's escapes; let tomllib read them.
                keys.append(str(tomllib.loads(f"k = {self.take(_BASIC)}")["k"]))
            elif self.text[self.position] == "'":
                keys.append(self.take(_LITERAL)[1:-1])
            else:
                keys.append(self.take(_BARE_KEY))
            self.take(_SPACE)
            if not self.text.startswith(".", self.position):
                return keys
            self.position += 1

    def take(self, pattern: re.Pattern[str]) -> str:
        """Consume and return what `pattern` matches at the position; empty if it does not match."""
        match = pattern.match(self.text, self.position)
        if match is None:
            return ""
        self.position = match.end()
        return match.group()

    def line(self) -> int:
        self._line += self.text.count("\n", self._counted, self.position)
        self._counted = self.position
        return self._line
