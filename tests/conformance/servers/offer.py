"""What every reference server offers, under the names that the suite asks for, and what it answers.

The tools and prompts are in `plain`, `asking` and `jobs`; here are the resources, the lists, and one function per
method.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

import asking  # noqa: F401  (being imported, it registers what it has)
import jobs  # noqa: F401
import plain  # noqa: F401
from registry import (
    IMAGE,
    PROMPTS,
    TOOLS,
    WATCHED,
    Caller,
    Function,
    Json,
    MissingError,
    RefusedError,
    UnsupportedError,
    added,
    require,
    text,
)

__all__ = [
    "RESOURCES",
    "TEMPLATES",
    "TOOLS",
    "Caller",
    "Json",
    "MissingError",
    "RefusedError",
    "UnsupportedError",
    "call",
    "complete",
    "get_prompt",
    "prompts",
    "read",
    "require",
    "tools",
]

_TEMPLATE = re.compile(r"test://template/([^/]+)/data")
RESOURCES: list[Json] = [
    {"uri": "test://static-text", "name": "static-text", "description": "A text", "mimeType": "text/plain"},
    {"uri": "test://static-binary", "name": "static-binary", "description": "An image", "mimeType": "image/png"},
    {"uri": WATCHED, "name": "watched-resource", "description": "Can be subscribed to", "mimeType": "text/plain"},
]
TEMPLATES: list[Json] = [
    {
        "uriTemplate": "test://template/{id}/data",
        "name": "template",
        "description": "Some data of an id",
        "mimeType": "application/json",
    }
]


def tools() -> list[Json]:
    dynamic = {"name": "test_dynamic_tool", "description": "Comes and goes.", "inputSchema": {"type": "object"}}
    return [each for each, _ in TOOLS.values()] + ([dynamic] if dynamic["name"] in added else [])


def prompts() -> list[Json]:
    dynamic = {"name": "test_dynamic_prompt", "description": "Comes and goes."}
    return [each for each, _ in PROMPTS.values()] + ([dynamic] if dynamic["name"] in added else [])


async def call(caller: Caller, name: str, arguments: Mapping[str, Any]) -> Json:
    """One `tools/call`. Whatever a tool raises is its own error, except what concerns the protocol."""
    if name not in TOOLS:
        raise MissingError(f"Unknown tool: {name}")
    return await result_of(caller, TOOLS[name][1], arguments)


async def result_of(caller: Caller, function: Function, arguments: Mapping[str, Any]) -> Json:
    try:
        made = await function(caller, arguments)
    except Exception as error:
        if isinstance(error, (UnsupportedError, RefusedError, *caller.passes)):
            raise
        return {"content": [text(str(error))], "isError": True}
    return {"content": [text(made)] if isinstance(made, str) else made}


async def get_prompt(caller: Caller, name: str, arguments: Mapping[str, Any]) -> Json:
    if name not in PROMPTS:
        raise MissingError(f"Unknown prompt: {name}")
    definition, function = PROMPTS[name]
    return {"description": definition["description"], "messages": await function(caller, arguments)}


def read(uri: str) -> Json:
    if uri == "test://static-binary":
        return {"contents": [{"uri": uri, "mimeType": "image/png", "blob": IMAGE}]}
    if matched := _TEMPLATE.fullmatch(uri):
        data = {"id": matched[1], "templateTest": True, "data": f"Data for ID: {matched[1]}"}
        return {"contents": [{"uri": uri, "mimeType": "application/json", "text": json.dumps(data)}]}
    texts = {"test://static-text": "This is the content of the static text resource.", WATCHED: "Watched content."}
    if uri not in texts:
        raise MissingError("Resource not found")
    return {"contents": [{"uri": uri, "mimeType": "text/plain", "text": texts[uri]}]}


def complete(value: str) -> Json:
    values = [each for each in ("paris", "park", "party") if each.startswith(value)]
    return {"completion": {"values": values, "total": len(values), "hasMore": False}}
