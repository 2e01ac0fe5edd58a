"""What a session store keeps of one legacy session: plain values, which can be serialised for another process."""

from __future__ import annotations

import hashlib
import secrets

import msgspec

from gateway_core.downstream.auth.caller import Caller


class SessionRecord(msgspec.Struct, eq=False):
    """One legacy session. Times are in seconds on the clock of its store."""

    id: str
    caller: Caller
    """Who opened it; see `Caller.key`."""
    owner: str
    """The principal's id for session limits; a later `initialize` does not change it."""
    used: float
    """Time of the last use: a message came in, or the last request or a GET stream ended."""
    on_channel: bool = False
    """Whether it is bound to a two-way channel, the only way to reach its agent."""
    protocol_version: str = ""
    """The negotiated version; empty before `initialize`."""
    client_info: bytes = b""
    """The JSON of the agent's `Implementation`; empty if it sent none."""
    capabilities: bytes = b"{}"
    """The JSON of the agent's `ClientCapabilities`."""
    ready: bool = False
    """Whether the agent has sent `notifications/initialized`; before that it gets no change notifications."""
    log_level: str = ""
    """The lowest log level that the agent wants; empty (no log messages) until it sets one."""
    uris: list[str] = []
    """The resources that the agent has subscribed to, by the URIs that it knows."""
    streams: int = 0
    """The number of open GET streams."""
    busy_since: float | None = None
    """Time since which it has always had requests in flight; None without any."""

    @property
    def key(self) -> str:
        """A name of the session that does not grant access to it, unlike its id."""
        return hashlib.sha256(b"session key of " + self.id.encode()).hexdigest()[:32]

    @property
    def busy(self) -> bool:
        """Whether it has open streams or calls in flight; if so, it does not expire."""
        return self.streams > 0 or self.busy_since is not None

    @property
    def gives_way(self) -> bool:
        """Whether it may be evicted for a new one. After a 404 its agent initializes again; on a channel it cannot."""
        return self.busy_since is None and not self.on_channel

    def introduce(self, protocol_version: str, client_info: bytes, capabilities: bytes) -> None:
        """Record what the agent said in `initialize`, and the negotiated version."""
        self.protocol_version, self.client_info, self.capabilities = protocol_version, client_info, capabilities

    def set_log_level(self, level: str) -> None:
        """Record the level that the agent wants."""
        self.log_level = level

    def renew(self, caller: Caller) -> None:
        """Record what the same caller proves now, which may be other rights than before."""
        self.caller = caller

    def initialized(self) -> None:
        """Record that the agent is ready; no effect before `initialize`."""
        self.ready = bool(self.protocol_version)

    def subscribed(self, uri: str) -> None:
        """Record a subscription to a resource; no effect if it is recorded already."""
        if uri not in self.uris:
            self.uris.append(uri)

    def unsubscribed(self, uri: str) -> None:
        """Remove the record of a subscription; no effect without one."""
        if uri in self.uris:
            self.uris.remove(uri)

    def touch(self, now: float) -> None:
        self.used = now

    def calls_begun(self, now: float) -> None:
        """Record that the first request is in flight."""
        self.busy_since = now

    def calls_ended(self, now: float) -> None:
        """Record that the last request in flight has ended."""
        self.used, self.busy_since = now, None

    def stream_opened(self) -> None:
        self.streams += 1

    def stream_ended(self, now: float) -> None:
        self.streams -= 1
        self.used = now


def new_record(caller: Caller, owner: str, now: float, *, on_channel: bool = False) -> SessionRecord:
    """The record of a new session, with a random id."""
    return SessionRecord(secrets.token_urlsafe(32), caller, owner, now, on_channel)
