"""The text of a configuration file without the secrets that stand in it, and the way back.

`MARKER` takes the place of each secret in strings and comments; lines keep their numbers. In a text that is to be
applied, a string or comment with the marker means what the file has at the same key. Entries of lists of tables are the
same if their names are (of overrides: their tools), wherever they stand.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import cached_property
from pathlib import Path as FilePath
from typing import Any, Final

from gateway_core.concealing import MARKER, MIN_SECRET, HeldSecrets, Secret
from gateway_core.config.literals import commented_secrets, literal_secrets
from gateway_core.config.loader import parse
from gateway_core.config.report import field_of, toml_value
from gateway_core.config.source import Path, line_of, show
from gateway_core.errors import ConfigError, FileProblem
from gateway_core.generations.editing.keyed import name_key

Place = tuple[Any, ...]
"""A path in which entries of lists of tables stand by name."""
_FREE: Final = ("mcp", "proxy", "plugins")
"""The list whose tables have keys that the models do not know."""


class FileText:
    """A text that is valid TOML, with what stands where in it."""

    def __init__(
        self, text: str, path: FilePath, others: tuple[Secret, ...] = (), clean: Callable[[bytes], bytes] = bytes
    ) -> None:
        """`others`: secrets that only plugins know as such. `clean`: hides what the gateway holds from elsewhere.

        Raises `ConfigError` if it is no TOML.
        """
        self.text: Final = text
        self._path = path
        self._others = others
        self._clean = clean
        self.raw, self.layout = parse(text, path)

    @cached_property
    def strings(self) -> dict[Place, Path]:
        """Where each string is, by its place."""
        found: dict[Place, Path] = {}
        for path in self.layout.strings:
            found.setdefault(self.place(path), path)
        return found

    def place(self, path: Path) -> Place:
        """The path, with the names of entries instead of their numbers."""
        found: list[Any] = []
        value: Any = self.raw
        for at, part in enumerate(path):
            name = _named(value, part, name_key(path[:at]) or "name") if isinstance(part, int) else None
            found.append(part if name is None else ("named", name))
            value = value[part]
        return tuple(found)

    def value(self, path: Path) -> Any:
        """The value at a path."""
        value: Any = self.raw
        for part in path:
            value = value[part]
        return value

    def raw_value(self, path: Path) -> str:
        """The string at a path as the text has it, with its quotes."""
        start, end = self.layout.strings[path]
        return self.text[start:end]

    def problem(self, path: Path, what: str) -> FileProblem:
        """A problem at a path."""
        return FileProblem(str(self._path), line_of(self.layout.lines, path) or 1, show(path), what)

    # -- secrets --------------------------------------------------------------------------------------------------

    @cached_property
    def _secrets(self) -> tuple[Secret, ...]:
        commented = (found for span in self.layout.comments for found in commented_secrets(self.text[slice(*span)]))
        return (*literal_secrets(self.raw), *self._others, *commented)

    @cached_property
    def _held(self) -> HeldSecrets:
        return HeldSecrets(self._secrets)

    @cached_property
    def _short(self) -> frozenset[str]:
        """Secrets that are too short to be searched for. They are hidden where they are the whole value."""
        return frozenset(it.value for it in self._secrets if len(it.value) < MIN_SECRET)

    def holds_secret(self, text: str) -> bool:
        """Whether a text has a secret of this file in it."""
        return text in self._short or self._without(text) != text

    def _without(self, text: str) -> str:
        return self._clean(self._held.clean_line(text.encode(errors="replace"))).decode(errors="replace")

    def hidden_value(self, path: Path) -> str:
        """The string at a path without secrets."""
        value = str(self.value(path))
        field = field_of(path)
        if path[: len(_FREE)] != _FREE and field is None:
            return MARKER  # an unknown key, so nothing says that its value is no secret
        if value in self._short and (field is None or not field.repr):
            return MARKER
        return self._without(value)

    @cached_property
    def hidden(self) -> str:
        """The whole text without secrets."""
        pieces: list[tuple[int, int, str]] = []
        for path, (start, end) in self.layout.strings.items():
            shown = self.hidden_value(path)
            if shown != self.value(path):
                pieces.append((start, end, _quoted(shown, self.text.count("\n", start, end))))
        for start, end in self.layout.comments:
            comment = self.text[start:end]
            if (shown := self._without(comment)) != comment:
                pieces.append((start, end, shown))
        return _spliced(self.text, pieces)

    def restored(self, given: FileText) -> FileText:
        """`given`, a text that was made of `hidden`, with the secrets of this one. Raises `ConfigError`."""
        pieces: list[tuple[int, int, str]] = []
        problems: list[FileProblem] = []
        for path, (start, end) in given.layout.strings.items():
            value = given.value(path)
            if MARKER not in value:
                continue
            mine = self.strings.get(given.place(path))
            if mine is not None and value in (MARKER, self.hidden_value(mine)):
                if self.hidden_value(mine) != self.value(mine):
                    pieces.append((start, end, self.raw_value(mine)))
                    continue
                if value == self.value(mine):
                    continue
            problems.append(
                given.problem(
                    path, f"has {MARKER} in place of a secret that the file does not have there; write the whole value"
                )
            )
        comments = self._hidden_comments()
        for start, end in given.layout.comments:
            comment = given.text[start:end]
            known = comments.get(comment)
            if known:
                pieces.append((start, end, known.pop(0) if len(known) > 1 else known[0]))
        if problems:
            raise ConfigError(problems)
        return self.with_text(_spliced(given.text, pieces)) if pieces else given

    def with_text(self, text: str) -> FileText:
        """Another text of the same file. Raises `ConfigError` if it is no TOML."""
        return FileText(text, self._path, self._others, self._clean)

    def _hidden_comments(self) -> dict[str, list[str]]:
        """The comments that hide something, by the form in which they are shown."""
        found: dict[str, list[str]] = {}
        for start, end in self.layout.comments:
            comment = self.text[start:end]
            if (shown := self._without(comment)) != comment:
                found.setdefault(shown, []).append(comment)
        return found


def _named(entries: Any, index: int, key: str) -> str | None:
    """The name of an entry of a list of tables, if no other has it. `key`: the key that names entries."""
    if not isinstance(entries, list) or not all(isinstance(one, dict) for one in entries):
        return None
    names = Counter(one[key] for one in entries if isinstance(one.get(key), str))
    name = entries[index].get(key)
    return name if isinstance(name, str) and names[name] == 1 else None


def _quoted(value: str, line_breaks: int) -> str:
    """A string in TOML that takes as many lines as the one that it stands for."""
    if not line_breaks:
        return toml_value(value)
    return f'""{toml_value(value)[:-1]}' + "\\\n" * line_breaks + '"""'


def _spliced(text: str, pieces: list[tuple[int, int, str]]) -> str:
    """The text with other pieces in place of some of its own."""
    parts: list[str] = []
    at = 0
    for start, end, piece in sorted(pieces):
        parts += (text[at:start], piece)
        at = end
    return "".join((*parts, text[at:]))
