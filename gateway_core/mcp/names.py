"""The protocol's own names, once: versions, methods, headers, reserved `_meta` keys, and who the gateway says it is.

The official SDK has many of them, too, and importing it takes half a second and 20 MB, so that starting does without.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from typing import Final

IMPLEMENTATION: Final[Mapping[str, str]] = {"name": "radium-mcp-gateway", "version": version("gateway-core")}
"""The gateway's `Implementation`, towards agents and towards upstreams."""

HANDSHAKE_PROTOCOL_VERSIONS: Final = ("2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25")
"""Legacy versions, the oldest first: agreed on by `initialize`."""
LATEST_HANDSHAKE_VERSION: Final = HANDSHAKE_PROTOCOL_VERSIONS[-1]
MODERN_PROTOCOL_VERSIONS: Final = ("2026-07-28",)
"""Versions whose requests stand alone, the oldest first."""
LATEST_MODERN_VERSION: Final = MODERN_PROTOCOL_VERSIONS[-1]

MCP_PROTOCOL_VERSION_HEADER: Final = "mcp-protocol-version"
MCP_METHOD_HEADER: Final = "mcp-method"
MCP_NAME_HEADER: Final = "mcp-name"
"""What a modern request repeats in headers (transports/streamable-http, Standard Request Headers)."""
MCP_PARAM_HEADER_PREFIX: Final = "Mcp-Param-"
"""Headers that mirror arguments of a tool (transports/streamable-http, Custom Headers)."""

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
"""From the least to the most severe (server/utilities/logging, Log Levels)."""

LISTS: Final = frozenset({"tools/list", "resources/list", "resources/templates/list", "prompts/list"})
CALLS: Final = frozenset({"tools/call", "resources/read", "prompts/get", "completion/complete"})
TASKS: Final = frozenset({"tasks/get", "tasks/update", "tasks/cancel"})
"""Methods of the extension `TASKS_EXTENSION`; the methods of 2025-11-25 with such names are another protocol."""
METHODS: Final = LISTS | CALLS | TASKS
"""Everything that goes through the pipeline; other methods are between the agent and the gateway."""

TASK_ID: Final = "taskId"
TASK_IDS: Final = "taskIds"
"""The member of a `subscriptions/listen` filter that asks for the status of tasks."""
NAME_MEMBERS: Final[Mapping[str, str]] = {
    "tools/call": "name",
    "prompts/get": "name",
    "resources/read": "uri",
    **dict.fromkeys(TASKS, TASK_ID),
}
"""Method -> the member of `params` that names what is asked for; Streamable HTTP repeats its value in `Mcp-Name`."""

TASKS_EXTENSION: Final = "io.modelcontextprotocol/tasks"
EXTENSIONS: Final = frozenset({TASKS_EXTENSION, "io.modelcontextprotocol/ui"})
"""Extensions of upstreams that work through the gateway: data that passes, and what the gateway itself serves. Others
may have methods of their own, which it does not know, or may be about the hop between it and the upstream."""

REQUESTS: Final = "inputRequests"
RESPONSES: Final = "inputResponses"
STATE: Final = "requestState"
"""Members of the params of a later round, and of the result that asks for it (2026-07-28, basic/patterns/mrtr)."""
MAY_ASK: Final = frozenset({"tools/call", "resources/read", "prompts/get"})
"""Methods that may be answered with `input_required` (2026-07-28, basic/patterns/mrtr)."""
MAY_BECOME_TASKS: Final = frozenset({"tools/call"})
"""Methods that may be answered with a task (SEP-2663, Supported Methods)."""
CACHEABLE: Final = LISTS | {DISCOVER, "resources/read"}
"""Methods whose complete results carry `ttlMs` and `cacheScope` (2026-07-28, server/utilities/caching)."""

CHANGING: Final = ("tools", "prompts", "resources")
"""Capabilities whose lists can change."""


def list_changed(capability: str) -> str:
    """The notification that a list of `tools`, `prompts` or `resources` changed."""
    return f"notifications/{capability}/list_changed"


def listen_key(capability: str) -> str:
    """The member of a `subscriptions/listen` filter that asks for those notifications."""
    return f"{capability}ListChanged"


ROOTS_CHANGED: Final = "notifications/roots/list_changed"
"""What legacy agents say (up to 2025-11-25, client/roots); later ones are asked for their roots each time."""

RESERVED_PREFIX: Final = "io.modelcontextprotocol/"
"""Keys of `_meta` under this prefix belong to one hop: they are made anew for each (basic/index, `_meta`)."""
SERVER_INFO_KEY: Final = RESERVED_PREFIX + "serverInfo"
SUBSCRIPTION_ID_KEY: Final = RESERVED_PREFIX + "subscriptionId"
PROTOCOL_VERSION_KEY: Final = RESERVED_PREFIX + "protocolVersion"
CLIENT_INFO_KEY: Final = RESERVED_PREFIX + "clientInfo"
CLIENT_CAPABILITIES_KEY: Final = RESERVED_PREFIX + "clientCapabilities"
LOG_LEVEL_KEY: Final = RESERVED_PREFIX + "logLevel"

OWN_PREFIX: Final = "dev.radium.gateway/"
OUTCOME_KEY: Final = OWN_PREFIX + "outcome"
"""`_meta` key of a result that tells that nobody knows whether the tool ran (rule R9)."""
IDEMPOTENCY_KEY: Final = OWN_PREFIX + "idempotencyKey"
"""`_meta` key of a request, constant over all attempts, by which a server may recognise a repetition (rule R11)."""
UPSTREAM_KEY: Final = OWN_PREFIX + "upstream"
"""`_meta` key of a question, the upstream that asks it (client/elicitation, Security Considerations)."""
