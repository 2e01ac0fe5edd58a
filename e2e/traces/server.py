"""A server on the official SDK whose spans go to a collector: `server.py NAME stdio|PORT JOURNAL COLLECTOR`.

The journal gets one line for each call: the tool's arguments, and the trace context that came with it.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

name, place, journal, collector = sys.argv[1:]
provider = TracerProvider(resource=Resource.create({"service.name": name}))
provider.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter(collector)))
trace.set_tracer_provider(provider)

server = MCPServer(name, log_level="WARNING")


def record(line: dict[str, Any]) -> None:
    with Path(journal).open("a") as file:
        file.write(json.dumps(line) + "\n")


@server.tool(name=f"add_{name}")
async def add(a: int, b: int, context: Context) -> int:
    """Add two numbers."""
    request = context.request_context
    header = None if request.request is None else request.request.headers.get("traceparent")
    line = {"a": a, "meta": dict(request.meta or {}).get("traceparent"), "header": header}
    record(line)
    if a < 0:
        raise ToolError("too small")
    return a + b


if place == "stdio":
    server.run("stdio")
else:
    server.run("streamable-http", host="127.0.0.1", port=int(place), stateless_http=True)
