"""Chooses the profile of a caller: by its credentials, by the address that it uses, or by the configuration."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from loguru import logger

from gateway_core.api import Principal
from gateway_core.api.identity import is_url
from gateway_core.config import ProfileConfig
from gateway_core.downstream.auth.caller import Caller, in_profile
from gateway_core.http1.head import HttpError
from gateway_core.log.sparing import Sparing

CLAIM: Final = "profile"
"""The claim that binds credentials to one profile."""


class ProfileChoice:
    """Knows which callers get which profile.

    Credentials that are bound to a profile get that one and no other. Otherwise the address decides, then the first
    profile in the file whose `groups` and `claims` the principal has, then the default profile.
    """

    def __init__(self, profiles: Iterable[ProfileConfig], generation: int = 1) -> None:
        """`generation`: the number of the configuration, for the log."""
        self._profiles: Final = {profile.name: profile for profile in profiles}
        self._conditional = [it for it in self._profiles.values() if it.groups is not None or it.claims is not None]
        self._default = default_profile(self._profiles.values())
        self._log = logger.bind(generation=generation)
        self._spoken = Sparing()

    def place(self, caller: Caller, named: str | None) -> Caller:
        """The caller with its profile. `named`: the profile in the address that it uses, if any.

        Raises `HttpError`: 404 for a profile that does not exist or that the caller may not use, which look alike; 403
        for credentials that are bound to a profile that does not exist.
        """
        principal = caller.principal
        bound = None if principal is None or not self._profiles else principal.claims.get(CLAIM)
        if principal is not None and bound is not None:
            return in_profile(caller, self._bound(principal, bound, named))
        if named is not None:
            return in_profile(caller, self._named(principal, named))
        chosen = self._by_principal(principal)
        return in_profile(caller, chosen) if chosen else caller

    def _bound(self, principal: Principal, bound: Any, named: str | None) -> str:
        if not isinstance(bound, str) or bound not in self._profiles:
            if self._spoken.due(f"unknown profile of {principal.id}"):
                self._log.warning(
                    "{} was refused: its claim profile names no profile of the configuration; logged once a minute",
                    principal.id,
                )
            raise HttpError(403, "these credentials are bound to a profile that is not configured")
        if is_url(principal.issuer) and not self._may_use(self._profiles[bound], principal):
            if self._spoken.due(f"profile of {principal.id}"):
                text = (
                    "{} was refused: its token names the profile {} and lacks what that requires; logged once a minute"
                )
                self._log.warning(text, principal.id, bound)
            raise HttpError(403, "these credentials are bound to a profile that they may not use")
        if named is not None and named != bound:
            raise _unknown()
        return bound

    def _may_use(self, profile: ProfileConfig, principal: Principal) -> bool:
        """Whether a principal may use a profile without being bound to it.

        The operator binds keys. In a token, people may be able to choose the claim themselves (OpenID Connect Core,
        section 5.1), so it only chooses among these profiles.
        """
        return _admits(profile, principal) and (profile.by_address or profile.default or profile in self._conditional)

    def _named(self, principal: Principal | None, named: str) -> str:
        profile = self._profiles.get(named)
        if profile is None or not profile.by_address or not _admits(profile, principal):
            raise _unknown()
        return named

    def _by_principal(self, principal: Principal | None) -> str:
        if principal is not None:
            for profile in self._conditional:
                if _admits(profile, principal):
                    return profile.name
        return self._default


def default_profile(profiles: Iterable[ProfileConfig]) -> str:
    """The profile of the agents that get no other; empty without one."""
    return next((profile.name for profile in profiles if profile.default), "")


def _admits(profile: ProfileConfig, principal: Principal | None) -> bool:
    """Whether a principal has what `groups` and `claims` require."""
    if profile.groups is None and profile.claims is None:
        return True
    if principal is None:
        return False
    in_group = profile.groups is None or not principal.groups.isdisjoint(profile.groups)
    return in_group and all(_has(principal, name, value) for name, value in (profile.claims or {}).items())


def _has(principal: Principal, name: str, value: str) -> bool:
    found = principal.claims.get(name)
    return value in found if isinstance(found, list | tuple) else found == value


def _unknown() -> HttpError:
    return HttpError(404, "no such profile")
