"""Spans on their way to the collector: real requests of the SDK's exporter, a bounded queue, losses, the end."""

import asyncio
import threading
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from gateway_observe_traces.exporting import Pipeline
from gateway_observe_traces.plugin import Traces
from loguru import logger
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.trace import SpanContext, TraceFlags

from gateway_core.testing import FakeUpstream, configured, make_call, run_call


class Collector:
    """Receives OTLP over HTTP, and answers with `status`."""

    def __init__(self, status: int = 200) -> None:
        self.status = status
        self.headers: list[dict[str, str]] = []
        self.spans: list[Any] = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                import gzip

                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                request = ExportTraceServiceRequest()
                request.ParseFromString(body)
                if collector.status == 200:
                    collector.spans += [
                        span for it in request.resource_spans for scope in it.scope_spans for span in scope.spans
                    ]
                collector.headers.append({name.lower(): value for name, value in self.headers.items()})
                self.send_response(collector.status)
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/v1/traces"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def collector() -> Iterator[Collector]:
    found = Collector()
    yield found
    found.close()


@pytest.fixture
def lines() -> Iterator[list[str]]:
    found: list[str] = []
    handler = logger.add(lambda message: found.append(message.record["message"]), level="INFO")
    yield found
    logger.remove(handler)


async def calls(plugin: Any, number: int = 1) -> None:
    """Make calls in one life of the plugin, which ends with the delivery of what is queued."""
    for _ in range(number):
        await run_call(make_call(), FakeUpstream(), plugin)


async def test_the_collector_gets_the_spans_before_the_plugin_ends(collector: Collector) -> None:
    plugin = configured(Traces, endpoint=collector.url, headers={"x-key": "hush"}, service_name="desk")
    await calls(plugin)
    assert sorted(span.name for span in collector.spans) == ["tools/call echo"] * 2
    assert collector.headers[0]["x-key"] == "hush"
    assert collector.headers[0]["content-type"] == "application/x-protobuf"


async def test_the_endpoint_gets_no_secret_of_the_environment(
    collector: Collector, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-other=hush,authorization=Bearer hush")
    (tmp_path / "netrc").write_text("default login someone password hush\n")
    (tmp_path / "netrc").chmod(0o600)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    await calls(configured(Traces, endpoint=collector.url, headers={"X-Key": "own"}))
    assert collector.headers[0]["x-key"] == "own"
    assert "authorization" not in collector.headers[0]
    assert "hush" not in str(collector.headers)
    assert collector.spans


@pytest.mark.parametrize("status", [None, 401, 500], ids=["down", "refuses", "fails"])
async def test_a_collector_that_takes_nothing_changes_no_call_and_is_told_once(
    status: int | None, lines: list[str]
) -> None:
    collector = Collector(status or 200)
    if status is None:
        collector.close()
    plugin: Any = configured(Traces, endpoint=collector.url, headers={"x-key": "hush"}, timeout=0.5).instance
    try:
        async with plugin:
            for _ in range(3):
                context = plugin.trace_call(begun())
                context.ended(ended())
                await asyncio.to_thread(plugin._pipeline.batches.force_flush)
            assert plugin._pipeline.exporter.lost == 3
            (warning,) = plugin.warnings
            assert warning.startswith(f"spans cannot be delivered to {collector.url}: 3 are lost")
    finally:
        if status is not None:
            collector.close()
    told = [line for line in lines if "observe_traces" in line or "pan" in line]
    assert len(told) == 1
    assert "hush" not in str(lines)
    assert plugin.warnings == []


def begun() -> Any:
    from gateway_core import CallBegun

    return CallBegun("e", "tools/list", "modern", "2026-07-28", {}, {})


def ended() -> Any:
    from gateway_core import CallEnded, CallResult, Principal

    result = CallResult(raw=b"{}")
    return CallEnded("e", "tools/list", Principal("a"), "modern", "", None, None, result, (), None, False, 1.0, 0.1, 0)


class Stuck(SpanExporter):
    """Takes one batch, and does not come back until it is let go."""

    def __init__(self) -> None:
        self.taken, self.go = threading.Event(), threading.Event()
        self.spans: list[ReadableSpan] = []

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.taken.set()
        self.go.wait(30)
        self.spans += spans
        return SpanExportResult.SUCCESS

    def shutdown(self) -> None: ...


def span(number: int) -> ReadableSpan:
    return ReadableSpan(str(number), SpanContext(1, number + 1, False, TraceFlags(1)))


def test_the_queue_is_bounded_and_what_finds_no_room_is_counted() -> None:
    exporter = Stuck()
    pipeline = Pipeline(exporter, "here", 4)
    for number in range(4):
        pipeline.batches.on_end(span(number))
    assert exporter.taken.wait(10)
    for number in range(4, 14):
        pipeline.batches.on_end(span(number))
    assert pipeline.batches.dropped == 6
    assert pipeline.problem == "6 spans found no room in the queue"
    exporter.go.set()
    assert pipeline.close(10)
    assert sorted(int(it.name) for it in exporter.spans) == [0, 1, 2, 3, 10, 11, 12, 13]


def test_the_end_waits_for_a_stuck_collector_for_a_bounded_time() -> None:
    exporter = Stuck()
    pipeline = Pipeline(exporter, "here", 4)
    pipeline.batches.on_end(span(1))
    assert not pipeline.close(0.2)
    exporter.go.set()


def test_an_exporter_that_raises_loses_its_spans_and_nothing_else(lines: list[str]) -> None:
    class Broken(Stuck):
        def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
            raise ValueError("hush")

    pipeline = Pipeline(Broken(), "here", 4)
    pipeline.batches.on_end(span(1))
    assert pipeline.close(10)
    assert pipeline.exporter.lost == 1
    assert len(lines) == 1
    assert "ValueError" in lines[0]
    assert "hush" not in lines[0]


def test_recovery_is_told(lines: list[str]) -> None:
    results = [SpanExportResult.FAILURE, SpanExportResult.SUCCESS]

    class Flaky(Stuck):
        def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
            return results.pop(0)

    pipeline = Pipeline(Flaky(), "here", 4)
    for _ in range(2):
        pipeline.batches.on_end(span(1))
        pipeline.batches.force_flush()
    assert pipeline.problem == ""
    assert [line.partition(": ")[2][:24] for line in lines] == ["spans cannot be delivere", "here takes spans again; "]
    assert pipeline.close(10)
