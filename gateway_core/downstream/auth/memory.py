"""What is known about credentials, by digest, within bounds.

Proofs are kept apart from refusals: every client can have credentials refused, from any number of addresses, and must
not make the gateway forget agents. Among proofs, the principal with most gives way.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

import msgspec

from gateway_core.downstream.auth.caller import Caller
from gateway_core.limits.shares import Holder, Shares

REMEMBERED: Final = 4096
"""Proofs that are remembered, and as many other verdicts."""


class Verdict(msgspec.Struct, frozen=True):
    """What is known about credentials."""

    caller: Caller | None
    """None if they are refused."""
    until: float
    """Time (monotonic) until which it holds."""

    @property
    def caller_found(self) -> Caller:
        """The caller, of credentials that are not refused."""
        assert self.caller is not None, "refusals are raised"
        return self.caller

    @property
    def proves(self) -> bool:
        """Whether it names a verified principal."""
        return self.caller is not None and self.caller.principal is not None


class Memory:
    """The verdicts on credentials that were used lately."""

    def __init__(self) -> None:
        self._proofs: dict[bytes, Verdict] = {}
        self._shares = Shares[bytes]()
        """The keys of `_proofs` by principal, least recently used first."""
        self._others: OrderedDict[bytes, Verdict] = OrderedDict()

    def __len__(self) -> int:
        return len(self._proofs) + len(self._others)

    def get(self, key: bytes) -> Verdict | None:
        """The verdict on some credentials, which may have ended; None if there is none."""
        return self._proofs.get(key) or self._others.get(key)

    def used(self, key: bytes) -> None:
        """Note that a verdict was used, so that others are forgotten before it."""
        if key in self._others:
            self._others.move_to_end(key)
        elif key in self._shares:
            self._shares.renew(key)

    def put(self, key: bytes, verdict: Verdict) -> None:
        """Remember a verdict in place of an earlier one on the same credentials."""
        self._others.pop(key, None)
        self._forget(key)
        if not verdict.proves:
            self._others[key] = verdict
            if len(self._others) > REMEMBERED:
                self._others.popitem(last=False)
            return
        holder = _holder(verdict)
        if len(self._proofs) >= REMEMBERED:
            most = next(self._shares.above(holder), holder)
            self._forget(next(iter(self._shares.of(most))))
        self._proofs[key] = verdict
        self._shares.add(holder, key)

    def _forget(self, key: bytes) -> None:
        if self._proofs.pop(key, None) is not None:
            self._shares.remove(key)


def _holder(verdict: Verdict) -> Holder:
    principal = verdict.caller_found.key
    return principal, principal
