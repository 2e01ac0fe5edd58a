"""What plugins see: calls, results, verdicts, tools, upstreams and conflicts, as frozen values and read-only views."""

from gateway_core.types.calls import Call, CallResult, Outcome, Principal, Reject, Tool
from gateway_core.types.conflicts import Claim, ToolConflict
from gateway_core.types.plugin import Plugin, PluginConfig
from gateway_core.types.turns import Turns
from gateway_core.types.upstreams import Health, UpstreamFacts, UpstreamState, UpstreamView
from gateway_core.words import Era, Kind, Transport

__all__ = [
    "Call",
    "CallResult",
    "Claim",
    "Era",
    "Health",
    "Kind",
    "Outcome",
    "Plugin",
    "PluginConfig",
    "Principal",
    "Reject",
    "Tool",
    "ToolConflict",
    "Transport",
    "Turns",
    "UpstreamFacts",
    "UpstreamState",
    "UpstreamView",
]
