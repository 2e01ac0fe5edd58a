"""The official Python SDK, version 1, whose user is asked to log in: prints each address, and the results of the calls.

Arguments: the URL, the `Authorization` for the proxy, and the names of tools. Other questions are answered with the
next line of stdin, as the only field.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import httpx
from mcp import ClientSession, types
from mcp.client.streamable_http import streamable_http_client


async def elicited(context: Any, params: Any) -> types.ElicitResult:
    if params.mode == "url":
        print("open", params.url, flush=True)
        return types.ElicitResult(action="accept")
    print("asked", *params.requestedSchema["properties"], flush=True)
    (field,) = params.requestedSchema["properties"]
    value = (await asyncio.to_thread(sys.stdin.readline)).strip()
    return types.ElicitResult(action="accept", content={field: value})


async def main() -> None:
    url, authorization, *names = sys.argv[1:]
    async with (
        httpx.AsyncClient(headers={"Authorization": authorization}, timeout=60) as http,
        streamable_http_client(url, http_client=http) as (read, write, *_),
        ClientSession(read, write, elicitation_callback=elicited) as session,
    ):
        await session.initialize()
        for name in names:
            result = await session.call_tool(name, {})
            print("result", result.content[0].text, flush=True)
        print("tools", *sorted(tool.name for tool in (await session.list_tools()).tools), flush=True)


asyncio.run(main())
