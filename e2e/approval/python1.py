"""The official Python SDK, version 1: calls tools, and answers the gateway's questions. Prints what came of it.

Arguments: the URL, `sse` or `http`, what to do with questions (`accept`, `decline`, `late`), and the calls as JSON.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from mcp import ClientSession, McpError, types
from mcp.client.sse import sse_client
from mcp.client.streamable_http import streamable_http_client


async def main() -> None:
    url, transport, action, calls = *sys.argv[1:4], json.loads(sys.argv[4])
    asked: list[str] = []

    async def elicited(context: Any, params: Any) -> types.ElicitResult:
        asked.append(params.message)
        if action == "late":
            await asyncio.sleep(3)  # this client reads nothing meanwhile
        accepts = action != "decline"
        return types.ElicitResult(action="accept" if accepts else "decline", content={} if accepts else None)

    streams: Any = sse_client(url) if transport == "sse" else streamable_http_client(url)
    ends: list[str] = []
    info = types.Implementation(name="approval-python1", version="1")
    async with (
        streams as (read, write, *_),
        ClientSession(read, write, elicitation_callback=elicited, client_info=info) as session,
    ):
        await session.initialize()
        for name, arguments in calls:
            try:
                result = await session.call_tool(name, arguments)
                ends.append(result.content[0].text)
            except McpError as error:
                ends.append(f"{error.error.code} {error.error.message}")
    print(json.dumps({"asked": asked, "ends": ends}))


asyncio.run(main())
