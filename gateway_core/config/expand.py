"""Expands `[mcp.proxy.security]`, the short forms of plugin settings, into plugin entries.

A file without `[[mcp.proxy.plugins]]` gets the default set, with the values of `[mcp.proxy.security]`. In a file
with a plugin list, each security key of the file sets the matching setting of its plugin.
"""

from __future__ import annotations

from typing import Any, Final

from gateway_core.config.models import ProxyConfig
from gateway_core.config.sections import PluginEntry, SecurityConfig
from gateway_core.config.source import Path

SECURITY: Final[Path] = ("mcp", "proxy", "security")
PLUGINS: Final[Path] = ("mcp", "proxy", "plugins")

DEFAULT_PLUGINS: Final = ("routing_priority", "conflict_autoprefix", "security_ratelimit", "security_redact")
"""Plugins of a file without a plugin list, in this order."""

SECURITY_KEYS: Final = {
    "rate_limit_per_minute": ("security_ratelimit", "rate_limit_per_minute"),
    "redact_patterns": ("security_redact", "patterns"),
    "log_requests": ("security_redact", "log_requests"),
    "log_responses": ("security_redact", "log_responses"),
}
"""Key of `[mcp.proxy.security]` -> the plugin that reads it and the name of the setting there."""


def expand(proxy: ProxyConfig, lines: dict[Path, int]) -> ProxyConfig:
    """Return `proxy` with its plugin entries filled in. `lines`: the line of each path in the file."""
    listed = "plugins" in proxy.model_fields_set
    entries = proxy.plugins if listed else tuple(PluginEntry(name=name) for name in DEFAULT_PLUGINS)
    keys = proxy.security.model_fields_set if listed else set(SECURITY_KEYS)
    filled = tuple(_filled(entry, proxy.security, keys, lines) for entry in entries)
    return proxy.model_copy(update={"plugins": filled})


def _filled(entry: PluginEntry, security: SecurityConfig, keys: set[str], lines: dict[Path, int]) -> PluginEntry:
    settings: dict[str, Any] = dict(entry.settings)
    key_lines = dict(entry.key_lines)
    for key, (plugin, setting) in SECURITY_KEYS.items():
        if plugin != entry.name or key not in keys:
            continue
        value = getattr(security, key)
        settings[setting] = list(value) if isinstance(value, tuple) else value
        if (*SECURITY, key) in lines:
            key_lines[setting] = lines[*SECURITY, key]
    return entry.model_copy(update={"settings": settings, "key_lines": key_lines})
