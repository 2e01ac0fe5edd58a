"""The spans of calls, as the SDK's exporters get them, and the context that goes along."""

from collections import Counter
from typing import Any

import pytest
from gateway_observe_traces.context import read
from gateway_observe_traces.plugin import Traces
from msgspec.structs import replace
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from pydantic import ValidationError

from gateway_core import Call, CallBegun, CallEnded, CallResult, Pass, Principal, Reject, RpcError, WaitStep, hookimpl
from gateway_core.testing import FakeUpstream, configured, make_call, make_result, run_call, run_hook

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "00f067aa0ba902b7"
PARENT = f"00-{TRACE}-{SPAN}-01"
UNSAMPLED = f"00-{TRACE}-{SPAN}-00"


class InMemory(Traces):
    """The plugin with the SDK's exporter for tests."""

    Config = Traces.Config

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.exporter = InMemorySpanExporter()

    def make_exporter(self) -> SpanExporter:
        return self.exporter

    @property
    def spans(self) -> list[ReadableSpan]:
        return list(self.exporter.get_finished_spans())

    def one(self, kind: SpanKind) -> ReadableSpan:
        (found,) = [span for span in self.spans if span.kind is kind]
        return found


def made(**settings: Any) -> InMemory:
    plugin = configured(InMemory, **settings).instance
    assert isinstance(plugin, InMemory)
    return plugin


class Decides:
    def __init__(self, verdict: Any) -> None:
        self.verdict = verdict

    @hookimpl
    def before_call(self, call: Call) -> Any:
        if isinstance(self.verdict, BaseException):
            raise self.verdict
        return self.verdict


async def test_a_call_has_a_span_and_so_have_its_hooks_and_its_request() -> None:
    plugin, upstream = made(), FakeUpstream(make_result(upstream="files"))
    agent = Principal("desk@192.0.2.1", address="192.0.2.1", profile="desk")
    call = make_call("read", {"path": "secret-argument"}, principal=agent, original_name="read_file", session="key")
    await run_call(call, upstream, plugin, configured(Decides(Pass("staff")), name="policy"))
    server, client, hook = map(plugin.one, (SpanKind.SERVER, SpanKind.CLIENT, SpanKind.INTERNAL))
    assert (server.name, client.name, hook.name) == ("tools/call read", "tools/call read_file", "policy before_call")
    assert dict(server.attributes or {}) == {
        "mcp.method.name": "tools/call",
        "mcp.protocol.version": "2026-07-28",
        "mcp.session.id": "key",
        "gen_ai.tool.name": "read",
        "gen_ai.operation.name": "execute_tool",
        "client.address": "192.0.2.1",
        "enduser.id": "desk@192.0.2.1",
        "radium.exchange": "exchange",
        "radium.generation": 1,
        "radium.outcome": "ok",
        "radium.profile": "desk",
        "radium.upstream": "files",
    }
    assert dict(client.attributes or {}) == {
        "mcp.method.name": "tools/call",
        "gen_ai.tool.name": "read_file",
        "gen_ai.operation.name": "execute_tool",
        "network.transport": "pipe",
        "radium.upstream": "upstream",
        "radium.ended": "answered",
    }
    assert dict(hook.attributes or {}) == {
        "radium.plugin": "policy",
        "radium.hook": "before_call",
        "radium.decision": "pass",
        "radium.rule": "staff",
    }
    assert {span.status.status_code for span in plugin.spans} == {StatusCode.UNSET}
    assert server.parent is None
    assert server.context is not None
    for child in (client, hook):
        assert child.parent == server.context
        assert (server.start_time or 0) <= (child.start_time or 0) <= (child.end_time or 0) <= (server.end_time or 0)
    (context,) = upstream.carried
    sent = read(context)
    assert sent is not None
    assert client.context is not None
    assert (int(sent.trace, 16), int(sent.span, 16)) == (server.context.trace_id, client.context.span_id)
    assert sent.sampled
    assert "secret" not in str([(span.name, span.attributes, span.resource.attributes) for span in plugin.spans])
    assert server.resource.attributes["service.name"] == "radium-mcp-gateway"


async def test_the_context_of_the_agent_is_the_parent() -> None:
    plugin, upstream = made(ratio=0.0), FakeUpstream()
    await run_call(make_call(meta={"traceparent": PARENT, "tracestate": "a=1"}), upstream, plugin)
    server = plugin.one(SpanKind.SERVER)
    assert server.parent is not None
    assert (server.parent.trace_id, server.parent.span_id) == (int(TRACE, 16), int(SPAN, 16))
    assert server.parent.is_remote
    (context,) = upstream.carried
    assert context["tracestate"] == "a=1"
    assert context["traceparent"].startswith(f"00-{TRACE}-")
    assert SPAN not in context["traceparent"]


@pytest.mark.parametrize(
    ("meta", "headers", "parent", "links"),
    [
        ({"traceparent": PARENT}, {}, SPAN, []),
        ({}, {"traceparent": PARENT}, SPAN, []),
        ({"traceparent": PARENT}, {"traceparent": PARENT}, SPAN, []),
        ({"traceparent": PARENT}, {"traceparent": PARENT.replace(SPAN, "1" * 16)}, SPAN, ["1" * 16]),
        ({"traceparent": "nonsense"}, {"traceparent": PARENT}, SPAN, []),
        ({"traceparent": "nonsense"}, {"traceparent": "nonsense"}, None, []),
    ],
)
async def test_the_context_in_the_meta_comes_before_that_of_the_http_request(
    meta: dict[str, str], headers: dict[str, str], parent: str | None, links: list[str]
) -> None:
    class Begins(InMemory):
        @hookimpl
        def trace_call(self, begun: CallBegun) -> Any:
            return super().trace_call(CallBegun("e", "tools/call", "modern", "2026-07-28", meta, headers))

    plugin = configured(Begins).instance
    assert isinstance(plugin, Begins)
    await run_call(make_call(), FakeUpstream(), plugin)
    server = plugin.one(SpanKind.SERVER)
    assert (None if server.parent is None else f"{server.parent.span_id:016x}") == parent
    assert [f"{link.context.span_id:016x}" for link in server.links] == links


def begun(**meta: str) -> CallBegun:
    return CallBegun("e", "tools/call", "modern", "2026-07-28", meta, {})


@pytest.mark.parametrize(
    ("settings", "parent", "sent"),
    [
        ({}, UNSAMPLED, UNSAMPLED),
        ({"ratio": 0.0, "follow_agents": False}, PARENT, UNSAMPLED),
        ({"ratio": 0.0, "follow_agents": False}, UNSAMPLED, UNSAMPLED),
    ],
)
def test_the_context_of_a_call_that_is_not_recorded_passes_as_not_sampled(
    settings: dict[str, Any], parent: str, sent: str
) -> None:
    assert run_hook(made(**settings), "trace_call", begun(traceparent=parent)) == {"traceparent": sent}


def test_an_agent_cannot_enforce_recording_if_the_file_says_so() -> None:
    plugin = made(follow_agents=False)
    assert not isinstance(run_hook(plugin, "trace_call", begun(traceparent=UNSAMPLED)), dict)


def test_a_call_that_is_not_recorded_tells_the_upstream_so() -> None:
    plugin = made(ratio=0.0)
    contexts = [read(run_hook(plugin, "trace_call", begun())) for _ in range(20)]
    assert {found is not None and found.sampled for found in contexts} == {False}
    assert len({found.trace for found in contexts if found is not None}) == 20


def test_the_ratio_is_that_of_the_traces_that_are_recorded() -> None:
    plugin = made(ratio=0.25)
    found = Counter(isinstance(run_hook(plugin, "trace_call", begun()), dict) for _ in range(4000))
    assert 800 < found[False] < 1200
    low, high = f"00-{'1' * 16}{'0' * 16}-{SPAN}-01", f"00-{'1' * 16}{'f' * 16}-{SPAN}-01"
    by_id = made(ratio=0.25, follow_agents=False)
    recorded = [not isinstance(run_hook(by_id, "trace_call", begun(traceparent=it)), dict) for it in (low, high)]
    assert recorded == [True, False]


@pytest.mark.parametrize(
    ("answer", "plugins", "error"),
    [
        (RpcError(-32602, "secret message"), (), "-32602"),
        (make_result(is_error=True), (), "tool_error"),
        ("ok", (Decides(Reject("secret message", rule="night")),), "-31003"),
    ],
    ids=["error", "tool error", "refused"],
)
async def test_failures_mark_spans_without_their_messages(answer: Any, plugins: Any, error: str) -> None:
    plugin = made()
    await run_call(make_call(), FakeUpstream(answer), plugin, *plugins)
    server = plugin.one(SpanKind.SERVER)
    assert (server.status.status_code, server.status.description) == (StatusCode.ERROR, None)
    assert (server.attributes or {})["error.type"] == error
    assert "secret" not in str([(span.name, span.attributes, span.status) for span in plugin.spans])


async def test_a_failed_plugin_marks_its_span() -> None:
    plugin = made()
    await run_call(make_call(), FakeUpstream(), plugin, configured(Decides(ValueError("secret")), name="broken"))
    hook = plugin.one(SpanKind.INTERNAL)
    assert (hook.attributes or {})["error.type"] == "plugin_failed"
    assert hook.status.status_code is StatusCode.ERROR


async def test_names_that_no_server_lists_are_no_names_of_spans() -> None:
    plugin = made()
    await run_call(make_call("invented" * 100, known=False), FakeUpstream(), plugin)
    server = plugin.one(SpanKind.SERVER)
    assert server.name == "tools/call"
    assert (server.attributes or {})["gen_ai.tool.name"] == ("invented" * 100)[:256]


async def test_a_uri_is_shown_without_user_and_query() -> None:
    plugin = made()
    uri = "https://user:hunter2@files.example/a?token=hunter2"
    await run_call(make_call(uri, method="resources/read"), FakeUpstream(CallResult(raw=b"{}")), plugin)
    assert {span.name for span in plugin.spans} == {"resources/read"}
    assert (plugin.one(SpanKind.SERVER).attributes or {})["mcp.resource.uri"] == "https://***@files.example/a?…"
    assert "hunter2" not in str([span.attributes for span in plugin.spans])


async def test_the_id_of_a_task_is_in_no_span() -> None:
    plugin = made()
    await run_call(make_call("task-hunter2", method="tasks/get"), FakeUpstream(CallResult(raw=b"{}")), plugin)
    assert "hunter2" not in str([(span.name, span.attributes) for span in plugin.spans])


@pytest.mark.parametrize(
    "wrong",
    [
        {"ratio": 1.1},
        {"ratio": -0.1},
        {"endpoint": "localhost:4318"},
        {"endpoint": "http://user:secret@collector/v1/traces"},
        {"endpoint": "http://collector/v1/traces?key=secret"},
        {"headers": {"bad name": "x"}},
        {"headers": {"x-key": "a\r\nb"}},
        {"queue": 0},
        {"timeout": 0},
        {"service_name": ""},
    ],
    ids=str,
)
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Traces.Config(**wrong)


def test_the_missing_exporter_is_named_with_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway_observe_traces.plugin.find_spec", lambda name: None)
    with pytest.raises(ValidationError, match=r"gateway-observe-traces\[otlp\]"):
        Traces.Config()


def test_headers_are_not_printed() -> None:
    assert "hush" not in repr(Traces.Config(headers={"x-key": "hush"}))  # type: ignore[dict-item]


async def test_a_wait_for_an_upstream_has_a_span() -> None:
    class Waits(InMemory):
        @hookimpl
        def trace_call(self, begun: CallBegun) -> Any:
            found = super().trace_call(begun)
            ended = found.ended

            def with_wait(event: CallEnded) -> None:
                waits = [WaitStep("files", "place", event.started, 0.25, how) for how in ("done", "failed")]
                ended(replace(event, steps=(*event.steps, *waits)))

            found.ended = with_wait
            return found

    plugin = configured(Waits).instance
    assert isinstance(plugin, Waits)
    await run_call(make_call(), FakeUpstream(), plugin)
    done, failed = [span for span in plugin.spans if span.name == "wait for place"]
    assert dict(done.attributes or {}) == {
        "radium.wait": "place",
        "radium.ended": "done",
        "radium.upstream": "files",
    }
    assert (done.end_time or 0) - (done.start_time or 0) == 250_000_000
    assert (done.status.status_code, failed.status.status_code) == (StatusCode.UNSET, StatusCode.ERROR)
