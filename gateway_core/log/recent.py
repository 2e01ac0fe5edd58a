"""The last lines of the log, as they were written."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator
from typing import Final

MAX_BYTES: Final = 1024 * 1024
"""Bytes of the lines that are kept."""


class Recent:
    """Keeps what the writer of the log writes: chunks of lines, so that a line costs nothing. For several threads."""

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self._max_bytes = max_bytes
        self._chunks: deque[tuple[int, bytes]] = deque()
        """Chunks of lines, each with the number of its first line."""
        self._bytes = 0
        self._begun = self._next = time.time_ns() // 1000
        self._changing = threading.Lock()

    @property
    def last(self) -> int:
        """The number of the last line."""
        return self._next - 1

    def add(self, data: bytes) -> None:
        """Keep lines, of which each ends with a newline."""
        with self._changing:
            self._chunks.append((self._next, data))
            self._next += data.count(b"\n")
            self._bytes += len(data)
            while self._bytes > self._max_bytes and len(self._chunks) > 1:
                self._bytes -= len(self._chunks.popleft()[1])

    def missed(self, after: int) -> int:
        """How many of this process's lines after number `after` are not kept any more."""
        with self._changing:
            first = self._chunks[0][0] if self._chunks else self._next
        return max(0, first - max(after, self._begun - 1) - 1)

    def forwards(self, after: int) -> Iterator[tuple[int, bytes]]:
        """The lines with higher numbers than `after`, each with its number, oldest first."""
        for first, lines in self._kept():
            for number, line in enumerate(lines, first):
                if number > after and line:
                    yield number, line

    def backwards(self) -> Iterator[tuple[int, bytes]]:
        """The lines, each with its number, latest first."""
        for first, lines in reversed(self._kept()):
            for number in range(first + len(lines) - 1, first - 1, -1):
                if line := lines[number - first]:
                    yield number, line

    def _kept(self) -> list[tuple[int, list[bytes]]]:
        with self._changing:
            chunks = list(self._chunks)
        return [(first, data.split(b"\n")[:-1]) for first, data in chunks]
