"""Parser for `WWW-Authenticate` challenges (RFC 9110, section 11.6.1; RFC 6750, section 3)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from gateway_core.http1.tokens import TOKEN

MAX_SCOPES: Final = 64
"""Maximum number of scopes in one challenge, one document, or one token request."""

_SCOPE: Final = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]{1,256}")  # RFC 6749, section 3.3: scope-token
_ITEM: Final = re.compile(
    rf'[\s,]*(?:(?P<name>{TOKEN})\s*=\s*(?:"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<plain>[^\s,"]+))|(?P<scheme>{TOKEN}))'
)


class Challenge(msgspec.Struct, frozen=True):
    """A `Bearer` challenge."""

    error: str = ""
    scopes: tuple[str, ...] = ()
    """The scopes that the refused request needs."""
    resource_metadata: str | None = None
    """URL of the upstream's protected resource metadata."""

    @classmethod
    def of(cls, headers: Iterable[str]) -> Challenge:
        """Parse the `WWW-Authenticate` headers of one response. Without a `Bearer` challenge, the result is empty."""
        for header in headers:
            for scheme, parameters in _challenges(header):
                if scheme == "bearer":
                    return cls(
                        error=parameters.get("error", ""),
                        scopes=scopes(parameters.get("scope", "").split()),
                        resource_metadata=parameters.get("resource_metadata"),
                    )
        return cls()


def scopes(given: Iterable[str]) -> tuple[str, ...]:
    """`given` without duplicates, in order; empty if one is malformed or there are more than `MAX_SCOPES`."""
    found = tuple(dict.fromkeys(given))
    return found if len(found) <= MAX_SCOPES and all(_SCOPE.fullmatch(scope) for scope in found) else ()


def _challenges(header: str) -> Iterator[tuple[str, dict[str, str]]]:
    """The challenges in one header, up to the first malformed part."""
    scheme, parameters = "", dict[str, str]()
    position = 0
    while (item := _ITEM.match(header, position)) is not None:
        position = item.end()
        if item["scheme"] is not None:
            if scheme:
                yield scheme, parameters
            scheme, parameters = item["scheme"].lower(), {}
        else:
            value = item["plain"] if item["quoted"] is None else re.sub(r"\\(.)", r"\1", item["quoted"])
            parameters.setdefault(item["name"].lower(), value)
    if scheme:
        yield scheme, parameters
