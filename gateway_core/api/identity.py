"""Who makes a request: its credentials, and the principal that they prove or that the agent claims."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final

from gateway_core.http1.certificate import ClientCertificate
from gateway_core.mcp.read_only import ReadOnlyDict, read_only

PROXY: Final = "proxy"
"""The issuer of a principal that a trusted proxy names."""
_URL: Final = re.compile(r"https?://", re.IGNORECASE)


def reads_as_id(subject: str, issuers: Collection[str]) -> bool:
    """Whether a subject has the form of a principal's id, `SUBJECT|ISSUER`, with one of `issuers` or a URL.

    Rules may name ids and subjects, so a subject must not look like the id of somebody else.
    """
    last = subject.rpartition("|")[2] if "|" in subject else ""
    return last in issuers or is_url(last)


def is_url(issuer: str) -> bool:
    """Whether an issuer is an authorization server, not a plugin of the gateway."""
    return _URL.match(issuer) is not None


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a request says about its sender. Authenticators get it; it is not logged."""

    headers: Mapping[str, str] = field(default_factory=ReadOnlyDict, repr=False)
    """The headers that any enabled authenticator names in `credential_headers`, by lower-case name. A header that is
    repeated is absent."""
    certificate: ClientCertificate | None = None
    address: str = ""
    """The client's address."""

    @property
    def bearer(self) -> str | None:
        """The token of `Authorization: Bearer …` (RFC 6750, 2.1); None without one."""
        scheme, _, token = self.headers.get("authorization", "").partition(" ")
        return token.strip(" ") or None if scheme.lower() == "bearer" else None


@dataclass(frozen=True, slots=True)
class Principal:
    """The identity of an agent. `verified`: whether `id` was proven, or only derived from the agent's own claims."""

    MAX_SUBJECT: ClassVar[int] = 512
    """Maximum characters of `subject` and `issuer`."""
    id: str
    """Stable key for limits and audit: `NAME@ADDRESS` as claimed, e.g. `claude-code@127.0.0.1`, or `SUBJECT|ISSUER` if
    verified."""
    verified: bool = False
    client_name: str = ""
    """The name of the agent's program, as claimed."""
    client_version: str = ""
    address: str = ""
    subject: str = ""
    """Who was verified, in the words of `issuer`; empty if not verified."""
    issuer: str = ""
    """Who vouches for `subject`: the URL of an authorization server, or the name of the authenticating plugin."""
    groups: frozenset[str] = frozenset()
    scopes: frozenset[str] = frozenset()
    """OAuth scopes (RFC 6749, 3.3)."""
    claims: Mapping[str, Any] = field(default_factory=ReadOnlyDict, compare=False, repr=False)
    """Further claims about the subject, read-only."""
    expires: float | None = None
    """When the proof ends, in seconds since the epoch; None if it does not end by itself."""
    profile: str = ""
    """The profile through which the agent sees the gateway; empty without one. The gateway sets it."""

    def __post_init__(self) -> None:
        if self.claims.__class__ is not ReadOnlyDict:
            object.__setattr__(self, "claims", read_only(dict(self.claims)))

    @classmethod
    def proven(
        cls,
        subject: str,
        *,
        issuer: str,
        groups: Iterable[str] = (),
        scopes: Iterable[str] = (),
        claims: Mapping[str, Any] | None = None,
        expires: float | None = None,
    ) -> Principal:
        """A verified principal, for `authenticate`.

        Raises `TypeError` if `claims` is not a dict, or if `groups` or `scopes` is a text: its letters are no names.
        """
        for what, names in (("groups", groups), ("scopes", scopes)):
            if isinstance(names, str | bytes):
                raise TypeError(f"the {what} must be several texts, such as a list, not a {type(names).__name__}")
        if claims is not None and not isinstance(claims, dict):
            raise TypeError(f"the claims must be a dict, not a {type(claims).__name__}")
        return cls(
            f"{subject}|{issuer}",
            verified=True,
            subject=subject,
            issuer=issuer,
            groups=frozenset(groups),
            scopes=frozenset(scopes),
            claims=read_only(claims or {}),
            expires=expires,
        )


OPERATOR: Final = Principal.proven("operator", issuer="control-plane")
"""Who has the change right of the control plane. Rules and `approvers` name it by its id, `operator|control-plane`."""
