"""What a log line looks like: one record in, one line out.

Everything in a record may come from strangers, so control characters are escaped, fields are capped, and an
exception is one field of the same line.
"""

from __future__ import annotations

import contextlib
import json
import re
import traceback
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec

from gateway_core.log.escaping import escape

if TYPE_CHECKING:
    from loguru import Record

MAX_FIELD: Final = 8192
"""Characters of one field (message, value, exception) that are kept."""

_COLOURS: Final = {"WARNING": "\x1b[33m", "ERROR": "\x1b[31m", "CRITICAL": "\x1b[1;31m", "DEBUG": "\x1b[2m"}
_PLAIN_WORD: Final = re.compile(r"[!#-<>-~]+")
"""A value that stands as it is: printable ASCII but space, quotation mark and equals sign."""
_SHORT: Final = 128
"""Characters of a value up to which it is remembered how it is shown."""
_RESET: Final = "\x1b[0m"

Format = Literal["text", "json"]


class Line:
    """What many notes have in common: the message, and all fields but those that stand for themselves as `...`."""

    __slots__ = ("fields", "message", "pieces")

    def __init__(self, message: str, fields: Mapping[str, Any]) -> None:
        self.message = message
        self.fields = fields
        self.pieces: tuple[str, ...] = ()
        """As text, what stands before, between and after the fields that differ; empty until `cut`."""

    def cut(self) -> tuple[str, ...]:
        """Make the pieces."""
        pieces, piece = [], f" {'INFO':<7} {escape(_cap(self.message))}"
        for key, value in self.fields.items():
            piece += _key(key)
            if value is ...:
                pieces.append(piece)
                piece = ""
            else:
                piece += _value(value)
        self.pieces = (*pieces, piece)
        return self.pieces

    def filled(self, values: Sequence[Any]) -> dict[str, Any]:
        """All fields, with `values` for those that differ."""
        left = iter(values)
        return {key: next(left) if value is ... else value for key, value in self.fields.items()}


class Renderer:
    """`Renderer(form, colour)(record)` is the line of `record`, without its newline."""

    def __init__(self, form: Format, colour: bool) -> None:
        self._json = form == "json"
        self._colour = colour
        self._second = -1
        self._clock = self._date = self._zone = ""

    def __call__(self, record: Record) -> str:
        fields = {_safe_str(key): value for key, value in record["extra"].items()}
        if record["exception"] is not None:
            fields["exception"] = _exception(record["exception"].value)
        message, level = _cap(record["message"]), record["level"].name
        if self._json:
            return self._object(record["time"].isoformat(timespec="milliseconds"), level, message, fields)
        return self._text(record["time"].strftime("%H:%M:%S"), level, message, fields)

    def note(self, when: float, message: str, fields: Mapping[str, Any]) -> str:
        """The line of a record at level INFO: `when` in seconds since the epoch, keys that are plain words."""
        second = int(when)
        self._turn(second)
        if self._json:
            milliseconds = int((when - second) * 1000)
            return self._object(f"{self._date}.{milliseconds:03d}{self._zone}", "INFO", _cap(message), fields)
        return self._text(self._clock, "INFO", _cap(message), fields)

    def _turn(self, second: int) -> None:
        """Have the time at hand as it is written."""
        if second != self._second:
            self._second = second
            stamp = datetime.fromtimestamp(second).astimezone().isoformat(timespec="seconds")
            self._date, self._zone = stamp[:19], stamp[19:]
            self._clock = self._date[11:]

    def line(self, when: float, line: Line, values: Sequence[Any]) -> str:
        """The same for a note that has much in common with others."""
        if self._json or self._colour:
            return self.note(when, line.message, line.filled(values))
        self._turn(int(when))
        first, *others = line.pieces or line.cut()
        shown = [_value(value) + piece for value, piece in zip(values, others, strict=True)]
        return f"{self._clock}{first}{''.join(shown)}"

    def _text(self, when: str, level: str, message: str, fields: Mapping[str, Any]) -> str:
        shown = f"{level:<7}"
        if self._colour and level in _COLOURS:
            shown = f"{_COLOURS[level]}{shown}{_RESET}"
        shown_fields = [_key(key) + _value(value) for key, value in fields.items()]
        return f"{when} {shown} {escape(message)}{''.join(shown_fields)}"

    def _object(self, when: str, level: str, message: str, fields: Mapping[str, Any]) -> str:
        out: dict[str, Any] = {"time": when, "level": level, "message": message}
        for key, value in fields.items():
            # A field never replaces what the gateway itself says about the event.
            out[f"{key}_" if key in out else key] = value if _is_number(value) else _cap(_plain(value))
        # ASCII only: line separators, bidirectional marks and lone surrogates are escaped for every reader.
        with contextlib.suppress(UnicodeEncodeError):
            line = msgspec.json.encode(out)
            if line.isascii():
                return line.decode()
        return json.dumps(out, ensure_ascii=True, separators=(",", ":"))


def _is_number(value: object) -> bool:
    # Infinities are no JSON, and integers past 64 bits are refused by many a reader.
    return value is None or (isinstance(value, bool | int | float) and -(2**63) <= value < 2**63)


def _plain(value: object) -> str:
    if isinstance(value, list | tuple | dict):
        with contextlib.suppress(TypeError, ValueError, RecursionError):
            return json.dumps(value, ensure_ascii=False, default=_safe_str)
    return _safe_str(value)


@lru_cache(maxsize=256)
def _key(key: str) -> str:
    """What stands before a field's value."""
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
    return _text_value(_plain(value))


def _text_value(value: str) -> str:
    if len(value) <= MAX_FIELD and _PLAIN_WORD.fullmatch(value) is not None:
        return value
    text = _cap(value)
    if not text or any(c in ' "=' for c in text) or not text.isprintable():
        return '"' + escape(text.replace("\\", "\\\\").replace('"', '\\"')) + '"'
    return text


_short_value = lru_cache(maxsize=1024)(_text_value)
"""The same values come with every call: names of agents, upstreams and outcomes."""


def _safe_str(value: object) -> str:
    try:
        return str(value)
    except Exception as error:  # noqa: BLE001 - a value that cannot be shown must not break the line
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
    # The end names the error and where it came from.
    return text.strip() if len(text) <= MAX_FIELD else "… " + text[-MAX_FIELD + 2 :].strip()
