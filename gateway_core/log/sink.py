"""Writes log lines through a bounded queue and a thread.

A stalled terminal, pipe or disk must never stall the event loop. Lines that do not fit or cannot be written are dropped
and counted.
"""

from __future__ import annotations

import contextlib
import os
import select
import stat
import threading
import time
from collections import deque
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from loguru import logger

from gateway_core.files import append_to
from gateway_core.log.recent import Recent

if TYPE_CHECKING:
    from loguru import Message, Record

MAX_LINES: Final = 10_000
MAX_BYTES: Final = 8 * 1024 * 1024
"""Bounds of the queue between the event loop and the writer."""
MAX_CHUNK: Final = 64 * 1024
"""Bytes handed to the target at once. If that write fails, all of them are lost."""
REPORT_INTERVAL: Final = 60.0
"""Least seconds between two reports of dropped lines."""
GATHER: Final = 0.05
"""Seconds that notes are collected before they are written."""
REOPEN_INTERVAL: Final = 1.0
"""Least seconds between two checks whether the file was moved or deleted."""
STALL_TIMEOUT: Final = 5.0
"""Seconds that one write to a non-blocking pipe or terminal may wait before its lines are dropped."""
FLUSH_TIMEOUT: Final = 2.0


class Destination(Protocol):
    """A destination of bytes; `write` raises `OSError` if it fails."""

    name: str
    """Its name in messages."""
    problem: str
    """A problem that does not prevent writing; empty if there is none."""

    def write(self, data: bytes) -> None: ...
    def reopen(self) -> None: ...
    def close(self) -> None: ...


class StderrDestination:
    """File descriptor 2, unbuffered: a buffered stream's lock could block process exit."""

    name = "standard error"
    problem = ""

    def write(self, data: bytes) -> None:
        _write_all(2, data)

    def reopen(self) -> None:
        """Does nothing."""

    def close(self) -> None:
        """Does nothing: the process keeps stderr."""


class FileDestination:
    """A log file in append mode, reopened after it was moved or deleted. Mode 0600: logs show agents' activity.

    Before it exceeds `max_bytes` (0: unlimited), it is renamed to `FILE.1`, `FILE.1` to `FILE.2`, and so on; `kept`
    older files remain. If a rotation fails, the file keeps growing, and the next attempt follows after a second.
    """

    def __init__(self, path: Path, max_bytes: int = 0, kept: int = 0) -> None:
        self.name = str(path)
        self.problem = ""
        self._path = path
        self._max_bytes = max_bytes
        self._kept = kept
        self._size = 0
        self._looked = time.monotonic()
        self._rotate_from = 0.0
        self._fd = self._open()

    def write(self, data: bytes) -> None:
        now = time.monotonic()
        if self._fd < 0 or now - self._looked >= REOPEN_INTERVAL:
            self._look(now)
        if self._size + len(data) > self._max_bytes > 0 and self._size and now >= self._rotate_from:
            self._rotate(now)
        try:
            _write_all(self._fd, data)
            self._size += len(data)
        except OSError:
            self._looked = 0.0  # the disk may have been replaced: check again at the next write
            raise

    def reopen(self) -> None:
        self._looked = 0.0

    def close(self) -> None:
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            os.close(fd)

    def _look(self, now: float) -> None:
        """Reopen the file if it was replaced; else update the size, because other processes may write to it."""
        self._looked = now
        if self._fd < 0 or self._moved():
            self._open_again()
        else:
            self._size = os.fstat(self._fd).st_size

    def _rotate(self, now: float) -> None:
        self._rotate_from = now + REOPEN_INTERVAL
        if not self._moved():  # another process may have rotated it already
            if not stat.S_ISREG(os.fstat(self._fd).st_mode):
                return
            try:
                for number in range(self._kept, 0, -1):
                    older = self._older(number - 1)
                    if older.exists():
                        older.replace(self._older(number))
                if self._kept == 0:
                    self._path.unlink()
            except OSError as error:
                self.problem = f"cannot be rotated, and keeps growing: {error.strerror}"
                return
        self._open_again()
        self._rotate_from, self.problem = 0.0, ""

    def _older(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}") if number else self._path

    def _open_again(self) -> None:
        fresh = self._open()
        self.close()
        self._fd = fresh

    def _moved(self) -> bool:
        try:
            there, ours = self._path.stat(), os.fstat(self._fd)
        except OSError:
            return True
        return (there.st_ino, there.st_dev) != (ours.st_ino, ours.st_dev)

    def _open(self) -> int:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        fd = append_to(self._path)
        self._size = os.fstat(fd).st_size
        return fd


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(fd, view) :]
        except BlockingIOError:  # a terminal or pipe shared with a process that made it non-blocking
            if not select.select([], [fd], [], STALL_TIMEOUT)[1]:
                raise


Rendering = Callable[["Record"], str]
"""Renders a loguru record, as `lines.Renderer` does."""


class LineSink:
    """The writer of one target, and a loguru sink. It never blocks: `put` queues a line, and a thread writes it.

    Lines that are not urgent, such as those of calls, are collected for `GATHER` seconds. They take no lock and wake no
    thread, unless the thread sleeps. Callers render lines, because rendering in the thread would hold up calls.

    `dropped` counts lines that were lost because the queue was full or a write failed. A line reports them at most
    every `report` seconds. Standard error says once that a file cannot be written, until it can be again.
    """

    def __init__(
        self,
        destination: Destination,
        render: Rendering,
        *,
        clean: Callable[[bytes], bytes] = bytes,
        recent: Recent | None = None,
        max_lines: int = MAX_LINES,
        max_bytes: int = MAX_BYTES,
        report: float = REPORT_INTERVAL,
    ) -> None:
        """`clean` hides secrets in complete lines; the thread calls it. `recent` gets all lines, also those that
        cannot be written."""
        self.destination = destination
        self.render = render
        self._clean = clean
        self._recent = recent
        self._problem = ""
        """The last problem that was reported."""
        self.dropped = 0
        self._max_lines, self._max_bytes, self._report = max_lines, max_bytes, report
        self._lines: deque[bytes] = deque()
        self._bytes = 0
        self._told, self._told_at = 0, -report
        self._torn = self._closing = self._writing = self._urgent = False
        self._asleep = True
        self._state = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="log-writer", daemon=True)
        self._thread.start()

    @property
    def failing(self) -> bool:
        """Whether the last write failed."""
        return self._torn

    def write(self, message: Message) -> None:
        """Render and queue a record. loguru calls this from any thread."""
        self.put(self.render(message.record), urgent=True)

    def put(self, line: str, *, urgent: bool = False) -> None:
        """Queue one line without its newline, or drop and count it. Callable from any thread."""
        if self._closing or len(self._lines) >= self._max_lines or self._bytes >= self._max_bytes:
            with self._state:
                self.dropped += 1
            return
        data = _encoded(line)
        self._lines.append(data)
        self._bytes += len(data)  # may be inexact without the lock; each batch resets it
        if urgent or self._asleep:
            with self._state:
                self._asleep = False
                self._urgent = self._urgent or urgent
                self._state.notify_all()

    def flush(self, timeout: float = FLUSH_TIMEOUT) -> bool:
        """Wait until the queue is written; False after `timeout` seconds."""
        with self._state:
            self._urgent = True
            self._state.notify_all()
            return self._state.wait_for(lambda: not self._lines and not self._writing, timeout)

    def stop(self) -> None:
        """Write the queued lines within `FLUSH_TIMEOUT` seconds and end the thread. loguru calls this."""
        with self._state:
            self._closing = True
            self._state.notify_all()
        self._thread.join(FLUSH_TIMEOUT)

    def _run(self) -> None:
        while True:
            with self._state:
                self._asleep = True  # before checking the queue: a later `put` then wakes the thread
                self._state.wait_for(lambda: self._lines or self._closing, self._report)
                self._asleep = False
                self._state.wait_for(lambda: self._urgent or self._closing, GATHER)
                self._urgent = False
                self._writing = True
                batch = [self._lines.popleft() for _ in range(len(self._lines))]  # others may append meanwhile
                self._bytes = 0
                finished = self._closing and not batch
            self._write(batch)
            self._tell()
            with self._state:
                self._writing = False
                self._state.notify_all()
            if finished:
                self.destination.close()
                return

    def _write(self, batch: list[bytes]) -> None:
        start = 0
        while start < len(batch):
            end, size = start, 0
            while end < len(batch) and (size == 0 or size + len(batch[end]) <= MAX_CHUNK):
                size += len(batch[end])
                end += 1
            # A line truncated by a full disk must not merge with the next one.
            data = self._clean(b"".join(batch[start:end]))
            if self._recent is not None:
                self._recent.add(data)
            data = b"\n" + data if self._torn else data
            try:
                self.destination.write(data)
                self._torn = False
            except OSError as error:
                if not self._torn:
                    self._say(_STDERR, f"cannot be written, and lines are dropped: {error.strerror}")
                self._torn = True
                with self._state:
                    self.dropped += end - start
            start = end

    def _tell(self) -> None:
        if self.destination.problem != self._problem:
            self._problem = self.destination.problem
            if self._problem:
                self._say(self.destination, self._problem)
        with self._state:
            lost, now = self.dropped - self._told, time.monotonic()
            if not lost or self._torn or now - self._told_at < self._report:
                return
            self._told, self._told_at = self.dropped, now
        self._warn(self.destination, "log lines were dropped", dropped=lost)

    def _say(self, to: Destination, problem: str) -> None:
        """Report a problem of the file. A problem of standard error cannot be reported anywhere."""
        if self.destination.name != _STDERR.name:
            self._warn(to, f"the log file {problem}", file=self.destination.name)

    def _warn(self, to: Destination, message: str, **fields: object) -> None:
        """Write a line at once, past the queue and the configured level."""
        record: Any = {
            "time": datetime.now().astimezone(),
            "level": logger.level("WARNING"),
            "message": message,
            "extra": fields,
            "exception": None,
        }
        with contextlib.suppress(OSError):
            to.write(_encoded(self.render(record)))


_STDERR: Final = StderrDestination()


def _encoded(line: str) -> bytes:
    return line.encode("utf-8", "backslashreplace") + b"\n"
