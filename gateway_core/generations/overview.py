"""The state of a gateway as operators see it."""

from __future__ import annotations

import os
import time
from importlib.metadata import version
from typing import TYPE_CHECKING, Final

from gateway_core.activity import Activity
from gateway_core.control import report
from gateway_core.downstream.auth.profiles import default_profile
from gateway_core.downstream.data_plane import DataPlane
from gateway_core.generations.parts import Parts
from gateway_core.generations.reloads import Reloads
from gateway_core.log import output

if TYPE_CHECKING:
    from gateway_core.control import shapes


class Overview:
    """Collects the state of the parts of a gateway."""

    def __init__(self, parts: Parts, reloads: Reloads, activity: Activity) -> None:
        self._activity = activity
        self._parts = parts
        self._reloads = reloads
        self._started: Final = time.time()

    def status(self, server: DataPlane | None, *, address: str, ready: bool, draining: bool) -> shapes.Status:
        """The data of `rad mcp proxy status`, without secrets and session ids. `address`: of the data plane."""
        current, parts = self._reloads.current, self._parts
        budget, lag = parts.common.budget, parts.loop_lag
        config, chain = current.config, current.chain
        return {
            "pid": os.getpid(),
            "version": version("gateway-core"),
            "started": self._started,
            "uptime": time.time() - self._started,
            "address": address,
            "certificate": server.certificate if server is not None else None,
            "control": parts.control.address,
            "transport": config.proxy.transport,
            "default_profile": default_profile(config.proxy.profiles),
            "generation": current.number,
            "config": str(config.path) if config.path is not None else None,
            "ready": ready,
            "draining": draining,
            "connections": server.connections if server is not None else 0,
            "sessions": len(parts.downstream.sessions),
            "in_flight": self._reloads.in_flight,
            "parked": len(current.input_required.parking),
            "calls": self._reloads.calls,
            "rejected": parts.downstream.gate.rejected,
            "unseen_changes": self._activity.definitions.unseen,
            "memory": {"limit": budget.limit, "used": int(budget.level * budget.limit)},
            "max_timeout": config.proxy.max_timeout,
            "log": {"warnings": output.warnings(), "dropped": output.dropped()},
            "loop": report.loop(lag),
            "upstreams": [
                *(report.upstream(upstream) for upstream in parts.pool.upstreams),
                *(report.disabled(upstream) for upstream in config.disabled),
            ],
            "plugins": [report.plugin(plugin, chain.times) for plugin in chain.plugins],
        }

    def plugins(self) -> list[shapes.PluginWithSettings]:
        """The enabled plugins in their order, with their settings, in which secrets are hidden."""
        chain = self._reloads.current.chain
        return [report.plugin_with_settings(plugin, chain.times) for plugin in chain.plugins]

    def tools(self, profile: str) -> shapes.CatalogEntries:
        """The data of `rad mcp proxy tools`: what agents see, and how conflicts of names were resolved."""
        return report.tools(self._reloads.current.catalog, self._parts.pool.upstreams, profile)

    def tool(self, name: str, profile: str) -> shapes.ToolDefinition:
        """The data of `rad mcp proxy tools NAME`: one tool by its name, or as `upstream:tool`."""
        return report.tool(self._reloads.current.catalog, name, profile)

    def upstream_log(self, name: str) -> list[str] | None:
        """The last lines that the process of an upstream wrote to stderr; none if it is disabled.

        None if there is no upstream of this name.
        """
        for upstream in self._parts.pool.upstreams:
            if upstream.name == name:
                return upstream.connections.last_lines
        return [] if any(it.name == name for it in self._reloads.current.config.disabled) else None
