"""The file with the records of keys: one line of JSON for each, and lines that are empty or begin with `#`.

Only its owner may have rights on it. Every change is made under a lock of the file and replaces it as a whole, so that
two commands at a time lose nothing, and no reader sees half of it.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gateway_auth_apikey.records import Record
from gateway_core import UnusableFile, check_secret_file

MAX_BYTES: Final = 8 * 1024 * 1024
MAX_SHOWN: Final = 5
"""Maximum number of problems in one message."""
LOCK_TIMEOUT: Final = 10.0
"""Seconds to wait for another command that changes the file."""
_HEADER: Final = "# Keys of the plugin auth_apikey: one line for each. `rad mcp proxy keys` changes this file.\n"


class KeyFileError(ValueError):
    """The file cannot be used. The text names it, and the line if there is one, and shows no value."""


Mark = tuple[int, ...]
"""What changes with the content of a file."""


@dataclass(frozen=True, slots=True)
class Content:
    """The records of a file, and its mark."""

    records: tuple[Record, ...] = ()
    mark: Mark = ()
    """Empty if there is no file."""


def mark_of(path: Path) -> Mark:
    """The present mark of the file; empty if there is none."""
    try:
        return _mark(path.stat())
    except OSError:
        return ()


def read(path: Path) -> Content:
    """The records of a file, none if it does not exist. Raises `KeyFileError`."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        return Content()
    except OSError as error:
        raise _unusable(path, error) from None
    try:
        return _content(path, fd)
    except OSError as error:
        raise _unusable(path, error) from None
    finally:
        os.close(fd)


def add(path: Path, record: Record) -> None:
    """Add a record; creates the file if there is none. Raises `KeyFileError`."""
    with _changing(path) as change:
        change(lambda lines: [*lines, record.line()] if lines else [_HEADER.rstrip(), record.line()])


def remove(path: Path, ids: Sequence[str]) -> None:
    """Remove the records with these ids. Raises `KeyFileError`."""
    with _changing(path) as change:
        change(lambda lines: [line for line in lines if not _is_record(line) or Record.of_line(line).id not in ids])


@contextmanager
def _changing(path: Path) -> Iterator[Callable[[Callable[[list[str]], list[str]]], None]]:
    """Hold the lock of the file, and yield the function that changes its lines."""
    target = Path(os.path.realpath(path))  # a link stays one
    try:
        fd = _locked(target)
    except OSError as error:
        raise _unusable(path, error) from None
    try:

        def change(edit: Callable[[list[str]], list[str]]) -> None:
            _content(path, fd)  # a damaged file is not written
            lines = _lines(path, fd)
            _replace(target, "".join(f"{line}\n" for line in edit(lines)), os.fstat(fd))

        yield change
    except OSError as error:
        raise _unusable(path, error) from None
    finally:
        os.close(fd)


def _locked(path: Path) -> int:
    """Open and lock the file that `path` names when the lock is held. Raises `OSError`."""
    deadline = time.monotonic() + LOCK_TIMEOUT
    while True:
        fd = os.open(path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK, 0o600)
        try:
            while True:
                try:
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        raise TimeoutError(None, "another command has locked it") from None
                    time.sleep(0.05)
            if _mark(os.fstat(fd))[:2] == mark_of(path)[:2]:
                return fd
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)  # another command has replaced the file meanwhile


def _replace(path: Path, text: str, status: os.stat_result) -> None:
    """Replace the file by one with this text, of the same owner. Raises `OSError`."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "wb") as file:
            if os.geteuid() == 0:
                os.fchown(fd, status.st_uid, status.st_gid)
            file.write(text.encode())
            file.flush()
            os.fsync(fd)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _content(path: Path, fd: int) -> Content:
    status = os.fstat(fd)
    _check(path, status)
    records: dict[str, Record] = {}
    problems = []
    for number, line in enumerate(_lines(path, fd), 1):
        if not _is_record(line):
            continue
        try:
            record = Record.of_line(line)
            if record.id in records:
                raise ValueError(f"the id {record.id} is in the file twice")
            records[record.id] = record
        except ValueError as problem:
            problems.append(f"{path}:{number}: {problem}")
    if problems:
        more = f"; and {len(problems) - MAX_SHOWN} more" if len(problems) > MAX_SHOWN else ""
        raise KeyFileError("; ".join(problems[:MAX_SHOWN]) + more)
    return Content(tuple(records.values()), _mark(status))


def _check(path: Path, status: os.stat_result) -> None:
    """Raise `KeyFileError` unless the file is one that only its owner can use."""
    if not stat.S_ISREG(status.st_mode):
        raise KeyFileError(f"{path}: is not a regular file")
    if status.st_size > MAX_BYTES:
        raise KeyFileError(f"{path}: is larger than {MAX_BYTES // 1024} KiB")
    try:
        check_secret_file(path, status)
    except UnusableFile as problem:
        raise KeyFileError(f"{path}: cannot be used: {problem}") from None


def _lines(path: Path, fd: int) -> list[str]:
    content = os.pread(fd, MAX_BYTES + 1, 0)
    try:
        return content.decode().removesuffix("\n").split("\n") if content else []
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise KeyFileError(f"{path}:{line}: is not UTF-8 text") from None


def _is_record(line: str) -> bool:
    return bool(line.strip()) and not line.lstrip().startswith("#")


def _mark(status: os.stat_result) -> Mark:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _unusable(path: Path, error: OSError) -> KeyFileError:
    return KeyFileError(f"{path}: cannot be used: {error.strerror or error}")
