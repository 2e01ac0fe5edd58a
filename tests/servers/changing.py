"""A server on stdio, on the official SDK, whose definitions are in a file that its user may change.

`python changing.py FILE`. The file holds a JSON object: `tools` and `prompts`, lists of definitions. It is read again
for each list. A definition is complete, except that a tool without a schema takes any arguments.
"""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from mcp import types
from mcp.server.lowlevel import Server
from mcp.server.stdio import stdio_server

FILE = Path(sys.argv[1])


def listed(key: str) -> list[dict[str, Any]]:
    return list(json.loads(FILE.read_text()).get(key, []))


async def list_tools(ctx: Any, params: Any) -> types.ListToolsResult:
    tools = [{"inputSchema": {"type": "object"}, **one} for one in listed("tools")]
    return types.ListToolsResult.model_validate({"tools": tools})


async def list_prompts(ctx: Any, params: Any) -> types.ListPromptsResult:
    return types.ListPromptsResult.model_validate({"prompts": listed("prompts")})


server = Server("changing", version="1.0", on_list_tools=list_tools, on_list_prompts=list_prompts)


async def main() -> None:
    async with stdio_server() as (reading, writing):
        await server.run(reading, writing, server.create_initialization_options())


asyncio.run(main())
