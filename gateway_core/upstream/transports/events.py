"""An incremental, bounded parser for server-sent events, without I/O.

`EventParser.feed` takes bytes split at any position and returns the events that they complete. Source: WHATWG HTML,
section 9.2.6 "Interpreting an event stream". `data` stays bytes: the JSON decoder checks its UTF-8.
"""

from __future__ import annotations

from typing import Final

import msgspec

from gateway_core.limits.accounts import COUNTED_FROM, UNCOUNTED, Account

_BOM: Final = b"\xef\xbb\xbf"
_MAX_RETRY_DIGITS: Final = 9
_NEWLINE: Final = ord("\n")
_RETURN: Final = ord("\r")
_FRAMES: Final = ((b"event: message\r\ndata: ", b"\r\n\r\n"), (b"event: message\ndata: ", b"\n\n"))
"""Prefix and suffix of a message event, as the official SDKs for Python and TypeScript write them."""


class EventTooLarge(Exception):
    """An event or an unfinished line is larger than the parser's limit or the memory. The parser cannot be used
    afterwards. The text continues "the server …"."""


class Event(msgspec.Struct, frozen=True):
    """One dispatched event. `event` is its type (`message` unless the stream says otherwise)."""

    event: str
    data: bytes


class EventParser:
    """Splits one event stream into events."""

    def __init__(self, limit: int, account: Account = UNCOUNTED) -> None:
        """`limit`: maximum bytes of data in one event. `account` counts large unfinished events until `release`."""
        self.last_id = ""
        """The id to send as `Last-Event-ID` on reconnection; also set by events without data."""
        self.retry: int | None = None
        """Milliseconds to wait before a reconnection; None until the stream sends `retry:`."""
        self._limit = limit
        self._claim = account.claim()
        self._line = bytearray()
        self._data = bytearray()
        self._has_data = False
        self._type = ""
        self._after_cr = False
        self._head: bytes | None = b""

    @property
    def held(self) -> int:
        """Bytes of an unfinished event and line."""
        return len(self._line) + len(self._data)

    def feed(self, chunk: bytes) -> list[Event]:
        """The events that `chunk` completes. Raises `EventTooLarge`."""
        if not (self._line or self._has_data or self._type or self._head):
            data = _only_message(chunk)
            if data is not None and len(data) <= self._limit:
                self._head, self._after_cr = None, False
                return [Event("message", data)]
        if self._head is not None:
            chunk = self._skip_bom(chunk)
        if self._after_cr and chunk:
            self._after_cr = False
            if chunk[:1] == b"\n":
                chunk = chunk[1:]
        if not chunk:
            return []
        if _RETURN in chunk:
            self._after_cr = chunk.endswith(b"\r")
            chunk = chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        events: list[Event] = []
        *lines, rest = chunk.split(b"\n")
        for part in lines:
            line = part
            if self._line:
                line = bytes(self._line + part)
                self._line.clear()
            if line:
                self._field(line)
            elif (event := self._dispatch()) is not None:
                events.append(event)
        self._line += rest
        self._check_size(len(self._line))
        return events

    def _skip_bom(self, chunk: bytes) -> bytes:
        """Hold back a first one or two bytes that may turn out to be a byte order mark."""
        start = (self._head or b"") + chunk
        if len(start) < len(_BOM) and _BOM.startswith(start):
            self._head = start
            return b""
        self._head = None
        return start.removeprefix(_BOM)

    def _field(self, line: bytes) -> None:
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            self._check_size(len(value) + 1)
            self._data += value
            self._data += b"\n"
            self._has_data = True
        elif name == b"event":
            self._type = value.decode("utf-8", "replace")
        elif name == b"id" and b"\0" not in value:
            self.last_id = value.decode("utf-8", "replace")
        elif name == b"retry" and value.isdigit() and len(value) <= _MAX_RETRY_DIGITS:
            self.retry = int(value)

    def _dispatch(self) -> Event | None:
        event = None
        if self._has_data:
            event = Event(self._type or "message", bytes(self._data[:-1]))
        self._data.clear()
        self.release()
        self._has_data = False
        self._type = ""
        return event

    def release(self) -> None:
        """Give back what was counted of an unfinished event: it has ended, or will not be read."""
        if self._claim.size:
            self._claim.release()

    def _check_size(self, more: int) -> None:
        size = len(self._data) + more
        if size > self._limit:
            raise EventTooLarge(f"sent an event larger than {self._limit} bytes")
        if size > COUNTED_FROM and not self._claim.grow(size):
            raise EventTooLarge("sent an event that does not fit into the gateway's memory (limits.memory)")


def _only_message(chunk: bytes) -> bytes | None:
    """The data of a chunk that is exactly one message event in a form of `_FRAMES`; None for other chunks."""
    for begin, end in _FRAMES:
        if chunk.startswith(begin) and chunk.endswith(end):
            data = chunk[len(begin) : -len(end)]
            return None if _NEWLINE in data or _RETURN in data else data
    return None
