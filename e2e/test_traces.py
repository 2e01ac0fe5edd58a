"""Traces from an agent through the gateway into servers, by OpenTelemetry's SDK, against the journals of the servers.

The agents and the servers are official SDKs, which make spans and pass trace context on. A collector stands in for
a real one: it receives OTLP over HTTP and reads it with the official types.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from opentelemetry import trace
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

PROGRAMS = Path(__file__).parent / "traces"
SERVER, CLIENT, INTERNAL = 2, 3, 1
"""Kinds of spans in OTLP."""


class Collector:
    """The spans that arrived, each with the name of its service."""

    def __init__(self) -> None:
        self.spans: list[tuple[str, Any]] = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                request = ExportTraceServiceRequest.FromString(body)
                for resource in request.resource_spans:
                    about = {it.key: it.value.string_value for it in resource.resource.attributes}
                    for scope in resource.scope_spans:
                        collector.spans += [(about["service.name"], span) for span in scope.spans]
                self.send_response(200)
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/v1/traces"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def of(self, service: str, kind: int | None = None, method: str = "tools/call") -> list[Any]:
        """The spans of a service, of a kind, about a method."""
        return [
            span
            for owner, span in list(self.spans)
            if owner == service and kind in (None, span.kind) and attributes(span).get("mcp.method.name") == method
        ]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def attributes(span: Any) -> dict[str, Any]:
    return {it.key: it.value.string_value or it.value.int_value for it in span.attributes}


@pytest.fixture(scope="module")
def agent_spans() -> InMemorySpanExporter:
    """The spans of the agents in this process."""
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    return exporter


@pytest.fixture
def collector() -> Iterator[Collector]:
    found = Collector()
    yield found
    found.close()


@pytest.fixture
def stage(launcher: Any, collector: Collector, tmp_path: Path, wait_for: Any) -> Any:
    """Starts a gateway over three servers; returns it and the journals of the servers by name."""

    def start(**settings: Any) -> tuple[Any, dict[str, Path]]:
        journals = {name: tmp_path / f"{name}.journal" for name in ("near", "far", "old")}
        port = launcher.free_port()
        program, places = str(PROGRAMS / "server.py"), {"near": "stdio", "far": str(port)}
        arguments = {name: [program, name, place, str(journals[name]), collector.url] for name, place in places.items()}
        launcher.processes.start("far", sys.executable, *arguments["far"])
        old = [str(PROGRAMS / "legacy_server.py"), str(journals["old"])]
        stdio = {"transport": "stdio", "command": sys.executable}
        gateway = launcher.gateway(
            {
                "upstreams": [
                    {"name": "near", **stdio, "args": arguments["near"]},
                    {"name": "far", "transport": "http", "url": f"http://127.0.0.1:{port}/mcp"},
                    {"name": "old", **stdio, "args": old},
                ],
                "plugins": [
                    {"name": "routing_priority"},
                    {"name": "conflict_autoprefix"},
                    {"name": "security_policy", "rules": [{"tools": ["add_*"], "then": "allow"}]},
                    {"name": "observe_traces", "endpoint": collector.url, **settings},
                ],
            },
            upstreams=3,
        )
        return gateway, journals

    return start


async def calls(url: str, mode: str, number: int = 3) -> None:
    """Calls each server's tool."""
    async with Client(streamable_http_client(url), mode=mode) as client:
        for name in ("near", "far", "old"):
            for value in range(number):
                result = await client.call_tool(f"add_{name}", {"a": value, "b": 1})
                assert not result.is_error


def journal(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize("mode", ["legacy", "2026-07-28"])
def test_one_trace_leads_from_the_agent_through_the_gateway_into_the_server(
    stage: Any, collector: Collector, agent_spans: InMemorySpanExporter, mode: str, wait_for: Any
) -> None:
    gateway, journals = stage(ratio=0.0)  # the agents decide
    agent_spans.clear()
    asyncio.run(calls(gateway.url, mode))
    gateway.process.terminate()  # what is queued arrives before the end
    assert gateway.process.wait(60) == 0
    wait_for(lambda: len(collector.of("near")) == len(collector.of("far")) == 3, "the spans of the servers arrive")
    roots, hops = (collector.of("radium-mcp-gateway", kind) for kind in (SERVER, CLIENT))
    hooks = [it for _, it in collector.spans if it.kind == INTERNAL and "radium.plugin" in attributes(it)]
    agents = {
        f"{span.context.span_id:016x}": f"{span.context.trace_id:032x}"
        for span in agent_spans.get_finished_spans()
        if span.context is not None and "tools/call" in span.name
    }
    assert len(agents) == len(roots) == len(hops) == 9
    assert {root.parent_span_id.hex(): root.trace_id.hex() for root in roots} == agents
    by_id = {root.span_id: root for root in roots}
    assert {hop.parent_span_id for hop in hops} == by_id.keys()
    assert all(hop.trace_id == by_id[hop.parent_span_id].trace_id for hop in hops)
    # One request to each server for each line of its journal, and the server's span is below that of the request.
    sent = Counter(attributes(hop)["radium.upstream"] for hop in hops)
    assert sent == {name: len(journal(path)) for name, path in journals.items()} == dict.fromkeys(journals, 3)
    for name, path in journals.items():
        own = {
            f"00-{it.trace_id.hex()}-{it.span_id.hex()}-01" for it in hops if attributes(it)["radium.upstream"] == name
        }
        assert {line["meta"] for line in journal(path)} == own
        assert {line["header"] for line in journal(path)} == (own if name == "far" else {None})
    for name in ("near", "far"):
        below = {span.parent_span_id: span.trace_id for span in collector.of(name, SERVER)}
        assert below == {it.span_id: it.trace_id for it in hops if attributes(it)["radium.upstream"] == name}
    of_policy = Counter(
        attributes(it)["radium.hook"]
        for it in hooks
        if attributes(it)["radium.plugin"] == "security_policy" and it.parent_span_id in by_id
    )
    assert of_policy == {"before_call": 9, "after_call": 9}
    assert {attributes(it)["network.transport"] for it in hops} == {"pipe", "tcp"}


def test_calls_that_are_not_recorded_make_no_span_anywhere(
    stage: Any, collector: Collector, agent_spans: InMemorySpanExporter
) -> None:
    gateway, journals = stage(ratio=0.0, follow_agents=False)
    asyncio.run(calls(gateway.url, "2026-07-28", 2))
    gateway.process.terminate()
    assert gateway.process.wait(60) == 0
    assert collector.of("radium-mcp-gateway") == []
    assert collector.of("near") == collector.of("far") == []
    for path in journals.values():
        assert [line["meta"][-3:] for line in journal(path)] == ["-00", "-00"]


def test_a_reload_changes_what_is_recorded(
    stage: Any, collector: Collector, agent_spans: InMemorySpanExporter, wait_for: Any
) -> None:
    gateway, _ = stage(ratio=0.0, follow_agents=False)
    asyncio.run(calls(gateway.url, "2026-07-28", 1))
    gateway.config.write_text(gateway.config.read_text().replace("ratio = 0.0", "ratio = 1.0"))
    gateway.rad("reload")
    asyncio.run(calls(gateway.url, "2026-07-28", 2))
    for kind in (SERVER, CLIENT):
        wait_for(
            lambda kind=kind: len(collector.of("radium-mcp-gateway", kind)) >= 6, "the spans after the reload arrive"
        )
    gateway.process.terminate()  # what is queued arrives before the end
    assert gateway.process.wait(60) == 0
    assert [len(collector.of("radium-mcp-gateway", kind)) for kind in (SERVER, CLIENT)] == [6, 6]


def test_without_the_plugin_the_context_of_the_agent_reaches_the_server_unchanged(
    stage: Any, collector: Collector, agent_spans: InMemorySpanExporter, wait_for: Any
) -> None:
    gateway, journals = stage(enabled=False)
    agent_spans.clear()
    asyncio.run(calls(gateway.url, "2026-07-28", 1))
    own = {
        f"00-{span.context.trace_id:032x}-{span.context.span_id:016x}"
        for span in agent_spans.get_finished_spans()
        if span.context is not None and "tools/call" in span.name
    }
    assert {line["meta"][:-3] for path in journals.values() for line in journal(path)} == own
    assert collector.of("radium-mcp-gateway") == []
