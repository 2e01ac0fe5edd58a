"""The sender of a request: the address of the client, and the principal that its credentials prove."""

from __future__ import annotations

from functools import lru_cache

import msgspec

from gateway_core.api import Principal
from gateway_core.exchange.presented import NOTHING, Presented
from gateway_core.limits.shares import network_of


class Caller(msgspec.Struct, frozen=True, eq=False):
    """Who sends a request. Compared by identity, so that it is cheap as a key of caches."""

    address: str
    """The client's address in its canonical form, as a trusted proxy names it if there is one."""
    principal: Principal | None = None
    """Who was verified; None for a client that proves nothing."""
    presented: Presented = NOTHING
    """Secrets that the request presents for single upstreams."""
    profile: str = ""
    """The profile through which the caller sees the gateway; empty without one."""

    @property
    def key(self) -> str:
        """Whose sessions the caller may use: those of the principal, or of the address, in the same profile."""
        who = self.address if self.principal is None else self.principal.id
        return f"\0{self.profile}\0{who}" if self.profile else who

    @property
    def network(self) -> str:
        """What its share of every limit counts for: the principal, or the network of the address (`holder_of`)."""
        return network_of(self.address) if self.principal is None else self.principal.id

    def proves_same(self, other: Caller) -> bool:
        """Whether both are the same principal with the same rights and claims, or both prove nothing.

        What they present for upstreams has to be the same, too.
        """
        mine, theirs = self.principal, other.principal
        if self.presented is not other.presented and not self.presented.is_same(other.presented):
            return False
        if mine is None or theirs is None:
            return mine is theirs
        return mine == theirs and mine.claims == theirs.claims


@lru_cache(maxsize=4096)
def in_profile(caller: Caller, profile: str) -> Caller:
    """The same caller with a profile; the same object each time. For callers that present nothing."""
    return Caller(caller.address, caller.principal, profile=profile)


@lru_cache(maxsize=4096)
def caller_at(address: str) -> Caller:
    """The caller at an address that proves nothing."""
    return Caller(address)
