"""Takes the steps of a plan with a client of the official Python SDK, of either version.

Results are read as JSON, because the two versions name the attributes differently.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

Step = Mapping[str, Any]
End = dict[str, Any]

MAX_PAGES = 5


async def take(client: Any, steps: Sequence[Step], limit: float, ends: list[End] | None = None) -> list[End]:
    """The end of each step, `{"got": value}` or `{"error": text}`, with `limit` seconds for each; added to `ends`."""
    ends = [] if ends is None else ends
    for step in steps:
        try:
            async with asyncio.timeout(limit):
                ends.append({"got": await _take(client, step)})
        except (Exception, BaseExceptionGroup) as error:
            ends.append({"error": reason(error)})
    return ends


def reason(error: BaseException) -> str:
    """One error in a line; of a group the first."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, TimeoutError):
        return "nothing came in time"
    return " ".join(f"{type(error).__name__}: {error}".split())


async def _take(client: Any, step: Step) -> Any:
    match step["do"]:
        case "tools":
            return await _names(client.list_tools, "tools", "name", step)
        case "prompts":
            return await _names(client.list_prompts, "prompts", "name", step)
        case "resources":
            return await _names(client.list_resources, "resources", "uri", step)
        case "templates":
            return await _names(client.list_resource_templates, "resourceTemplates", "uriTemplate", step)
        case "call":
            return await _call(client, step["name"], step["arguments"])
        case "call all":
            tools = await _all(client.list_tools, "tools")
            names = [it["name"] for it in tools if it.get("description") == step["described"]]
            return sorted([await _call(client, name, {}) for name in names])
        case "read":
            return "".join(it["text"] for it in _json(await client.read_resource(step["uri"]))["contents"])
        case "prompt":
            found = _json(await client.get_prompt(step["name"], step["arguments"]))
            return "".join(it["content"]["text"] for it in found["messages"])
        case "wait":
            return await asyncio.sleep(step["seconds"])
    raise ValueError(step)


async def _names(fetch: Any, key: str, member: str, step: Step) -> list[str]:
    """The names in a list that have the text `with` of the step."""
    return [str(it[member]) for it in await _all(fetch, key) if step["with"] in str(it[member])]


async def _call(client: Any, name: str, arguments: dict[str, Any]) -> str:
    result = _json(await client.call_tool(name, arguments))
    text = "".join(it.get("text", "") for it in result["content"])
    if result.get("isError"):
        raise RuntimeError(f"tool error: {text}")
    return text or str((result.get("structuredContent") or {}).get("text", ""))


async def _all(fetch: Any, key: str) -> list[Any]:
    found: list[Any] = []
    cursor = None
    for _ in range(MAX_PAGES):
        page = _json(await fetch(cursor=cursor))
        found += page[key]
        cursor = page.get("nextCursor")
        if not cursor:
            return found
    raise RuntimeError("the list does not end")


def _json(result: Any) -> Any:
    return result.model_dump(by_alias=True, mode="json")
