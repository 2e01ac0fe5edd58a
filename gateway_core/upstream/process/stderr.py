"""Reads the stderr of a child process: its log, not necessarily errors (transports/stdio)."""

from __future__ import annotations

import asyncio
import re
from collections import deque
from typing import Final

from gateway_core.log.escaping import escape
from gateway_core.upstream.concealing import Concealer

_EPILOGUE: Final = re.compile(
    r"""
      Node\.js\ v\d | (code|errno|syscall|path|requireStack|cause):\ .*,?$ | [\]})]+,?$     # Node.js
    | Require\ stack:$ | -\ /
    | at\ \S+.*[:(] | at\ \S+:\d+ | \.\.\.\ \d+\ more                                       # Node.js and Java: frames
    | note:\ run\ with\ `RUST_BACKTRACE | stack\ backtrace:$                                # Rust
    | goroutine\ \d+ | exit\ status\ \d+$ | [\w./()*]+\([0-9a-fx,?{}.\s]*\)$ | \S+\.go:\d+  # Go
    | npm\ (error|ERR!)\ (A\ complete\ log|\s*$)
    """,
    re.VERBOSE,
)
"""Lines after an error that do not say what it was."""
_HINT: Final = re.compile(
    r"(\S+: )?(run|see|try|use|type|usage|for more|(for )?help)\b.*"
    r"(for (more|further) (information|details|help)|--help|https?://|usage:)|usage:|(\S+: )?see ",
    re.IGNORECASE,
)
"""Lines that tell the reader what to do next."""
_ERROR: Final = re.compile(r"error|cannot|can't|failed|denied|not found|refused|fatal|panic", re.IGNORECASE)


class StderrTail:
    """Keeps the last lines of a child's stderr, logs them at a limited rate, and hides known secrets."""

    KEPT: Final = 200
    """Lines that are kept."""
    LINES: Final = 20
    """Lines among which `last` looks, and lines of one chunk that are read."""
    LENGTH: Final = 300
    """Maximum characters kept of a line."""
    PER_SECOND: Final = 20
    """Maximum lines logged per second; the others are only counted."""
    _LONGEST: Final = 4096
    _BEFORE: Final = 256
    """Characters of a line that are searched together with the next one."""

    def __init__(self, upstream: str, concealer: Concealer) -> None:
        self._upstream = upstream
        self._concealer = concealer
        self._lines: deque[str] = deque(maxlen=self.KEPT)
        self._rest = b""
        self._before = ""
        self._second = 0
        self._logged = 0
        self._skipped = 0

    @property
    def last(self) -> str:
        """The last line that says something, complete or not: not a stack frame or a runtime's epilogue.

        A hint, such as `Run 'docker run --help'`, gives way to the last line above it that reads like an error. If no
        line says something, the last line; empty if there is none.
        """
        lines = self.lines[-self.LINES :]
        telling = [line for line in reversed(lines) if not _EPILOGUE.match(line)] or lines[-1:]
        first = telling[0] if telling else ""
        if not _HINT.match(first):
            return first
        return next((line for line in telling if _ERROR.search(line) and not _HINT.match(line)), first)

    @property
    def lines(self) -> list[str]:
        """The last lines, oldest first; the last one may be incomplete."""
        rest, _ = self._readable(self._rest)
        return [*self._lines, rest] if rest else [*self._lines]

    def feed(self, data: bytes) -> None:
        first, *others = data.split(b"\n")
        self._rest += first[: self._LONGEST - len(self._rest)]
        if not others:
            return
        complete = [self._rest, *others[:-1]]
        self._rest = others[-1][: self._LONGEST]
        self._skipped += max(len(complete) - self.LINES, 0)
        for raw in complete[-self.LINES :]:
            line, self._before = self._readable(raw[: self._LONGEST])
            if line:
                self._lines.append(line)
                self._show(line)

    def _readable(self, raw: bytes) -> tuple[str, str]:
        """The line as it may be shown, and its end as the server wrote it."""
        text = raw.decode("utf-8", "replace").strip()
        return escape(self._concealer.hide(text, self._before))[: self.LENGTH], text[-self._BEFORE :]

    def _show(self, line: str) -> None:
        second = int(asyncio.get_running_loop().time())
        if second != self._second:
            self._second, self._logged = second, 0
        if self._logged >= self.PER_SECOND:
            self._skipped += 1
            return
        self._logged += 1
        from loguru import logger  # noqa: PLC0415 - early children start before it is loaded

        logger.bind(upstream=self._upstream, line=line, skipped=self._skipped).debug("stderr of the server")
        self._skipped = 0
