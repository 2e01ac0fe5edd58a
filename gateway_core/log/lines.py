"""Renders log lines: each record becomes one line.

All parts of a record are untrusted, so control characters are escaped and fields are truncated. An exception is one
field of the same line.
"""

from __future__ import annotations

import contextlib
import enum
import json
import re
import traceback
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

import msgspec

from gateway_core.log.escaping import escape

if TYPE_CHECKING:
    from loguru import Record

MAX_FIELD: Final = 8192
"""Maximum characters of one field (message, value, exception); the rest is cut off."""

_COLOURS: Final = {"WARNING": "\x1b[33m", "ERROR": "\x1b[31m", "CRITICAL": "\x1b[1;31m", "DEBUG": "\x1b[2m"}
_PLAIN_WORD: Final = re.compile(r"[!#-<>-~]+")
"""A value without quotes: printable ASCII except space, quotation mark and equals sign."""
_SHORT: Final = 128
"""Maximum characters of a value whose rendering is cached."""
_RESET: Final = "\x1b[0m"

Format = Literal["text", "json"]
NO_MEMBERS: Final[Mapping[str, str | int]] = MappingProxyType({})


class Differs(enum.Enum):
    """Placeholders in a `Line` for values that differ from note to note."""

    WORD = enum.auto()
    """A `str` of ASCII letters and digits."""
    NUMBER = enum.auto()
    """A finite `float`."""


class Line:
    """A prepared line that many notes share. Fields whose value is a `Differs` are filled in for each note."""

    __slots__ = ("fields", "json", "message", "text")

    def __init__(self, message: str, fields: Mapping[str, Any], members: Mapping[str, str | int] = NO_MEMBERS) -> None:
        """`members` appear in JSON only."""
        self.message = message
        self.fields = fields
        shown = f" {_level('INFO')} {escape(_cap(message))}".replace("%", "%%")
        self.text = shown + "".join(_template(_key(key), value, _value, "%s", "%.6g") for key, value in fields.items())
        """The text form after the time: a format for `%`, which takes the values that differ."""
        all_members = _members("INFO", _cap(message), fields, members)
        self.json = ",".join(
            _template(f"{_json(key)}:", value, _json, '"%s"', "%s") for key, value in all_members.items()
        )
        """The JSON form: members after the time, as a format for `%`."""

    def filled(self, values: Sequence[Any]) -> dict[str, Any]:
        """All fields, with `values` in place of the placeholders."""
        left = iter(values)
        return {key: next(left) if isinstance(value, Differs) else value for key, value in self.fields.items()}


def _template(begin: str, value: object, shown: Callable[[Any], str], word: str, number: str) -> str:
    """One field as a part of a format for `%`. `begin` precedes its value."""
    if isinstance(value, Differs):
        return begin.replace("%", "%%") + (word if value is Differs.WORD else number)
    return (begin + shown(value)).replace("%", "%%")


class _Second(NamedTuple):
    """One second, with its rendered time stamp."""

    number: int
    stamp: str
    """Date, time and zone (ISO 8601)."""
    date: str
    """The stamp without the zone."""
    zone: str

    @classmethod
    def of(cls, number: int) -> _Second:
        stamp = datetime.fromtimestamp(number).astimezone().isoformat(timespec="seconds")
        return cls(number, stamp, stamp[:19], stamp[19:])


class Renderer:
    """Renders lines without their newline.

    A call renders a loguru record, `render` any line, and `line` fills in a prepared one.
    """

    def __init__(self, form: Format, colour: bool) -> None:
        self._json = form == "json"
        self._colour = colour
        self._now = _Second(-1, "", "", "")

    def __call__(self, record: Record) -> str:
        fields = {_safe_str(key): value for key, value in record["extra"].items()}
        if record["exception"] is not None:
            fields["exception"] = _exception(record["exception"].value)
        return self.render(record["time"].timestamp(), record["level"].name, record["message"], fields)

    def render(
        self,
        when: float,
        level: str,
        message: str,
        fields: Mapping[str, Any],
        members: Mapping[str, str | int] = NO_MEMBERS,
    ) -> str:
        """Render a line. `when`: seconds since the epoch. `members`: for JSON only."""
        now = self._at(when)
        message = _cap(message)
        if self._json:
            return _json({"time": _time(now, when), **_members(level, message, fields, members)})
        shown = _level(level)
        if self._colour and level in _COLOURS:
            shown = f"{_COLOURS[level]}{shown}{_RESET}"
        shown_fields = [_key(key) + _value(value) for key, value in fields.items()]
        return f"{now.stamp} {shown} {escape(message)}{''.join(shown_fields)}"

    def line(self, when: float, line: Line, values: tuple[Any, ...]) -> str:
        """Render a prepared line at level INFO. `when`: seconds since the epoch."""
        now = self._now
        if int(when) != now.number:
            now = self._at(when)
        if self._json:
            return f'{{"time":"{_time(now, when)}",{line.json % values}}}'
        return f"{now.stamp}{line.text % values}"

    def _at(self, when: float) -> _Second:
        second, now = int(when), self._now
        if second != now.number:
            now = self._now = _Second.of(second)  # one assignment, because several threads render lines
        return now


def _time(second: _Second, when: float) -> str:
    """A moment in this second, to the millisecond (ISO 8601)."""
    return f"{second.date}.{int((when - second.number) * 1000):03d}{second.zone}"


def _level(level: str) -> str:
    return f"{level:<7}"


def _members(level: str, message: str, fields: Mapping[str, Any], members: Mapping[str, str | int]) -> dict[str, Any]:
    """The members of a record's JSON object, except the time."""
    out: dict[str, Any] = {"level": level, "message": message}
    out.update((key, _cap(value) if isinstance(value, str) else value) for key, value in members.items())
    for key, value in fields.items():
        # A field must not replace a member that the gateway sets itself.
        name = f"{key}_" if key in out or key == "time" else key
        out[name] = value if _is_number(value) or isinstance(value, Differs) else _cap(_plain(value))
    return out


def _json(value: object) -> str:
    # ASCII only, so that line separators, bidirectional marks and lone surrogates are escaped.
    with contextlib.suppress(UnicodeEncodeError):
        line = msgspec.json.encode(value)
        if line.isascii():
            return line.decode()
    return json.dumps(value, ensure_ascii=True, separators=(",", ":"))


def _is_number(value: object) -> bool:
    # JSON has no infinities, and many parsers reject integers beyond 64 bits.
    return value is None or (isinstance(value, bool | int | float) and -(2**63) <= value < 2**63)


def _plain(value: object) -> str:
    if isinstance(value, list | tuple | dict):
        with contextlib.suppress(TypeError, ValueError, RecursionError):
            return json.dumps(value, ensure_ascii=False, default=_safe_str)
    return _safe_str(value)


@lru_cache(maxsize=256)
def _key(key: str) -> str:
    """The text before a field's value."""
    return f" {escape(key)}="


def _value(value: object) -> str:
    if isinstance(value, str):
        if len(value) > _SHORT:
            return _text_value(value)
        return value if value.isalnum() and value.isascii() else _short_value(value)
    if isinstance(value, float):
        return f"{value:.6g}"
    if value is None or isinstance(value, bool):
        return {None: "-", True: "true", False: "false"}[value]
    if isinstance(value, int) and -(2**63) <= value < 2**63:
        return str(value)
    return _text_value(_plain(value))


def _text_value(value: str) -> str:
    if len(value) <= MAX_FIELD and _PLAIN_WORD.fullmatch(value) is not None:
        return value
    text = _cap(value)
    if not text or any(c in ' "=' for c in text) or not text.isprintable():
        return '"' + escape(text.replace("\\", "\\\\").replace('"', '\\"')) + '"'
    return text


_short_value = lru_cache(maxsize=1024)(_text_value)
"""Cached, because agents, upstreams and outcomes repeat from call to call."""


def _safe_str(value: object) -> str:
    try:
        return str(value)
    except Exception as error:  # noqa: BLE001 - a value whose `str` fails must not break the line
        return f"<{type(value).__name__}: {type(error).__name__}>"


def _cap(text: str) -> str:
    return text if len(text) <= MAX_FIELD else f"{text[:MAX_FIELD]}… ({len(text) - MAX_FIELD} more)"


def _exception(error: BaseException | None) -> str:
    if error is None:
        return "unknown"
    try:
        text = "".join(traceback.format_exception(error, limit=-20))
    except Exception:  # noqa: BLE001 - an exception whose own text fails
        text = type(error).__name__
    # Keep the end, which names the error and its origin.
    return text.strip() if len(text) <= MAX_FIELD else "… " + text[-MAX_FIELD + 2 :].strip()
