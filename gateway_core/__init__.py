"""The plugin author's API of the Radium MCP gateway, and nothing else.

from gateway_core import Call, PluginConfig, Reject, hookimpl

class NightWatch:
    class Config(PluginConfig):
        closed: bool = False

    def __init__(self, config: Config) -> None:
        self.config = config

    @hookimpl
    def before_call(self, call: Call) -> Reject | None:
        return Reject("closed for the night") if self.config.closed else None
"""

from gateway_core.hookspecs import hookimpl
from gateway_core.types import (
    Call,
    CallResult,
    Claim,
    Health,
    PluginConfig,
    Reject,
    Tool,
    ToolConflict,
    UpstreamView,
)

__all__ = [
    "Call",
    "CallResult",
    "Claim",
    "Health",
    "PluginConfig",
    "Reject",
    "Tool",
    "ToolConflict",
    "UpstreamView",
    "hookimpl",
]
