"""The tool that stands in for an upstream's own while a principal has no login there."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final

from gateway_core.config import UpstreamConfig
from gateway_core.mcp import jsonrpc
from gateway_core.mcp.names import TOOLS_CALL
from gateway_core.upstream.lists.fetched_lists import FetchedLists, Item
from gateway_core.upstream.requests import Reply, Request

CODE: Final = "code"
"""The argument with the code that a browser shows after a login."""


def login_tool_name(upstream: str) -> str:
    """The name of the tool for an upstream."""
    return f"{upstream}_login"


def is_login_tool(config: UpstreamConfig, name: str) -> bool:
    """Whether an upstream's own name for a tool is that of its login tool."""
    return config.of_users and name == login_tool_name(config.name)


@lru_cache(maxsize=1024)
def login_tool(upstream: str) -> Item:
    """The tool for an upstream."""
    name = login_tool_name(upstream)
    code = f"The code that the browser shows after the login at {upstream}, if it shows one."
    raw = jsonrpc.encode(
        {
            "name": name,
            "title": f"Log in at {upstream}",
            "description": f"The tools of {upstream} need a login of the user, who has none yet. Call this tool to let "
            "the user log in with a browser. Afterwards the tools are in the list.",
            "inputSchema": {"type": "object", "properties": {CODE: {"type": "string", "description": code}}},
            "annotations": {"readOnlyHint": False, "destructiveHint": False, "idempotentHint": True},
        }
    )
    return Item("tool", name, raw, f"login {upstream}")


def lists_without_login(upstream: str, shared: FetchedLists) -> FetchedLists:
    """What a principal without a login sees: the lists that the gateway fetched itself, and the login tool."""
    tools = (*shared.of("tool"), login_tool(upstream))
    return FetchedLists({**shared.items, "tool": tools}, shared.hints).sharing(shared)


def reply_to_login(upstream: str, request: Request) -> Reply | None:
    """The answer to a call of the login tool by a principal that has a login; None for any other request."""
    if request.method != TOOLS_CALL or request.params.get("name") != login_tool_name(upstream):
        return None
    text = f"The user is logged in at {upstream}. Its tools are in the list of tools; fetch the list again."
    content: dict[str, Any] = {"content": [{"type": "text", "text": text}]}
    return Reply(result=jsonrpc.encode(content), era="legacy")
