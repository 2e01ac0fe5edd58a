"""Derives the principal from the claims of a verified token."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from gateway_auth_jwt.token import InvalidToken, quoted
from gateway_core import Principal

MAX_NAMES: Final = 1000
"""Maximum number of groups, and of scopes."""


def principal_of(
    claims: dict[str, Any],
    *,
    groups: Sequence[Sequence[str]],
    scopes: Sequence[Sequence[str]],
    required_scopes: Iterable[str],
    leeway: float,
) -> Principal:
    """The principal that the claims describe. `groups` and `scopes` are the paths to the claims that hold them.

    Raises `InvalidToken` if a scope is missing or a claim is malformed.
    """
    found_groups = _names(claims, groups, split=False)
    found_scopes = _names(claims, scopes, split=True)
    missing = sorted(set(required_scopes) - found_scopes)
    if missing:
        raise InvalidToken(f"it has no scope {', '.join(missing)}; it has {quoted(sorted(found_scopes))}")
    return Principal.proven(
        claims["sub"],
        issuer=claims["iss"],
        groups=found_groups,
        scopes=found_scopes,
        claims=claims,
        expires=claims["exp"] + leeway,
    )


def _names(claims: dict[str, Any], paths: Sequence[Sequence[str]], *, split: bool) -> frozenset[str]:
    """The names in all claims that `paths` lead to. `split`: a text holds several, separated by spaces."""
    found = frozenset(name for path in paths for name in _names_at(claims, path, split=split))
    if len(found) > MAX_NAMES:
        raise InvalidToken(f"it has more than {MAX_NAMES} groups or scopes")
    return found


def _names_at(claims: dict[str, Any], path: Sequence[str], *, split: bool) -> Iterator[str]:
    # A claim that is elsewhere is unknown, not empty: rules may deny a group.
    if path[0] not in claims and path[0] in _left_out(claims):
        raise InvalidToken(f"it leaves out the claim {path[0]}, because that is too large (_claim_names, hasgroups)")
    value: Any = claims
    for key in path:
        if not isinstance(value, dict) or key not in value:
            return
        value = value[key]
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise InvalidToken(f"its claim {' / '.join(path)} is neither a text nor a list of texts")
    for name in names:
        yield from filter(None, name.split(" ")) if split else [name]  # no other white space (RFC 6749, 3.3)


def _left_out(claims: dict[str, Any]) -> set[str]:
    """The claims that the issuer keeps elsewhere (OpenID Connect Core, section 5.6.2; `hasgroups` of Entra ID)."""
    elsewhere = claims.get("_claim_names")
    found = set(elsewhere) if isinstance(elsewhere, dict) else set()
    return found | {"groups"} if claims.get("hasgroups", False) is not False else found
