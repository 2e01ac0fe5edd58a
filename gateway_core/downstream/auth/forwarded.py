"""What proxies before the gateway say about their clients. Only proxies in the configured networks are believed.

A proxy adds the address that it was called from at the end of the list. So the client is the last address in the list
that is not a trusted proxy itself: everything before it may be made up.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection
from functools import lru_cache
from typing import Final

from gateway_core.api import Principal
from gateway_core.api.identity import PROXY, reads_as_id
from gateway_core.config import TrustedProxiesConfig
from gateway_core.downstream.auth.caller import Caller, caller_at
from gateway_core.http1.address import canonical_address
from gateway_core.http1.head import HttpError, RequestHead
from gateway_core.http1.tokens import CHARACTERS

_TCHAR: Final = rf"[{CHARACTERS}]"
_QUOTED: Final = r'"(?:[^"\\]|\\.)*+"'
_PAIR: Final = rf"{_TCHAR}++=(?:(?:{_TCHAR}|[:\[\]])++|{_QUOTED})"
"""A parameter (RFC 7239, 4). Addresses with a port or in brackets may stand without quotes, as some proxies write."""
_ELEMENT: Final = re.compile(rf"[ \t]*+{_PAIR}(?:[ \t]*+;[ \t]*+{_PAIR})*+[ \t]*+(?:,|\Z)")
_ANY_PAIR: Final = re.compile(_PAIR)
_WITH_PORT: Final = re.compile(r"\[([0-9A-Fa-f:.]+)\](?::\d{1,5})?|([0-9.]+)(?::\d{1,5})?")


class TrustedProxies:
    """Finds the client behind a trusted proxy."""

    def __init__(self, config: TrustedProxiesConfig, issuers: Collection[str] = (PROXY,)) -> None:
        """`issuers`: see `reads_as_id`."""
        self._issuers = issuers
        networks = (network if network != "::1/128" else "127.0.0.1/32" for network in config.networks)
        self._networks = tuple(map(ipaddress.ip_network, networks))  # peers have canonical addresses
        self._header = config.header.lower()
        self._identity = (config.identity_header or "").lower()
        self._trusts = lru_cache(maxsize=4096)(self._is_trusted)

    @property
    def names_people(self) -> bool:
        """Whether a trusted proxy says who its client is."""
        return bool(self._identity and self._networks)

    def caller(self, peer: str, head: RequestHead) -> Caller:
        """The caller of a request that came from `peer`, verified only if a trusted proxy names it.

        Raises `HttpError` (400) for an identity header that is repeated or no valid name, and a malformed `Forwarded`.
        """
        if not self._networks or not self._trusts(peer):
            return caller_at(peer)
        address = self._client(peer, head.fields.get(self._header, ""))
        name = head.once(self._identity) if self._identity else None
        if not name:
            return caller_at(address)
        if len(name) > Principal.MAX_SUBJECT or not name.isprintable():
            most = Principal.MAX_SUBJECT
            raise HttpError(400, f"the header {self._identity} is longer than {most} or not printable")
        if reads_as_id(name, self._issuers):
            raise HttpError(400, f"the header {self._identity} has the form of an id of another principal")
        return _named(address, name)

    def forwards(self, peer: str, head: RequestHead) -> bool:
        """Whether the request came from a trusted proxy that names its client."""
        return bool(self._networks) and self._header in head.fields and self._trusts(peer)

    def _client(self, peer: str, given: str) -> str:
        found = peer
        addresses = _forwarded(given) if self._header == "forwarded" else given.split(",")
        for text in reversed(addresses):
            address = _address(text.strip())
            if address is None:
                return found  # unknown, or a name that hides it: the last known address stands for it
            found = address
            if not self._trusts(address):
                return found
        return found

    def _is_trusted(self, address: str) -> bool:
        try:
            parsed = ipaddress.ip_address(address)
        except ValueError:
            return False
        return any(parsed in network for network in self._networks)


@lru_cache(maxsize=4096)
def _named(address: str, name: str) -> Caller:
    return Caller(address, Principal.proven(name, issuer=PROXY))


def _forwarded(value: str) -> list[str]:
    """The `for` parameters of `Forwarded`, in order; empty where one is missing (RFC 7239, 5.2).

    Raises `HttpError` (400) if the value is malformed: a client could have begun a quoted string that hides what the
    proxy added.
    """
    found, at = list[str](), 0
    while at < len(value):
        element = _ELEMENT.match(value, at)
        if element is None:
            raise HttpError(400, "the header Forwarded is malformed")
        pairs = (pair.partition("=") for pair in _ANY_PAIR.findall(element[0]))  # one after the other, strings whole
        given = [value.strip('"') for name, _, value in pairs if name.lower() == "for"]
        if len(given) > 1:
            raise HttpError(400, "the header Forwarded gives the parameter for twice")
        found.append(given[0] if given else "")
        at = element.end()
    return found


def _address(text: str) -> str | None:
    """The canonical address in `203.0.113.9`, `203.0.113.9:80`, `2001:db8::1` or `[2001:db8::1]:80`."""
    match = _WITH_PORT.fullmatch(text)
    bare = (match[1] or match[2]) if match is not None else text
    try:
        ipaddress.ip_address(bare)
    except ValueError:
        return None
    return canonical_address(bare)
