"""Names of header fields in the form that `CIMultiDict` does not convert at each use."""

from __future__ import annotations

from typing import Final

from multidict import istr

ACCEPT: Final = istr("Accept")
ACCEPT_ENCODING: Final = istr("Accept-Encoding")
AUTHORIZATION: Final = istr("Authorization")
CACHE_CONTROL: Final = istr("Cache-Control")
CONNECTION: Final = istr("Connection")
CONTENT_TYPE: Final = istr("Content-Type")
COOKIE: Final = istr("Cookie")
HOST: Final = istr("Host")
LAST_EVENT_ID: Final = istr("Last-Event-ID")
LOCATION: Final = istr("Location")
PROXY_AUTHORIZATION: Final = istr("Proxy-Authorization")
RETRY_AFTER: Final = istr("Retry-After")
USER_AGENT: Final = istr("User-Agent")
WWW_AUTHENTICATE: Final = istr("WWW-Authenticate")
