"""What all upstreams of one gateway share."""

from __future__ import annotations

from dataclasses import dataclass, field

from gateway_core.concealing import HeldSecrets
from gateway_core.upstream.process.early import EarlyChildren


@dataclass(frozen=True, slots=True)
class Shared:
    """Resources of the gateway that its upstreams use."""

    early: EarlyChildren | None = None
    """Child processes that were started already."""
    held: HeldSecrets = field(default_factory=HeldSecrets)
    """The secrets to hide in what servers send."""
