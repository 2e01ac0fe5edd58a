"""Where the sessions of legacy agents are kept, how many there may be, and which one ends for a new one.

Many clients never send DELETE. At a limit the session that was idle longest ends, so that only sessions with a call in
flight keep a new one out: at the limit of a principal one of its own, at the limit of all one of the principal that
has most.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Final, Protocol

from gateway_core.downstream.sessions.live import Session
from gateway_core.errors import RETRY_AFTER, TooManySessions

LOOKED_AT: Final = 128
"""Sessions among which the idlest is looked for, at the limit of all, where many principals have equally many."""
MAX_WAIT: Final = 60.0
"""Longest `Retry-After`, in seconds."""


class SessionStore(Protocol):
    """Where sessions are kept. The one place to replace for sessions that outlive or are shared by processes."""

    def in_the_way(self, owner: str) -> Session | None:
        """The session to end before `create` has room; None if it has. Raises `TooManySessions`: all are in use."""

    def create(self, address: str, owner: str) -> Session:
        """A new session. Raises `TooManySessions`."""

    def get(self, address: str, session_id: str) -> Session | None:
        """The session of that id, if that address opened it."""

    def delete(self, session: Session) -> None:
        """Forget a session; one that is unknown already is no error."""

    def expire(self) -> list[Session]:
        """Forget the sessions that nobody has used for too long, and return them."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Session]: ...


class InMemorySessions:
    """Sessions of this process. Ages count on the monotonic clock."""

    def __init__(self, limit: int, per_principal: int, idle: float) -> None:
        """`limit` sessions in all, `per_principal` of one owner, `idle` seconds without use."""
        self._limit = limit
        self._per_principal = per_principal
        self._idle = idle
        self._sessions: dict[tuple[str, str], Session] = {}
        self._owned: dict[str, dict[str, Session]] = {}
        """Owner -> its sessions by their ids."""
        self._holders: dict[int, dict[str, None]] = {}
        """Number of sessions -> the owners that have so many, those that were not looked at for longest first."""

    def in_the_way(self, owner: str) -> Session | None:
        own = self._owned.get(owner, {})
        if len(own) >= self._per_principal:
            found = _idlest(own.values())
            if found is None:
                raise self._full(owner, own.values())
            return found
        if len(self._sessions) >= self._limit:
            found = self._of_the_largest(owner, len(own))
            if found is None:
                raise self._full(None, self._sessions.values())
            return found
        return None

    def _of_the_largest(self, owner: str, number: int) -> Session | None:
        """The session that gives way to one of `owner`, who has `number`: of no principal that has fewer."""
        for held in sorted(self._holders, reverse=True):
            if held <= number:
                break
            found = self._idlest_among(self._holders[held], held)
            if found is not None:
                return found
        return _idlest(self._owned[owner].values()) if number else None

    def _idlest_among(self, holders: dict[str, None], held: int) -> Session | None:
        """The idlest session of the first `holders`, who have `held` each; the others come first the next time."""
        found: Session | None = None
        looked_at: list[str] = []
        for holder in holders:
            candidates = self._owned[holder].values()
            found = _idlest(candidates if found is None else chain((found,), candidates))
            looked_at.append(holder)
            if found is not None and len(looked_at) * held >= LOOKED_AT:
                break
        for holder in looked_at:
            del holders[holder]
            holders[holder] = None
        return found

    def _full(self, owner: str | None, sessions: Iterable[Session]) -> TooManySessions:
        """The refusal at the limit of `owner`, or of all (None), where each of `sessions` is in use."""
        wait = _until_one_is_free(sessions)
        if owner is not None:
            problem = f"{owner} has {self._per_principal} sessions open, its limit, and all of them are in use"
            return TooManySessions(problem, everybody=False, wait=wait)
        problem = f"{self._limit} sessions are open, which is the limit, and all that could end are in use"
        return TooManySessions(problem, everybody=True, wait=wait)

    def create(self, address: str, owner: str) -> Session:
        owned = self._owned.get(owner, {})
        if len(owned) >= self._per_principal:
            raise self._full(owner, owned.values())
        if len(self._sessions) >= self._limit:
            raise self._full(None, self._sessions.values())
        session = Session(address, owner)
        self._sessions[address, session.id] = session
        self._owned.setdefault(owner, owned)[session.id] = session
        self._moved(owner, len(owned) - 1)
        return session

    def get(self, address: str, session_id: str) -> Session | None:
        return self._sessions.get((address, session_id))

    def delete(self, session: Session) -> None:
        if self._sessions.pop((session.address, session.id), None) is None:
            return
        owner = session.owner
        owned = self._owned[owner]
        del owned[session.id]
        if not owned:
            del self._owned[owner]
        self._moved(owner, len(owned) + 1)

    def _moved(self, owner: str, before: int) -> None:
        """File an owner by the number of its sessions, which was `before`."""
        if before:
            del self._holders[before][owner]
            if not self._holders[before]:
                del self._holders[before]
        if owner in self._owned:
            self._holders.setdefault(len(self._owned[owner]), {})[owner] = None

    def expire(self) -> list[Session]:
        oldest = time.monotonic() - self._idle
        expired = [session for session in self if session.used < oldest and not session.busy]
        for session in expired:
            self.delete(session)
        return expired

    def __len__(self) -> int:
        return len(self._sessions)

    def __iter__(self) -> Iterator[Session]:
        return iter(list(self._sessions.values()))


def _idlest(sessions: Iterable[Session]) -> Session | None:
    """The session that gives way first: without an open stream if there is one, and idle for longest."""
    candidates = [session for session in sessions if session.gives_way]
    return min(candidates, key=lambda session: (session.streams > 0, session.used), default=None)


def _until_one_is_free(sessions: Iterable[Session]) -> float | None:
    """Seconds until a call of `sessions` may have ended; None where only the end of a connection makes room.

    A call that has run for some time runs on for about as long, so this is the age of the youngest.
    """
    begun = [session.used for session in sessions if session.calls and not session.own_channel]
    return min(max(RETRY_AFTER, time.monotonic() - max(begun)), MAX_WAIT) if begun else None
