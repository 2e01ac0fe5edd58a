"""The plugin API of the Radium MCP gateway.

from gateway_core import Call, Plugin, PluginConfig, Reject, hookimpl

class Settings(PluginConfig):
    max_bytes: int = 10_000

class SmallCalls(Plugin[Settings]):
    @hookimpl
    def before_call(self, call: Call) -> Reject | None:
        return Reject("too large") if len(call.raw_arguments) > self.config.max_bytes else None
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from gateway_core.api import (
        Allowance,
        Answer,
        Ask,
        AuthenticationEnded,
        Call,
        CallBegun,
        CallEnded,
        CallResult,
        CallTrace,
        Claim,
        ClientCertificate,
        ConfigPath,
        Credentials,
        Decision,
        Era,
        Event,
        HeaderName,
        Health,
        HookStep,
        HopStep,
        Kind,
        Outcome,
        Page,
        Pass,
        Plugin,
        PluginConfig,
        Principal,
        Published,
        Reject,
        Step,
        Tier,
        Tool,
        ToolConflict,
        Turns,
        UpstreamChanged,
        UpstreamState,
        UpstreamView,
        WaitStep,
        tier_of,
    )
    from gateway_core.api.approving.approvals import Approvals, Remember
    from gateway_core.api.globs import Globs
    from gateway_core.api.hiding.hider import Hider
    from gateway_core.api.notes import Known, Note
    from gateway_core.api.uris import UriGlobs
    from gateway_core.cli.options import ConfigOption, JsonOption
    from gateway_core.cli.plugin_commands.context import CommandContext, CommandError, CommandGroup
    from gateway_core.cli.plugin_commands.rehearsal import Judgement, RecordedCall, Rehearsal
    from gateway_core.errors import RpcError
    from gateway_core.files import Unusable as UnusableFile
    from gateway_core.files import check_public as check_public_file
    from gateway_core.files import check_secret as check_secret_file
    from gateway_core.files import open_private as open_private_file
    from gateway_core.files import read_secret as read_private_file
    from gateway_core.hooks.hookspecs import hookimpl
    from gateway_core.http1.hosts import is_loopback
    from gateway_core.limits.shares import network_of
    from gateway_core.log.access import shown_name
    from gateway_core.log.output import note
    from gateway_core.patterns import Patterns
    from gateway_core.upstream.network.trust import TrustedAuthorities

__all__ = [
    "Allowance",
    "Answer",
    "Approvals",
    "Ask",
    "AuthenticationEnded",
    "Call",
    "CallBegun",
    "CallEnded",
    "CallResult",
    "CallTrace",
    "Claim",
    "ClientCertificate",
    "CommandContext",
    "CommandError",
    "CommandGroup",
    "ConfigOption",
    "ConfigPath",
    "Credentials",
    "Decision",
    "Era",
    "Event",
    "Globs",
    "HeaderName",
    "Health",
    "Hider",
    "HookStep",
    "HopStep",
    "JsonOption",
    "Judgement",
    "Kind",
    "Known",
    "Note",
    "Outcome",
    "Page",
    "Pass",
    "Patterns",
    "Plugin",
    "PluginConfig",
    "Principal",
    "Published",
    "RecordedCall",
    "Rehearsal",
    "Reject",
    "Remember",
    "RpcError",
    "Step",
    "Tier",
    "Tool",
    "ToolConflict",
    "TrustedAuthorities",
    "Turns",
    "UnusableFile",
    "UpstreamChanged",
    "UpstreamState",
    "UpstreamView",
    "UriGlobs",
    "WaitStep",
    "check_public_file",
    "check_secret_file",
    "hookimpl",
    "is_loopback",
    "network_of",
    "note",
    "open_private_file",
    "read_private_file",
    "shown_name",
    "tier_of",
]
_ELSEWHERE = {
    "Approvals": "gateway_core.api.approving.approvals",
    "CommandContext": "gateway_core.cli.plugin_commands.context",
    "CommandError": "gateway_core.cli.plugin_commands.context",
    "CommandGroup": "gateway_core.cli.plugin_commands.context",
    "ConfigOption": "gateway_core.cli.options",
    "Globs": "gateway_core.api.globs",
    "Hider": "gateway_core.api.hiding.hider",
    "JsonOption": "gateway_core.cli.options",
    "Judgement": "gateway_core.cli.plugin_commands.rehearsal",
    "RecordedCall": "gateway_core.cli.plugin_commands.rehearsal",
    "Rehearsal": "gateway_core.cli.plugin_commands.rehearsal",
    "Known": "gateway_core.api.notes",
    "Note": "gateway_core.api.notes",
    "Patterns": "gateway_core.patterns",
    "Remember": "gateway_core.api.approving.approvals",
    "RpcError": "gateway_core.errors",
    "TrustedAuthorities": "gateway_core.upstream.network.trust",
    "UnusableFile": "gateway_core.files",
    "UriGlobs": "gateway_core.api.uris",
    "hookimpl": "gateway_core.hooks.hookspecs",
    "is_loopback": "gateway_core.http1.hosts",
    "network_of": "gateway_core.limits.shares",
    "note": "gateway_core.log.output",
    "check_public_file": "gateway_core.files",
    "check_secret_file": "gateway_core.files",
    "open_private_file": "gateway_core.files",
    "read_private_file": "gateway_core.files",
    "shown_name": "gateway_core.log.access",
}
_NAMED: Final = {
    "UnusableFile": "Unusable",
    "check_public_file": "check_public",
    "check_secret_file": "check_secret",
    "open_private_file": "open_private",
    "read_private_file": "read_secret",
}
"""Names that have another one where they come from."""


def __getattr__(name: str) -> Any:
    """Import a name on first use: short commands then start without them (PEP 562)."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = import_module(_ELSEWHERE.get(name, "gateway_core.api"))
    value = globals()[name] = getattr(module, _NAMED.get(name, name))
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
