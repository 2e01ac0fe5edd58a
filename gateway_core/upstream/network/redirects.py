"""Redirects of an upstream (RFC 9110, section 15.4).

Only 307 and 308 keep method and body, and they say that the request was not executed. They are followed within the
origin of the configured URL, because the request carries credentials. The other ones are followed for a GET alone.
"""

from __future__ import annotations

from typing import Final

from yarl import URL

from gateway_core.errors import RefusedUpstream
from gateway_core.http1.client import field_names
from gateway_core.http1.client.response import ClientResponse
from gateway_core.upstream.base import NoMcpAnswer

MAX_REDIRECTS: Final = 5
"""Maximum number of redirects of one request."""
MAX_LOCATION: Final = 4096
"""Maximum length of a `Location` header in bytes."""
KEEPING: Final = frozenset({307, 308})
"""Statuses that keep the method and the body."""
REDIRECTS: Final = frozenset({301, 302, 303, *KEEPING})


def destination(response: ClientResponse, verb: str, url: URL) -> URL:
    """The URL that a redirect from `url` leads to.

    Raises `RefusedUpstream` for a redirect that is not followed and proves that the request was not executed, and
    `NoMcpAnswer` for others.
    """
    status = response.status
    found = _location(response, url)
    if status not in KEEPING and verb != "GET":
        where = "" if found is None else f" to {found.origin()}"
        raise NoMcpAnswer(
            f"it redirects with HTTP {status}{where}, which turns a POST into a GET; "
            "set url to the address that serves MCP"
        )
    if found is None:
        raise NoMcpAnswer(f"HTTP {status} without a usable Location")
    if found.origin() != url.origin() or found.raw_user not in (None, url.raw_user):
        raise RefusedUpstream(
            f"it redirects to {found.origin()}, another origin, which is not followed; set url to the new address "
            "if you trust it",
            status=status,
        )
    return found


def _location(response: ClientResponse, url: URL) -> URL | None:
    """The absolute URL in `Location` without its fragment; None if it is missing, repeated or malformed."""
    given = response.headers.getall(field_names.LOCATION, ())
    if len(given) != 1 or not 0 < len(given[0]) <= MAX_LOCATION or not given[0].isprintable():
        return None
    try:
        found = url.join(URL(given[0].strip())).with_fragment(None)
        valid = found.scheme in {"http", "https"} and bool(found.host) and found.port is not None
    except ValueError:
        return None
    return found if valid else None


def redirected(head: bytes, target: bytes, cookie: str) -> bytes:
    """An encoded request head with another request target and another `Cookie` header (empty for none)."""
    verb, _, rest = head.partition(b" ")
    version, *lines = rest.partition(b" ")[2].split(b"\r\n")
    kept = [line for line in lines if not line.lower().startswith(b"cookie:")]
    if cookie:
        kept.insert(0, b"Cookie: %b" % cookie.encode("latin-1"))
    return b"%b %b %b" % (verb, target, b"\r\n".join((version, *kept)))
