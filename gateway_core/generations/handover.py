"""What a gateway leaves to the next process, which takes its place under the same process id.

Descriptors stay open when the process runs another program. The bytes contain secrets: a key, and requests of agents.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence

import msgspec

from gateway_core.control.browsers import Browser


class Listening(msgspec.Struct):
    """A listener: its address as the configuration has it, and the descriptors of its sockets."""

    host: str = ""
    port: int = 0
    descriptors: list[int] = []

    def is_at(self, host: str, port: int) -> bool:
        """Whether this is the address."""
        return (host, port) == (self.host, self.port)

    def sockets(self, host: str, port: int) -> Sequence[socket.socket]:
        """The sockets, if this is still the address; otherwise none, and they are closed."""
        descriptors, self.descriptors = self.descriptors, []
        if not self.is_at(host, port):
            for descriptor in descriptors:
                os.close(descriptor)
            return ()
        return [socket.socket(fileno=descriptor) for descriptor in descriptors]


class Handover(msgspec.Struct):
    """The sockets of a gateway, and what it knows that is in no file."""

    agents: Listening = msgspec.field(default_factory=Listening)
    control: Listening = msgspec.field(default_factory=Listening)
    connections: list[tuple[int, bytes]] = []
    """Connections of agents, each with what was received on it and not served."""
    secret: bytes = b""
    """See `Seal`."""
    browsers: list[Browser] = []
    """The sessions of the dashboard."""

    @property
    def descriptors(self) -> list[int]:
        """All descriptors."""
        return [*self.agents.descriptors, *self.control.descriptors, *(number for number, _ in self.connections)]
