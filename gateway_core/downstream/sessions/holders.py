"""Who holds how many sessions: networks, and the owners within each network."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Final

from gateway_core.downstream.sessions.record import SessionRecord

LOOKED_AT: Final = 128
"""Sessions to search for the idlest, when many holders have equally many."""


class Holders:
    """Names by the number of sessions that each has; among equals, the least recently examined first."""

    def __init__(self) -> None:
        self._by_number: dict[int, dict[str, None]] = {}
        self._numbers: dict[str, int] = {}

    def moved(self, name: str, number: int) -> None:
        """Record how many sessions a name has now."""
        before = self._numbers.pop(name, 0)
        if before:
            del self._by_number[before][name]
            if not self._by_number[before]:
                del self._by_number[before]
        if number:
            self._numbers[name] = number
            self._by_number.setdefault(number, {})[name] = None

    def idlest_above(self, number: int, idlest_of: Callable[[str], SessionRecord | None]) -> SessionRecord | None:
        """The session to evict of the names with most sessions, more than `number`. None if none may end.

        `idlest_of` returns the one of a name. Of equals, about `LOOKED_AT` sessions are looked at; their names then
        move to the end of the order.
        """
        for held in sorted((it for it in self._by_number if it > number), reverse=True):
            names, looked_at, found = self._by_number[held], list[str](), list[SessionRecord]()
            for name in names:
                looked_at.append(name)
                candidate = idlest_of(name)
                if candidate is not None:
                    found.append(candidate)
                if found and len(looked_at) * held >= LOOKED_AT:
                    break
            for name in looked_at:
                del names[name]
                names[name] = None
            if found:
                return idlest(found)
        return None


class Network:
    """The sessions of one network, by their owners."""

    def __init__(self) -> None:
        self._owned: dict[str, dict[str, SessionRecord]] = {}
        """Owner -> its sessions, by session id. Without empty entries."""
        self._owners = Holders()
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[SessionRecord]:
        return (session for owned in self._owned.values() for session in owned.values())

    def of(self, owner: str) -> dict[str, SessionRecord]:
        """The sessions of an owner, by session id."""
        return self._owned.get(owner, {})

    def put(self, session: SessionRecord) -> None:
        """Add a session, or replace its record."""
        owned = self._owned.setdefault(session.owner, {})
        self._size += session.id not in owned
        owned[session.id] = session
        self._owners.moved(session.owner, len(owned))

    def remove(self, session: SessionRecord) -> None:
        """Remove a session of this network."""
        owned = self._owned[session.owner]
        del owned[session.id]
        self._size -= 1
        if not owned:
            del self._owned[session.owner]
        self._owners.moved(session.owner, len(owned))

    def idlest_above(self, number: int) -> SessionRecord | None:
        """The session to evict of the owners with most sessions, more than `number`. None if none may end."""
        return self._owners.idlest_above(number, lambda owner: idlest(self._owned[owner].values()))

    def idlest_for(self, owner: str) -> SessionRecord | None:
        """The session to evict for a new one of `owner`: of an owner with more, else its own. None if none may end."""
        own = self.of(owner)
        return self.idlest_above(len(own)) or idlest(own.values())


def idlest(sessions: Iterable[SessionRecord]) -> SessionRecord | None:
    """The session to evict first: the idlest without an open stream, else the idlest. None if none may end."""
    candidates = [session for session in sessions if session.gives_way]
    return min(candidates, key=lambda session: (session.streams > 0, session.used), default=None)
