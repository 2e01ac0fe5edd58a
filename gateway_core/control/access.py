"""Who asks: the token of a request to the control plane."""

from __future__ import annotations

import hmac
from typing import Final

from aiohttp import web

from gateway_core.control.endpoint import Problem, Right

CHALLENGE: Final = {"WWW-Authenticate": "Bearer"}


class Access:
    """Decides what the sender of a request may do."""

    def __init__(self, token: str) -> None:
        """`token`: for everything; an empty one lets no request in."""
        self._token = token

    def right_of(self, request: web.Request) -> Right:
        """What the sender may do."""
        return "change" if has_token(request, self._token) else "open"

    def check(self, request: web.Request, needed: Right) -> Right:
        """What the sender may do. Raises `Problem` if that is less than `needed`."""
        right = self.right_of(request)
        if needed != "open" and right == "open":
            raise Problem(401, "the admin token is required", CHALLENGE)
        return right


def has_token(request: web.Request, token: str) -> bool:
    """Whether a request carries `token` as its one bearer token. An empty token fits no request."""
    values = request.headers.getall("Authorization", [])
    scheme, _, offered = values[0].partition(" ") if len(values) == 1 else ("", "", "")
    matches = hmac.compare_digest(offered.encode(errors="surrogateescape"), token.encode())
    return bool(token) and matches and scheme.lower() == "bearer"
