"""Ports for the servers and gateways that tests start."""

from __future__ import annotations

import contextlib
import random
import socket
from pathlib import Path
from typing import Final

# Below those that Linux (32768), macOS and Windows (49152) give to outgoing connections and to whoever binds port 0:
# one of those can be taken between the moment that it was found free and the moment that a child binds it.
_RANGE: Final = range(20_000, 32_000)
_given: Final[set[int]] = set()


def free_port() -> int:
    """A port of 127.0.0.1 that nothing listens on, never the same twice in one process."""
    while True:
        port = random.choice(_RANGE)
        if port in _given:
            continue
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            _given.add(port)
            return port


_OPEN: Final = ("01", "08")
"""States in `/proc/net/tcp`: established, and closed by the peer alone."""


def connected(port: int) -> bool:
    """Whether a client has an open connection to a port, also one that it has not seen closed. False outside Linux.

    A client that was not scheduled since its server was killed still sends the next request to it.
    """
    try:
        lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    except OSError:
        return False
    fields = (line.split() for line in lines)
    return any(one[2].endswith(f":{port:04X}") and one[3] in _OPEN for one in fields)
