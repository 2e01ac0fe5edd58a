"""The types that plugins use: identities, calls, results, verdicts, tools, upstreams, conflicts; read-only."""

from gateway_core.api.asking import Action, Answer, Answers, Ask, GivenAnswer
from gateway_core.api.call import Call, CallResult, Outcome
from gateway_core.api.conflict import Claim, ToolConflict
from gateway_core.api.definition import Tool
from gateway_core.api.events import (
    AuthenticationEnded,
    CallBegun,
    CallEnded,
    CallTrace,
    Decision,
    Event,
    HookStep,
    HopStep,
    Step,
    UpstreamChanged,
    WaitedFor,
    WaitStep,
)
from gateway_core.api.identity import OPERATOR, Credentials, Principal
from gateway_core.api.page import Allowance, Page
from gateway_core.api.plugin import ConfigPath, HeaderName, Plugin, PluginConfig
from gateway_core.api.served import Published
from gateway_core.api.tier import Tier, tier_of
from gateway_core.api.turns import Turns
from gateway_core.api.upstream import Health, UpstreamFacts, UpstreamState, UpstreamView
from gateway_core.api.verdict import Pass, Reject
from gateway_core.http1.certificate import ClientCertificate
from gateway_core.mcp.literals import Era, Kind, Transport

__all__ = [
    "OPERATOR",
    "Action",
    "Allowance",
    "Answer",
    "Answers",
    "Ask",
    "AuthenticationEnded",
    "Call",
    "CallBegun",
    "CallEnded",
    "CallResult",
    "CallTrace",
    "Claim",
    "ClientCertificate",
    "ConfigPath",
    "Credentials",
    "Decision",
    "Era",
    "Event",
    "GivenAnswer",
    "HeaderName",
    "Health",
    "HookStep",
    "HopStep",
    "Kind",
    "Outcome",
    "Page",
    "Pass",
    "Plugin",
    "PluginConfig",
    "Principal",
    "Published",
    "Reject",
    "Step",
    "Tier",
    "Tool",
    "ToolConflict",
    "Transport",
    "Turns",
    "UpstreamChanged",
    "UpstreamFacts",
    "UpstreamState",
    "UpstreamView",
    "WaitStep",
    "WaitedFor",
    "tier_of",
]
