"""What plugins see: calls, results, verdicts, tools, upstreams and conflicts, as frozen values and read-only views."""

from pydantic import BaseModel, ConfigDict

from gateway_core.types.calls import Call, CallResult, Outcome, Principal, Reject, Tool
from gateway_core.types.conflicts import Claim, ToolConflict
from gateway_core.types.upstreams import Health, UpstreamFacts, UpstreamState, UpstreamView
from gateway_core.words import Era, Kind, Transport


class PluginConfig(BaseModel):
    """Base of a plugin's nested `Config`: unknown keys are refused, values are frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True)


__all__ = [
    "Call",
    "CallResult",
    "Claim",
    "Era",
    "Health",
    "Kind",
    "Outcome",
    "PluginConfig",
    "Principal",
    "Reject",
    "Tool",
    "ToolConflict",
    "Transport",
    "UpstreamFacts",
    "UpstreamState",
    "UpstreamView",
]
