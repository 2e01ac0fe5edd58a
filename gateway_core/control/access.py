"""Who asks: the token of a request to the control plane, or the cookie and the page key."""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING, Final, NamedTuple

from gateway_core.control.browsers import BrowserSessions
from gateway_core.control.endpoint import Problem, Right

if TYPE_CHECKING:
    from aiohttp import web

CHALLENGE: Final = {"WWW-Authenticate": "Bearer"}
PAGE_KEY: Final = "Radium-Page-Key"
"""The header that carries the page key."""
_SAFE: Final = frozenset({"GET", "HEAD"})


class Sender(NamedTuple):
    """What the sender of a request may do."""

    right: Right
    browser: str = ""
    """The id of its browser session; empty without one."""


_STRANGER: Final = Sender("open")


class Access:
    """Decides what the sender of a request may do."""

    def __init__(self, change: str, read: str, browsers: BrowserSessions) -> None:
        """The two tokens; an empty one fits no request."""
        self._change = change
        self._read = read
        self._browsers = browsers

    def sender_of(self, request: web.Request) -> Sender:
        """What the sender may do.

        A cookie counts only without a token, only with its page key, and only from pages of the control plane.
        """
        if "Authorization" in request.headers:
            if has_token(request, self._change):
                return Sender("change")
            return Sender("read") if has_token(request, self._read) else _STRANGER
        cookie = request.cookies.get(cookie_name(request))
        page_key = request.headers.get(PAGE_KEY, "")
        found = self._browsers.session(cookie, page_key) if cookie and _is_same_origin(request) else None
        return _STRANGER if found is None else Sender(found.right, found.id)

    def is_proven(self, request: web.Request) -> bool:
        """Whether a request carries a token, which no web page of another site can know."""
        return has_token(request, self._change) or has_token(request, self._read)

    def check(self, request: web.Request, needed: Right) -> Sender:
        """What the sender may do. Raises `Problem` if that is less than `needed`."""
        sender = self.sender_of(request)
        if needed == "open" or sender.right in {needed, "change"}:
            return sender
        if sender.right == "open":
            raise Problem(401, "a token is required; `rad mcp proxy token` prints one", CHALLENGE)
        raise Problem(403, "this token, or the session of this browser, may only read")


def cookie_name(request: web.Request) -> str:
    """The name of the cookie. Cookies are the same for all ports of a host, so the name has the port."""
    address = None if request.transport is None else request.transport.get_extra_info("sockname")
    return f"radium-{address[1]}" if address else "radium"


def has_token(request: web.Request, token: str) -> bool:
    """Whether a request carries `token` as its one bearer token. An empty token fits no request."""
    values = request.headers.getall("Authorization", [])
    scheme, _, offered = values[0].partition(" ") if len(values) == 1 else ("", "", "")
    matches = hmac.compare_digest(offered.encode(errors="surrogateescape"), token.encode())
    return bool(token) and matches and scheme.lower() == "bearer"


def _is_same_origin(request: web.Request) -> bool:
    """Whether a request with a cookie comes from a page of the control plane.

    Browsers send cookies of this host to other ports, and SameSite ignores ports too. A request that changes something
    must prove where it comes from, by Origin or Sec-Fetch-Site.
    """
    origins = request.headers.getall("Origin", [])
    sites = request.headers.getall("Sec-Fetch-Site", [])
    here = request.headers.get("Host", "").lower()
    if any(origin.partition("://")[2].lower() != here for origin in origins):
        return False
    if request.method in _SAFE:
        return all(site in {"same-origin", "none"} for site in sites)
    return all(site == "same-origin" for site in sites) and bool(origins or sites)
