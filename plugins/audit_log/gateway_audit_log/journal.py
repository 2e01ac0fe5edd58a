"""The file of the entries: lock, append, rotation, and what a crash left behind.

Older files are named like the file, with the number of their last entry. The chain goes on across files.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
from loguru import logger

from gateway_audit_log.chaining import MAX_LINE, ZERO, Keys, read_entry, sealed
from gateway_core import UnusableFile, open_private_file

_PIECE: Final = 64 * 1024
"""Bytes that are read at once, from the end of a file backwards."""
_BEGIN: Final = b'{"seq":'
"""How every entry begins."""
MAX_CHUNK: Final = 256 * 1024
"""Bytes that are written at once."""


class JournalError(Exception):
    """The file cannot be used. The text names it."""


class Head(NamedTuple):
    """The end of the chain."""

    seq: int = 0
    hash: str = ZERO


class _Tail(NamedTuple):
    """The end of a file."""

    head: Head | None
    """The last entry; None if there is none."""
    damaged: int
    """Bytes after it that are no entry."""


def older_files(path: Path) -> list[Path]:
    """The older files of a log, in the order of their entries."""
    form = re.compile(re.escape(path.name) + r"\.[0-9]{12}")
    try:
        return sorted(one for one in path.parent.iterdir() if form.fullmatch(one.name))
    except FileNotFoundError:
        return []


class Journal:
    """An open log, locked against other processes. Used by one thread."""

    def __init__(self, path: Path, keys: Keys, *, max_bytes: int, max_age: float | None, kept: int | None) -> None:
        """Open it and find the end of its chain. Raises `JournalError` and `OSError`."""
        self.path = Path(os.path.realpath(path.parent)) / path.name
        self._max_bytes, self._max_age, self._kept = max_bytes, max_age, kept
        self._keys = keys
        self._lock = self._locked()
        self._file = -1
        self._size = self._torn = 0
        self._since = time.time()
        try:
            self._open()
            self.head = self._recovered()
        except BaseException:
            self.close()
            raise

    def _locked(self) -> int:
        lock = self.path.with_name(f"{self.path.name}.lock")
        try:
            descriptor = open_private_file(lock)
        except UnusableFile as problem:
            raise JournalError(f"{lock}: cannot be used: {problem}") from None
        except OSError as error:
            raise JournalError(f"{lock}: cannot be opened: {error.strerror}") from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            raise JournalError(f"{self.path}: another process writes to it; each gateway needs its own file") from None
        return descriptor

    def _open(self) -> None:
        try:
            self._file = open_private_file(self.path)
        except UnusableFile as problem:
            raise JournalError(f"{self.path}: cannot be used: {problem}") from None
        except OSError as error:
            raise JournalError(f"{self.path}: cannot be opened: {error.strerror}") from None
        self._size = os.fstat(self._file).st_size

    def _recovered(self) -> Head:
        head, self._torn = _tail(self._file)
        if head is None and self._size and os.pread(self._file, len(_BEGIN), 0) != _BEGIN:
            raise JournalError(f"{self.path}: is no file of this plugin; name another one")
        older = iter(reversed(older_files(self.path)))
        while head is None:
            path = next(older, None)
            head = Head() if path is None else _head_of(path)
        return head

    def limit(self, *, max_bytes: int, max_age: float | None, kept: int | None) -> None:
        """Use other limits from now on."""
        self._max_bytes, self._max_age, self._kept = max_bytes, max_age, kept

    def append(self, bodies: Sequence[dict[str, Any]]) -> int:
        """Append entries; returns the number of those that were written as a whole.

        Raises `OSError` or `JournalError` if none was; the rest can be tried again.
        """
        done = 0
        while done < len(bodies):
            if self._file < 0:
                self._open()
            self._rotate_if_due()
            lines, heads, size = list[bytes](), [self.head], 0
            if self._torn:
                marker = {"type": "recovered", "damaged_bytes": self._torn}
                lines.append(b"\n" + self._line(marker, heads))
            given = len(lines)
            for body in bodies[done:]:
                if size > MAX_CHUNK:
                    break
                lines.append(self._line(body, heads))
                size += len(lines[-1])
            written, failure = self._write(b"".join(lines))
            whole = self._advance(lines, heads, written)
            done += max(whole - given, 0)
            if failure is not None:
                if done:
                    return done
                raise failure
        return done

    def _line(self, body: dict[str, Any], heads: list[Head]) -> bytes:
        """The line of the next entry, with its newline."""
        before = heads[-1]
        seq = before.seq + 1
        try:
            encoded = _encode({"seq": seq, **body})
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            reason = type(error).__name__
            logger.error("audit_log: an event cannot be recorded: {}", reason)
            encoded = _encode({"seq": seq, "type": "unreadable", "time": body.get("time"), "reason": reason})
        line, made = sealed(encoded, before.hash, self._keys.chain)
        heads.append(Head(seq, made))
        return line + b"\n"

    def _write(self, data: bytes) -> tuple[int, OSError | None]:
        """Write all of it; returns the bytes that were written, and the failure that ended it."""
        written = 0
        view = memoryview(data)
        try:
            while written < len(data):
                written += os.write(self._file, view[written:])
        except OSError as error:
            return written, error
        return written, None

    def _advance(self, lines: Sequence[bytes], heads: Sequence[Head], written: int) -> int:
        """Move the end of the chain behind the lines that were written as a whole; returns their number."""
        whole = 0
        left = written
        while whole < len(lines) and left >= len(lines[whole]):
            left -= len(lines[whole])
            whole += 1
        self._size += written
        if whole:
            self.head, self._torn = heads[whole], 0
        self._torn += left
        return whole

    def sync(self) -> None:
        """Force what was written to the disk. Raises `OSError`."""
        os.fsync(self._file)

    # -- rotation ---------------------------------------------------------------------------------------------------

    def _rotate_if_due(self) -> None:
        old = self._max_age is not None and time.time() - self._since >= self._max_age
        if self._torn or not self._size or not (self._size >= self._max_bytes or old):
            return
        self.sync()
        rotated = self.path.with_name(f"{self.path.name}.{self.head.seq:012d}")
        os.rename(self.path, rotated)
        os.close(self._file)
        self._file = -1
        self._open()
        self._since = time.time()
        _sync_folder(self.path.parent)
        if self._kept is not None:
            for one in older_files(self.path)[: -self._kept]:
                with contextlib.suppress(OSError):
                    one.unlink()

    def close(self) -> None:
        """Close it and release the lock."""
        for descriptor in (self._file, self._lock):
            if descriptor >= 0:
                os.close(descriptor)
        self._file = self._lock = -1


_encode = msgspec.json.Encoder().encode


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _head_of(path: Path) -> Head | None:
    try:
        descriptor = open_private_file(path)
    except UnusableFile as problem:
        raise JournalError(f"{path}: cannot be used: {problem}") from None
    try:
        return _tail(descriptor).head
    finally:
        os.close(descriptor)


def _tail(descriptor: int) -> _Tail:
    """The last entry of a file, and what follows it."""
    damaged = 0
    for line, is_whole in _lines_backwards(descriptor):
        entry = read_entry(line) if is_whole else None
        if entry is not None:
            return _Tail(Head(entry.seq, entry.hash), damaged)
        damaged += len(line) + is_whole
    return _Tail(None, damaged)


def _lines_backwards(descriptor: int) -> Iterator[tuple[bytes, bool]]:
    """The lines of a file from its end, each with whether a newline follows it. Longer ones than an entry are cut."""
    at = os.fstat(descriptor).st_size
    rest, is_whole = b"", False
    while at:
        start = max(0, at - _PIECE)
        rest = os.pread(descriptor, at - start, start) + rest
        at = start
        while (cut := rest.rfind(b"\n")) >= 0:
            if is_whole or cut < len(rest) - 1:
                yield rest[cut + 1 :], is_whole
            rest, is_whole = rest[:cut], True
        if len(rest) > MAX_LINE:
            yield rest, is_whole
            rest, is_whole = b"", False
    if rest or is_whole:
        yield rest, is_whole
