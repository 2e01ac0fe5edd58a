"""The client capabilities declared to servers, and the check whether an agent supports a question.

A legacy server gets them once per connection, a modern one with every request. A connection or request of one agent
declares that agent's capabilities. A shared one declares all of them; each question is then checked against the
capabilities of the agent that it is for.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from gateway_core.api import Era
from gateway_core.errors import METHOD_NOT_FOUND, RpcError
from gateway_core.exchange.exchange import Agent
from gateway_core.mcp import jsonrpc
from gateway_core.mcp.names import TASKS_EXTENSION

ELICIT: Final = "elicitation/create"
SAMPLE: Final = "sampling/createMessage"
ROOTS: Final = "roots/list"
QUESTIONS: Final = frozenset({ELICIT, SAMPLE, ROOTS})
"""The requests that a legacy server sends to a client, and a modern one puts into `inputRequests`."""

EVERYTHING: Final[Mapping[str, Any]] = {
    "elicitation": {"form": {}, "url": {}},
    "sampling": {"context": {}, "tools": {}},
    "roots": {},
}
"""Declared on connections that agents share, and in requests without an agent."""
_OF_ONE_ERA: Final = frozenset({"tasks"})
"""Capabilities of the 2025-11-25 revision without a modern counterpart; their requests are not passed on."""


def _decode(capabilities: bytes) -> Mapping[str, Any]:
    try:
        found = msgspec.json.decode(capabilities or b"{}", type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError):
        return {}
    return {name: value for name, value in found.items() if isinstance(value, dict) and name not in _OF_ONE_ERA}


def declared_by(agent: Agent) -> Mapping[str, Any]:
    """Those of an agent's `ClientCapabilities` that can be passed on to a server of either era."""
    return _decode(agent.capabilities)


def _modern(capabilities: bytes, era: Era) -> bytes:
    found = dict(_decode(capabilities))
    if "roots" in found:
        found["roots"] = {}  # modern clients do not announce changes of roots
    if era == "legacy" and TASKS_EXTENSION in found.get("extensions", {}):
        # The extension does not exist in the legacy era: a legacy agent could not handle a task.
        found["extensions"] = {name: it for name, it in found["extensions"].items() if name != TASKS_EXTENSION}
    return jsonrpc.encode(found)


def for_modern(agent: Agent) -> msgspec.Raw:
    """An agent's capabilities for the `_meta` of a request to a modern server."""
    return msgspec.Raw(_modern(agent.capabilities, agent.era))


def takes_tasks(agent: Agent) -> bool:
    """Whether the agent declared that a task may replace a result (SEP-2663, Capability Negotiation)."""
    return agent.era == "modern" and TASKS_EXTENSION in declared_by(agent).get("extensions", {})


def can_be_asked(agent: Agent) -> bool:
    """Whether the agent supports any kind of question."""
    return any(name in declared_by(agent) for name in EVERYTHING)


def opens_urls_only(agent: Agent) -> bool:
    """Whether the agent's client can open URLs for its user, but shows no forms."""
    modes = declared_by(agent).get("elicitation", {})
    return "url" in modes and "form" not in modes


class MissingCapability(RpcError):
    """The agent did not declare the capability for a question. The message is for the server that asks."""

    def __init__(self, capability: str, member: str) -> None:
        what = f"{capability}.{member}" if member else capability
        error = RpcError.of_gateway(METHOD_NOT_FOUND, f"the client did not declare the capability {what}")
        super().__init__(error.code, error.message, error.data)
        self.required: Final[Mapping[str, Any]] = {capability: {member: {}} if member else {}}
        """The missing capability, as `ClientCapabilities`."""


def check(agent: Agent, method: str, params: bytes) -> None:
    """Check that the agent declared the capability for a question (basic/patterns/mrtr, 2025-11-25
    basic/lifecycle, Capability Negotiation). Raises `MissingCapability`, or `RpcError` for a malformed question."""
    capability, member = _needed(method, params)
    found = declared_by(agent).get(capability)
    if found is None or (member and member not in found and not (member == "form" and not found)):
        raise MissingCapability(capability, member)


def _needed(method: str, params: bytes) -> tuple[str, str]:
    """The capability that a question needs, and its member; an empty member means the capability alone."""
    if method not in QUESTIONS:
        raise RpcError.of_gateway(METHOD_NOT_FOUND, f"clients cannot be asked {method[:100]}")
    members = jsonrpc.members(params, f"params of {method}")
    if method == ROOTS:
        return "roots", ""
    if method == SAMPLE:
        return "sampling", "tools" if "tools" in members or "toolChoice" in members else ""
    mode = jsonrpc.text(members["mode"], "mode") if "mode" in members else "form"
    return "elicitation", "url" if mode == "url" else "form"
