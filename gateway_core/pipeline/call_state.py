"""The state of one call while the pipeline serves it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from msgspec import Raw

from gateway_core.api import Call, CallResult
from gateway_core.catalog import Target
from gateway_core.hooks import ChainProgress
from gateway_core.inline.driver import InlineCall
from gateway_core.pipeline.plans import CallPlan
from gateway_core.upstream.requests import Reply


@dataclass(slots=True, eq=False)
class CallState:
    """The state of one call."""

    members: Mapping[str, Raw]
    """The members of the request's params."""
    started: float
    """Start time in seconds on the monotonic clock."""
    answer: CallResult | None = None
    """A result that the upstream sent unasked; the call then sends no request."""
    running: InlineCall[CallResult] | None = None
    """The inline call, which also holds the deadline."""
    plan: CallPlan | None = None
    call: Call | None = None
    """The call as plugins see it; None until its target is looked up."""
    target: Target | None = None
    """The result of the latest look-up, so that the call goes to the target that plugins judged."""
    chain: ChainProgress | None = None
    """Its progress through the plugin chain; None if no plugin hooks its method."""
    reply: Reply | None = None
    """The upstream's reply; None for a later round, and after a repetition."""
