"""What a child process writes to its stderr: a log of its own, not an error of ours (transports/stdio)."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final

from gateway_core.log.escaping import escape
from gateway_core.upstream.concealing import Concealer


class StderrTail:
    """A child's stderr: read at any rate, its last lines kept, a few of them logged, known secrets hidden."""

    LINES: Final = 20
    LENGTH: Final = 300
    """Characters of a line that are kept."""
    PER_SECOND: Final = 20
    """Lines that are logged in a second; the others are counted."""
    _LONGEST: Final = 4096

    def __init__(self, upstream: str, concealer: Concealer) -> None:
        self._upstream = upstream
        self._concealer = concealer
        self._lines: deque[str] = deque(maxlen=self.LINES)
        self._rest = b""
        self._second = 0
        self._logged = 0
        self._skipped = 0

    @property
    def last(self) -> str:
        """The last line that says something, the unfinished one included; empty when there is none."""
        rest = self._readable(self._rest)
        return rest or next(reversed(self._lines), "")

    def feed(self, data: bytes) -> None:
        first, *others = data.split(b"\n")
        self._rest += first[: self._LONGEST - len(self._rest)]
        if not others:
            return
        complete = [self._rest, *others[:-1]]
        self._rest = others[-1][: self._LONGEST]
        self._skipped += max(len(complete) - self.LINES, 0)
        for raw in complete[-self.LINES :]:
            line = self._readable(raw[: self._LONGEST])
            if line:
                self._lines.append(line)
                self._show(line)

    def _readable(self, raw: bytes) -> str:
        text = raw.decode("utf-8", "replace").strip()
        return escape(self._concealer.hide(text))[: self.LENGTH]

    def _show(self, line: str) -> None:
        second = int(asyncio.get_running_loop().time())
        if second != self._second:
            self._second, self._logged = second, 0
        if self._logged >= self.PER_SECOND:
            self._skipped += 1
            return
        self._logged += 1
        from loguru import logger  # noqa: PLC0415 - the first children are started before it is there

        logger.bind(upstream=self._upstream, line=line, skipped=self._skipped).debug("stderr of the server")
        self._skipped = 0
