"""Verdicts of `before_call` that let a call continue or refuse it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gateway_core.errors import REJECTED
from gateway_core.mcp.read_only import ReadOnlyDict


@dataclass(frozen=True, slots=True)
class Pass:
    """The call continues, as with None. `rule`: what allowed it, for plugins that observe calls; no agent sees it."""

    rule: str


@dataclass(frozen=True, slots=True)
class Reject:
    """A refusal. The agent gets a JSON-RPC error with `code` and `message`.

    `retry_after`: seconds until a retry may succeed; the agent gets it as `data.retryAfterMs`. `data`: further members
    of the error's `data`, JSON values by name. `rule`: what refused it, for plugins that observe calls; no agent sees
    it.
    """

    message: str
    code: int = REJECTED
    retry_after: float | None = None
    data: Mapping[str, Any] = field(default_factory=ReadOnlyDict, hash=False)
    rule: str = ""
