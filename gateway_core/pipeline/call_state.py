"""What one call has found out and decided so far, as the pipeline goes through it."""

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
    """Of the request's params."""
    started: float
    """Loop time."""
    answer: CallResult | None = None
    """The result, where the upstream gave it before it was asked."""
    running: InlineCall[CallResult] | None = None
    """The coroutine of the call, and its deadline."""
    plan: CallPlan | None = None
    call: Call | None = None
    """As plugins see it; None before its target was looked up."""
    target: Target | None = None
    """What the last look-up found: plugins judged what is then called."""
    chain: ChainProgress | None = None
    """How far it came through the plugins; None where no plugin wants its method."""
    reply: Reply | None = None
    """The upstream's last answer."""
