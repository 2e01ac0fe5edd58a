"""The browsers that may use the control plane: a code for one use makes a session, a cookie and a page key carry it.

Browsers send a cookie to every port of its host. The page key is in the storage of the pages, which browsers keep apart
by port; but scripts can read it, which they cannot do with the cookie. Only both together are the session.
"""

from __future__ import annotations

import hmac
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from gateway_core.control.endpoint import Right

MAX_CODES: Final = 16
"""Maximum codes that wait for a browser; one more replaces the oldest."""
CODE_TIME: Final = 60.0
"""Seconds in which a code can be used."""
MAX_SESSIONS: Final = 32
"""Maximum sessions; one more ends the oldest."""
SESSION_TIME: Final = 12 * 3600.0
"""Seconds until a session ends."""


@dataclass(frozen=True, slots=True)
class Browser:
    """A code that waits for its browser, or the session of one."""

    id: str
    secret: str
    """The code, or the value of the session's cookie."""
    right: Right
    ends: float
    page_key: str = ""
    """Of a session: what its pages send with each request."""

    def __repr__(self) -> str:
        return f"Browser(id={self.id!r}, right={self.right!r})"


class BrowserSessions:
    """The codes and sessions of one gateway. A restart hands the sessions on."""

    def __init__(self, kept: Sequence[Browser] = (), clock: Callable[[], float] = time.monotonic) -> None:
        """`kept`: the sessions of the process before; those without a page key end.

        `clock`: of the machine, in seconds.
        """
        self._clock = clock
        self._codes: dict[str, Browser] = {}
        self._sessions = {one.id: one for one in kept if one.page_key}

    def issue(self, right: Right) -> Browser:
        """A code with which one browser may get `right`."""
        return self._add(self._codes, right, CODE_TIME, MAX_CODES)

    def waiting(self) -> list[str]:
        """The ids of the codes that can still be used."""
        self._end_late(self._codes)
        return list(self._codes)

    def enter(self, code: str) -> Browser | None:
        """Use a code up. Returns the session that it makes; None if the code cannot be used."""
        found = self._find(self._codes, code)
        if found is None:
            return None
        del self._codes[found.id]
        return self._add(self._sessions, found.right, SESSION_TIME, MAX_SESSIONS, secrets.token_urlsafe(32))

    def session(self, cookie: str, page_key: str) -> Browser | None:
        """The session that a cookie and a page key belong to."""
        found = self._find(self._sessions, cookie)
        return found if found is not None and _is_same(found.page_key, page_key) else None

    def sessions(self) -> list[tuple[Browser, float]]:
        """The sessions, each with the seconds until it ends."""
        self._end_late(self._sessions)
        now = self._clock()
        return [(one, one.ends - now) for one in self._sessions.values()]

    def end(self, browser: str) -> bool:
        """End a session by its id. Returns whether there was one."""
        return self._sessions.pop(browser, None) is not None

    def _add(self, known: dict[str, Browser], right: Right, lifetime: float, limit: int, page_key: str = "") -> Browser:
        made = Browser(secrets.token_hex(4), secrets.token_urlsafe(32), right, self._clock() + lifetime, page_key)
        known[made.id] = made
        while len(known) > limit:
            del known[next(iter(known))]
        return made

    def _find(self, known: dict[str, Browser], offered: str) -> Browser | None:
        self._end_late(known)
        matches = [one for one in known.values() if _is_same(one.secret, offered)]
        return matches[0] if matches else None

    def _end_late(self, known: dict[str, Browser]) -> None:
        now = self._clock()
        for one in [one for one in known.values() if one.ends <= now]:
            del known[one.id]


def _is_same(secret: str, offered: str) -> bool:
    """Whether `offered` is the secret. An empty secret matches nothing."""
    return bool(secret) and hmac.compare_digest(secret.encode(), offered.encode(errors="replace"))
