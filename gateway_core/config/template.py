"""The file that `rad mcp proxy init` writes: ready to run, with commented examples of upstreams and plugins."""

from __future__ import annotations

from collections.abc import Mapping

from gateway_core.config.expand import DEFAULT_PLUGINS
from gateway_core.config.models import ProxyConfig
from gateway_core.config.report import toml_value
from gateway_core.config.sections import ControlConfig, Section, SecurityConfig

_INTRO = """\
# Configuration of the Radium MCP gateway. All keys: docs/configuration.md
#
#   rad mcp proxy check     says whether this file is right
#   rad mcp proxy start     runs it
#
# In any text, ${NAME} is an environment variable and ${file:PATH} the content of a file.
"""

_UPSTREAMS = """\
# The MCP servers behind the gateway, in order. Take away the "#" of one and fit it to yours.

# An MCP server that the gateway starts and talks to over its standard input and output:
"""

_HTTP = """\
# An MCP server over HTTP, and a second one that takes over when the first is down (a lower priority number is
# preferred; equal numbers share the load):
"""

_SSE = """\
# An MCP server with the older HTTP and SSE transport, behind OAuth:
"""

_LOGIN = """\
# An MCP server that wants a login with a browser. `rad mcp proxy login wiki` logs in once, for all agents. If the table
# also has identity = "user", the user of each agent logs in, and the gateway calls the server as that person:
"""

_PLUGINS = """\
# The plugins, in the order in which they run. A file without a list gets exactly these; a file with a list gets what
# it lists. To add one, take away the "#" of these, too: `rad mcp proxy check` names those that a list leaves out.
# Swapping one for another is a change of its name: routing_roundrobin spreads calls over all upstreams of a tool,
# conflict_reject and conflict_priority decide otherwise who gets a name that several upstreams use.
"""


def default_file() -> str:
    """The text of a new file. It loads without problems; no upstream is active until the user uncomments one."""
    proxy = _values(ProxyConfig, "port", "transport", "max_connections")
    control = _values(ControlConfig, *ControlConfig.model_fields)
    security = _values(SecurityConfig, *SecurityConfig.model_fields)
    stdio = {"name": "time", "transport": "stdio", "command": "uvx", "args": ["mcp-server-time"]}
    primary = {"name": "search", "transport": "http", "url": "http://localhost:8080/mcp", "priority": 1}
    backup = {"name": "search-backup", "transport": "http", "url": "http://localhost:8081/mcp", "priority": 2}
    sse = {"name": "tickets", "transport": "sse", "url": "https://tickets.example.com/sse"}
    auth = {
        "auth_type": "oauth",
        "token_url": "https://auth.example.com/oauth/token",
        "client_id": "gateway",
        "client_secret": "${TICKETS_CLIENT_SECRET}",
    }
    login = {"name": "wiki", "transport": "http", "url": "https://wiki.example.com/mcp"}
    code = {"grant": "authorization_code"}
    blocks = [
        _INTRO,
        _table("[mcp.proxy]", {"enable": True, **proxy}),
        "# Where `rad mcp proxy status` and your monitoring ask. Port 0: any free one; the commands find it.\n"
        + _table("[mcp.proxy.control]", control),
        _UPSTREAMS + _commented(_table("[[mcp.proxy.upstreams]]", stdio)),
        _HTTP + _commented("\n".join(_table("[[mcp.proxy.upstreams]]", item) for item in (primary, backup))),
        _SSE + _commented(_table("[[mcp.proxy.upstreams]]", sse) + "\n" + _table("[mcp.proxy.upstreams.auth]", auth)),
        _LOGIN
        + _commented(_table("[[mcp.proxy.upstreams]]", login) + "\n" + _table("[mcp.proxy.upstreams.auth]", code)),
        "# What is logged, which keys are hidden in it besides the usual names and shapes of secrets, and how many\n"
        "# calls of one tool an agent may make in a minute (0: no limit). These are settings of the plugins\n"
        "# security_redact and security_ratelimit, and the values are those of a file without this table.\n"
        "# To log no payloads at all: log_requests = false and log_responses = false.\n"
        + _commented(_table("[mcp.proxy.security]", security)),
        _PLUGINS + _commented("\n".join(_table("[[mcp.proxy.plugins]]", {"name": name}) for name in DEFAULT_PLUGINS)),
    ]
    return "\n".join(blocks)


def _values(model: type[Section], *keys: str) -> dict[str, object]:
    return {key: model.model_fields[key].default for key in keys}


def _table(header: str, values: Mapping[str, object]) -> str:
    lines = [f"{key} = {toml_value(value)}" for key, value in values.items()]
    return "\n".join([header, *lines, ""])


def _commented(text: str) -> str:
    return "".join(f"# {line}\n" if line else "#\n" for line in text.splitlines())
