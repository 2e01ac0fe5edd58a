"""The official Python SDK, version 1, with many odd servers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import jobs
from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamable_http_client


@asynccontextmanager
async def connect(job: dict[str, Any]) -> AsyncIterator[ClientSession]:
    if "url" in job:
        streams: Any = streamable_http_client(job["url"])
    else:
        program, *arguments = job["command"]
        streams = stdio_client(StdioServerParameters(command=program, args=arguments))
    async with streams as (read, write, *_), ClientSession(read, write) as session:
        await session.initialize()
        yield session


asyncio.run(jobs.run(connect))
