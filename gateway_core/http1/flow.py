"""Pauses and resumes reading from the transport of one connection."""

from __future__ import annotations

import asyncio
from typing import Final

MAX_AHEAD: Final = 64 * 1024
"""Bytes of later requests that are buffered while one is being served."""
REST: Final = 0.001
"""Seconds until more of the buffered bytes are read; meanwhile other connections are served."""
DROPPED: Final = 16
"""Dropped bytes that count for one byte of a body."""


class ReadFlow:
    """Whether a transport is read. Both methods may be called at any time, also without effect."""

    __slots__ = ("_transport", "paused")

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self.paused = False
        """Whether the transport is not read."""

    def attach(self, transport: asyncio.Transport | None) -> None:
        """Set the transport; None once it is lost."""
        self._transport = transport

    def pause(self) -> None:
        """Read nothing more until `resume`."""
        transport = self._transport
        if not self.paused and transport is not None and not transport.is_closing():
            self.paused = True
            transport.pause_reading()

    def pause_for(self, seconds: float) -> None:
        """Read nothing for some seconds; 0 changes nothing."""
        if seconds:
            self.pause()
            asyncio.get_running_loop().call_later(seconds, self.resume)

    def resume(self) -> None:
        """Read on."""
        transport = self._transport
        if self.paused and transport is not None and not transport.is_closing():
            self.paused = False
            transport.resume_reading()
