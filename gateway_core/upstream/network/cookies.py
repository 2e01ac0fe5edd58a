"""Cookies of one session with an upstream, which load balancers set to find the right server again.

A jar is used for one origin only. `http.cookiejar` of the standard library applies the rules for path, secure and
expiry, as it does for the SDK client for Python.
"""

from __future__ import annotations

import re
from email.message import Message
from http.cookiejar import CookieJar
from typing import Any, Final, cast
from urllib.request import Request

from multidict import CIMultiDict
from yarl import URL

MAX_COOKIES: Final = 32
"""Maximum number of cookies of one session; more are ignored."""
MAX_COOKIE: Final = 4096
"""Maximum bytes of one `Set-Cookie` header; a longer one is ignored."""
MAX_SENT: Final = 8192
"""Maximum bytes of the `Cookie` header; cookies beyond it are not sent."""
_SENDABLE: Final = re.compile(r"[\t\x20-\x7e]*")
_SET_COOKIE: Final = "Set-Cookie"


class _Answer:
    """The headers of a response in the form that `http.cookiejar` reads."""

    def __init__(self, lines: list[str]) -> None:
        self._message = Message()
        for line in lines:
            self._message[_SET_COOKIE] = line

    def info(self) -> Message:
        return self._message


class Cookies:
    """The cookies that one upstream set in one session."""

    def __init__(self) -> None:
        self.any = False
        """Whether a cookie was ever set, so that requests may need a `Cookie` header."""
        self._jar: CookieJar | None = None

    def keep(self, url: URL, headers: CIMultiDict[str]) -> None:
        """Keep the cookies in the headers of a response from `url`."""
        given = [
            line
            for line in headers.getall(_SET_COOKIE, ())
            if len(line) <= MAX_COOKIE and _SENDABLE.fullmatch(line) is not None
        ]
        if not given:
            return
        self.any = True
        if self._jar is None:
            self._jar = CookieJar()
        self._jar.extract_cookies(cast(Any, _Answer(given)), Request(str(url)))  # noqa: S310 - only http and https
        for cookie in list(self._jar)[MAX_COOKIES:]:
            self._jar.clear(cookie.domain, cookie.path, cookie.name)

    def header(self, url: URL) -> str:
        """The value of the `Cookie` header for a request to `url`; empty for none."""
        if self._jar is None:
            return ""
        request = Request(str(url))  # noqa: S310 - only http and https
        self._jar.add_cookie_header(request)
        value = request.get_header("Cookie", "")
        while len(value) > MAX_SENT:
            value = value.rpartition("; ")[0]
        return value
