"""The protocol's names: versions, methods, headers, reserved `_meta` keys, and the gateway's `Implementation`.

The official SDK defines many of them too, but importing it would slow down every start.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from typing import Final

IMPLEMENTATION: Final[Mapping[str, str]] = {"name": "radium-mcp-gateway", "version": version("gateway-core")}
"""The gateway's `Implementation`, sent to agents and upstreams."""
USER_AGENT: Final = f"{IMPLEMENTATION['name']}/{IMPLEMENTATION['version']}"

HANDSHAKE_PROTOCOL_VERSIONS: Final = ("2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25")
"""Legacy versions, which `initialize` negotiates; oldest first."""
LATEST_HANDSHAKE_VERSION: Final = HANDSHAKE_PROTOCOL_VERSIONS[-1]
MODERN_PROTOCOL_VERSIONS: Final = ("2026-07-28",)
"""Versions with stateless requests, oldest first."""
LATEST_MODERN_VERSION: Final = MODERN_PROTOCOL_VERSIONS[-1]

MCP_SESSION_ID_HEADER: Final = "Mcp-Session-Id"
"""The session of a legacy agent or upstream (2025-11-25, basic/transports, Session Management)."""
MCP_PROTOCOL_VERSION_HEADER: Final = "mcp-protocol-version"
MCP_METHOD_HEADER: Final = "mcp-method"
MCP_NAME_HEADER: Final = "mcp-name"
"""Headers that repeat parts of a modern request (transports/streamable-http, Standard Request Headers)."""
MCP_PARAM_HEADER_PREFIX: Final = "Mcp-Param-"
"""Prefix of headers that mirror arguments of a tool (transports/streamable-http, Custom Headers)."""

INITIALIZE: Final = "initialize"
DISCOVER: Final = "server/discover"
LISTEN: Final = "subscriptions/listen"
TOOLS_CALL: Final = "tools/call"
PING: Final = "ping"
SUBSCRIBE: Final = "resources/subscribe"
UNSUBSCRIBE: Final = "resources/unsubscribe"
SET_LEVEL: Final = "logging/setLevel"

PROGRESS: Final = "notifications/progress"
CANCELLED_NOTICE: Final = "notifications/cancelled"
LOG_MESSAGE: Final = "notifications/message"
UPDATED: Final = "notifications/resources/updated"
ELICITED: Final = "notifications/elicitation/complete"
TASK_STATUS: Final = "notifications/tasks"

LOG_LEVELS: Final = ("debug", "info", "notice", "warning", "error", "critical", "alert", "emergency")
"""Log levels from least to most severe (server/utilities/logging, Log Levels)."""

LISTS: Final = frozenset({"tools/list", "resources/list", "resources/templates/list", "prompts/list"})
CALLS: Final = frozenset({"tools/call", "resources/read", "prompts/get", "completion/complete"})
TASKS: Final = frozenset({"tasks/get", "tasks/update", "tasks/cancel"})
"""Methods of the extension `TASKS_EXTENSION`; methods of 2025-11-25 with these names are another protocol."""
METHODS: Final = LISTS | CALLS | TASKS
"""Methods that go through the pipeline; the gateway itself serves all others."""
PLUGIN_METHODS: Final = METHODS | {SUBSCRIBE}
"""Methods that plugins can hook. To them, each resource in a `subscriptions/listen` is a `resources/subscribe`."""

TASK_ID: Final = "taskId"
TASK_IDS: Final = "taskIds"
"""The member of a `subscriptions/listen` filter that requests the status of tasks."""
NAME_MEMBERS: Final[Mapping[str, str]] = {
    "tools/call": "name",
    "prompts/get": "name",
    "resources/read": "uri",
    **dict.fromkeys(TASKS, TASK_ID),
}
"""Method -> the member of `params` with the requested name; Streamable HTTP repeats it in `Mcp-Name`."""

TASKS_EXTENSION: Final = "io.modelcontextprotocol/tasks"
EXTENSIONS: Final = frozenset({TASKS_EXTENSION, "io.modelcontextprotocol/ui"})
"""Upstream extensions that work through the gateway, because it passes their data on or serves them itself. Others
may define methods that the gateway does not know, or may concern only the hop between gateway and upstream."""

REQUESTS: Final = "inputRequests"
RESPONSES: Final = "inputResponses"
STATE: Final = "requestState"
"""Members of a later round's params and of the result that requests it (2026-07-28, basic/patterns/mrtr)."""
MAY_ASK: Final = frozenset({"tools/call", "resources/read", "prompts/get"})
"""Methods that may be answered with `input_required` (2026-07-28, basic/patterns/mrtr)."""
MAY_BECOME_TASKS: Final = frozenset({"tools/call"})
"""Methods that may be answered with a task (SEP-2663, Supported Methods)."""
CACHEABLE: Final = LISTS | {DISCOVER, "resources/read"}
"""Methods whose complete results carry `ttlMs` and `cacheScope` (2026-07-28, server/utilities/caching)."""

CHANGING: Final = ("tools", "prompts", "resources")
"""Capabilities whose lists can change."""


def list_changed(capability: str) -> str:
    """The name of the `list_changed` notification of `tools`, `prompts` or `resources`."""
    return f"notifications/{capability}/list_changed"


def listen_key(capability: str) -> str:
    """The member of a `subscriptions/listen` filter that requests `list_changed` notifications."""
    return f"{capability}ListChanged"


ROOTS_CHANGED: Final = "notifications/roots/list_changed"
"""A notification of legacy agents (up to 2025-11-25, client/roots); modern agents are asked each time."""

RESERVED_PREFIX: Final = "io.modelcontextprotocol/"
"""Keys of `_meta` with this prefix belong to one hop, so each hop sets them itself (basic/index, `_meta`)."""
SERVER_INFO_KEY: Final = RESERVED_PREFIX + "serverInfo"
SUBSCRIPTION_ID_KEY: Final = RESERVED_PREFIX + "subscriptionId"
PROTOCOL_VERSION_KEY: Final = RESERVED_PREFIX + "protocolVersion"
CLIENT_INFO_KEY: Final = RESERVED_PREFIX + "clientInfo"
CLIENT_CAPABILITIES_KEY: Final = RESERVED_PREFIX + "clientCapabilities"
LOG_LEVEL_KEY: Final = RESERVED_PREFIX + "logLevel"

OWN_PREFIX: Final = "dev.radium.gateway/"
OUTCOME_KEY: Final = OWN_PREFIX + "outcome"
"""`_meta` key of a result: it is unknown whether the tool ran (rule R9)."""
IDEMPOTENCY_KEY: Final = OWN_PREFIX + "idempotencyKey"
"""`_meta` key of a request, the same on all attempts, so that servers can detect a repetition (rule R11)."""
UPSTREAM_KEY: Final = OWN_PREFIX + "upstream"
"""`_meta` key of a question: the upstream that asks (client/elicitation, Security Considerations). It is null if the
gateway itself asks; no upstream can set it."""
PLUGIN_KEY: Final = OWN_PREFIX + "plugin"
"""`_meta` key of a question of the gateway itself: the plugin for which it asks."""
