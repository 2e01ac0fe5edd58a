"""The official Python SDK, version 2, with many odd servers."""

from __future__ import annotations

import asyncio
from typing import Any

import jobs
from mcp import Client, StdioServerParameters


def connect(job: dict[str, Any]) -> Client:
    if "url" in job:
        return Client(job["url"])
    program, *arguments = job["command"]
    return Client(StdioServerParameters(command=program, args=arguments))


asyncio.run(jobs.run(connect))
