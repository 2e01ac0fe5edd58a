"""Challenges: what an upstream says in `WWW-Authenticate` (RFC 9110, section 11.6.1; RFC 6750, section 3)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

MAX_SCOPES: Final = 64
"""Scopes in one challenge, one document, or one token request."""

_SCOPE: Final = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]{1,256}")  # RFC 6749, section 3.3: scope-token
_TOKEN: Final = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # noqa: S105 - the token of RFC 9110
_ITEM: Final = re.compile(
    rf'[\s,]*(?:(?P<name>{_TOKEN})\s*=\s*(?:"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<plain>[^\s,"]+))|(?P<scheme>{_TOKEN}))'
)


@dataclass(frozen=True, slots=True)
class Challenge:
    """A `Bearer` challenge."""

    error: str = ""
    scopes: tuple[str, ...] = ()
    """What the request that was refused needs."""
    resource_metadata: str | None = None
    """Where the upstream says its protected resource metadata is."""

    @classmethod
    def of(cls, headers: Iterable[str]) -> Challenge:
        """Read the `WWW-Authenticate` headers of one answer. Without a `Bearer` challenge in them, it is empty."""
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
    """The scopes among `given`, each once and in order; none at all where one is malformed or they are too many."""
    found = tuple(dict.fromkeys(given))
    return found if len(found) <= MAX_SCOPES and all(_SCOPE.fullmatch(scope) for scope in found) else ()


def _challenges(header: str) -> Iterator[tuple[str, dict[str, str]]]:
    """The challenges of one header, until something in it cannot be read."""
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
