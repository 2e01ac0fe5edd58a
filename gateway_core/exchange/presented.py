"""What a request of an agent presents for single upstreams: named headers, and the token that proved who it is.

These are secrets. They hang on the agent of a request or of a session, never on its `Principal`, and go when that goes.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from gateway_core.api import Principal

_KEY: Final = secrets.token_bytes(32)


class Presented(msgspec.Struct, frozen=True, eq=False, dict=True):
    """The secrets of one agent. None is a declared field, so that no encoder and no `repr` shows them."""

    @classmethod
    def of(cls, headers: Mapping[str, str], token: str | None = None, *, rights: str = "") -> Presented:
        """`headers`: values by lower-case name. `token`: the access token that the request was authenticated with.

        `rights`: a text for what the token allows; another one of the same principal may allow less.
        """
        made, digest = cls(), _digest(headers)
        viewer = _digest({"": rights, "headers": digest}) if rights else digest
        made.__dict__.update(_headers=dict(headers), _token=token, digest=digest, viewer=viewer, agents={})
        return made

    def header(self, name: str) -> str | None:
        """The value of a header, by its lower-case name; None if the request did not have it."""
        found: str | None = self.__dict__.get("_headers", {}).get(name)
        return found

    @property
    def token(self) -> str | None:
        """The access token that the request was authenticated with; None without one."""
        found: str | None = self.__dict__.get("_token")
        return found

    @property
    def headers_digest(self) -> str:
        """A digest of the headers, which differs between processes; empty without any."""
        found: str = self.__dict__.get("digest", "")
        return found

    @property
    def viewer(self) -> str:
        """A digest of the headers and the rights of the token; empty without any."""
        found: str = self.__dict__.get("viewer", "")
        return found

    @property
    def agents(self) -> dict[Any, Any]:
        """The descriptions of agents that present this, by their claims. They are not kept for longer."""
        found: dict[Any, Any] = self.__dict__.get("agents", {})
        return found

    def is_same(self, other: Presented) -> bool:
        """Whether both present the same."""
        return self.headers_digest == other.headers_digest and self.token == other.token


NOTHING: Final = Presented()
"""What agents present whose upstreams need nothing of them."""


CHANGING: Final = frozenset({"iat", "exp", "nbf", "jti", "auth_time", "nonce", "at_hash", "uti", "aio", "rh"})
"""Claims that differ in each token of one agent and give no rights. Any other claim may: roles, details of an
authorization (RFC 9396), an actor, and those that a server made up."""


def rights_of(principal: Principal) -> str:
    """A text for what a verified principal may do, by its token; the same for a renewed token."""
    claims = {name: value for name, value in principal.claims.items() if name not in CHANGING}
    return msgspec.json.encode([sorted(principal.scopes), sorted(principal.groups), claims], order="sorted").decode()


def _digest(headers: Mapping[str, str]) -> str:
    if not headers:
        return ""
    data = "\0".join(f"{name}\0{value}" for name, value in sorted(headers.items()))  # a header contains no NUL
    return hashlib.blake2b(data.encode("utf-8", "surrogateescape"), key=_KEY, digest_size=16).hexdigest()
