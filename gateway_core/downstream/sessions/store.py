"""The store of legacy agents' sessions, its limits, and the choice of the session to evict.

A store keeps records, not sessions: nothing in its protocol is bound to one process. `sessions.py`, its only user, asks
it about new sessions, about sessions that this process does not serve yet, and once a second. Ordinary calls do not
reach it.

Many clients never send DELETE, so at a limit the idlest session is evicted. At the limit of a principal it is one of
that principal. At the overall limit it is one of the largest holder (`Caller.network`): a verified principal, or all
agents of one network that prove nothing, because they invent names at no cost. Those give way to verified principals,
and take no place of them. A new session is refused only if all candidates have calls in flight or a two-way channel.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Final, Protocol

from gateway_core.downstream.auth.caller import Caller
from gateway_core.downstream.sessions.due import Due
from gateway_core.downstream.sessions.holders import Holders, Network, idlest
from gateway_core.downstream.sessions.record import SessionRecord, new_record
from gateway_core.errors import RETRY_AFTER, TooManySessions
from gateway_core.limits.slices import sliced
from gateway_core.log.wording import count

MAX_WAIT: Final = 60.0
"""Maximum `Retry-After`, in seconds."""


class SessionStore(Protocol):
    """Keeps the records of legacy sessions, within limits.

    Several processes may share one. One of them serves a session at a time, and another one can continue from its
    record.
    """

    clock: Callable[[], float]
    """The clock of all times in the records, in seconds; the same for all processes that share the store."""

    def in_the_way(self, caller: Caller, owner: str) -> SessionRecord | None:
        """The session to end before `create`; None if there is room. Raises `TooManySessions` if all are in use."""

    def create(self, caller: Caller, owner: str, *, on_channel: bool = False) -> SessionRecord:
        """Create a session. Raises `TooManySessions` at a limit."""

    def adopt(self, record: SessionRecord) -> None:
        """Add the session of an earlier process. Raises `TooManySessions` at a limit."""

    def get(self, key: str, session_id: str) -> SessionRecord | None:
        """The session with that id; None unless a caller with that key opened it."""

    def save(self, record: SessionRecord) -> None:
        """Store a record that has changed.

        No effect if the session is unknown, because it was deleted, or if the stored record has a later `used`.
        """

    def delete(self, record: SessionRecord) -> None:
        """Remove a session; no effect if it is unknown."""

    def expire(self, served: Callable[[], Iterable[SessionRecord]]) -> Iterator[list[SessionRecord]]:
        """Remove the sessions that have been unused for too long.

        `served` returns all sessions that this process serves, as they are at the call; for stores that other processes
        share. Yields those of them that the store no longer has, because they expired or another process deleted them.
        The event loop may serve others after each list.
        """


class InMemorySessions:
    """Keeps records in this process, on the monotonic clock."""

    def __init__(self, limit: int, per_principal: int, idle: float) -> None:
        """At most `limit` sessions in all and `per_principal` of one owner; they expire after `idle` seconds."""
        self._limit = limit
        self._per_principal = per_principal
        self._idle = idle
        self.clock: Callable[[], float] = time.monotonic
        self._sessions: dict[tuple[str, str], SessionRecord] = {}
        self._networks: dict[str, Network] = {}
        """`Caller.network` -> its sessions."""
        self._proven = Holders()
        self._unproven = Holders()
        """The networks of callers who prove who they are, and of those who do not."""
        self._expiry: Due[tuple[str, str]] = Due()
        """The earliest time at which each session may expire. Use of the session does not move it."""

    def limit_to(self, limit: int, per_principal: int, idle: float) -> None:
        """Apply other limits, whose meaning is that of the constructor's. Open sessions stay until they expire."""
        self._limit, self._per_principal = limit, per_principal
        if idle != self._idle:
            self._idle = idle
            for key, session in self._sessions.items():
                self._expiry.put(key, session.used + idle)

    def in_the_way(self, caller: Caller, owner: str) -> SessionRecord | None:
        own = self._network(caller).of(owner)
        if len(own) >= self._per_principal:
            found = idlest(own.values())
            if found is None:
                raise self._full(owner, own.values())
            return found
        if len(self._sessions) >= self._limit:
            found = self._of_the_largest(caller, owner)
            if found is None:
                raise self._full(None, self._sessions.values())
            return found
        return None

    def _network(self, caller: Caller) -> Network:
        return self._networks.get(caller.network) or Network()

    def _of_the_largest(self, caller: Caller, owner: str) -> SessionRecord | None:
        """The session to evict for one of `owner`: of a network with more sessions than its own, else of its own."""
        own = self._network(caller)
        bounds = [(self._unproven, len(own))]
        if caller.principal is not None:
            bounds = [(self._unproven, 0), (self._proven, len(own))]
        for holders, number in bounds:
            found = holders.idlest_above(number, lambda name: self._networks[name].idlest_above(0))
            if found is not None:
                return found
        return own.idlest_for(owner)

    def _full(self, owner: str | None, sessions: Iterable[SessionRecord]) -> TooManySessions:
        """The error at the limit of `owner`, or at the overall limit (None), when all `sessions` are in use."""
        wait = _until_one_is_free(sessions, self.clock())
        if owner is not None:
            problem = f"{owner} is at its limit of {count(self._per_principal, 'session')}, and all of them are in use"
            return TooManySessions(problem, everybody=False, wait=wait)
        problem = f"the limit of {count(self._limit, 'session')} is reached, and all that could end are in use"
        return TooManySessions(problem, everybody=True, wait=wait)

    def create(self, caller: Caller, owner: str, *, on_channel: bool = False) -> SessionRecord:
        session = new_record(caller, owner, self.clock(), on_channel=on_channel)
        self.adopt(session)
        return session

    def adopt(self, record: SessionRecord) -> None:
        caller, owner = record.caller, record.owner
        owned = self._network(caller).of(owner)
        if len(owned) >= self._per_principal:
            raise self._full(owner, owned.values())
        if len(self._sessions) >= self._limit:
            raise self._full(None, self._sessions.values())
        self._sessions[caller.key, record.id] = record
        self._expiry.put((caller.key, record.id), record.used + self._idle)
        network = self._networks.setdefault(caller.network, Network())
        network.put(record)
        self._holders(caller).moved(caller.network, len(network))

    def get(self, key: str, session_id: str) -> SessionRecord | None:
        return self._sessions.get((key, session_id))

    def delete(self, record: SessionRecord) -> None:
        known = self._sessions.pop((record.caller.key, record.id), None)
        if known is None:
            return
        self._expiry.remove((record.caller.key, record.id))
        name = known.caller.network
        network = self._networks[name]
        network.remove(known)
        if not len(network):
            del self._networks[name]
        self._holders(known.caller).moved(name, len(network))

    def _holders(self, caller: Caller) -> Holders:
        return self._unproven if caller.principal is None else self._proven

    def save(self, record: SessionRecord) -> None:
        known = self._sessions.get((record.caller.key, record.id))
        if known is not None and known.used <= record.used:
            self._sessions[record.caller.key, record.id] = record
            self._networks[record.caller.network].put(record)

    def expire(self, served: Callable[[], Iterable[SessionRecord]]) -> Iterator[list[SessionRecord]]:
        now = self.clock()
        for keys in sliced(self._expiry.take(now)):
            yield [session for key in keys if (session := self._expired(key, now)) is not None]

    def _expired(self, key: tuple[str, str], now: float) -> SessionRecord | None:
        """Remove a session if it has expired, and return it; otherwise look at it again when it may expire."""
        session = self._sessions.get(key)
        if session is None:
            return None
        used = now if session.busy else session.used
        if used + self._idle > now:
            self._expiry.put(key, used + self._idle)
            return None
        self.delete(session)
        return session

    def __len__(self) -> int:
        return len(self._sessions)


def _until_one_is_free(sessions: Iterable[SessionRecord], now: float) -> float | None:
    """Estimated seconds until one of `sessions` has no calls; None if only the end of a connection makes room.

    A session is expected to stay busy for as long as it has been, so this is the shortest time since `busy_since`.
    Messages of its agent do not end its calls, so `used` does not count.
    """
    begun = [it.busy_since for it in sessions if it.busy_since is not None and not it.on_channel]
    return min(max(RETRY_AFTER, now - max(begun)), MAX_WAIT) if begun else None
