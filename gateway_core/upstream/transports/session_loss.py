"""How servers say that a session is lost, besides the HTTP 404 of the specification (2025-11-25, Session Management).

Servers answer 400, 401 or 410, with a JSON-RPC error, a text or neither; some answer 200 with a JSON-RPC error. Such an
answer alone proves nothing: a tool may have sessions, too. `HttpConnection` then asks the server.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

from gateway_core.errors import METHOD_NOT_FOUND, RpcError

_SPEAKS: Final = re.compile(r"session|initiali[sz]", re.IGNORECASE)
_GONE: Final = 410
PROBES: Final = ("ping", "tools/list")
"""Requests that show whether a server still knows a session. Some servers answer a ping in any."""


class Failure(msgspec.Struct, frozen=True):
    """The parts of a failed response that may say that the session is lost."""

    status: int
    error: RpcError | None
    """The JSON-RPC error in its body."""
    ours: bool
    """Whether the error has the id of the request."""
    text: str
    """What the server says: the error's message, or its body and `WWW-Authenticate`. Never shown."""

    @property
    def ends_session(self) -> bool:
        """Whether it ends a session with an id: a 404, or a 400 without the request's id that mentions sessions."""
        if self.status == 404:
            return not (self.ours and self.error is not None)
        return self.status == 400 and self.error is not None and not self.ours and "session" in self.text.lower()

    @property
    def is_suspicious(self) -> bool:
        """Whether it may mean that the session is lost."""
        if self.status == 404 and self.error is not None:
            return self.error.code != METHOD_NOT_FOUND or speaks_of_session(self.text)
        return self.status == _GONE or speaks_of_session(self.text)


def speaks_of_session(text: str) -> bool:
    """Whether a message mentions sessions or initialization."""
    return _SPEAKS.search(text) is not None
