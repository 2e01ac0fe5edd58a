"""Makes the spans of a call that has ended.

Names, kinds and attributes follow the semantic conventions of OpenTelemetry for MCP. Arguments, results and messages of
errors are in none of them, and of a resource's URI what the access log shows.

The spans are made complete. The SDK's tracer would make them step by step, which costs several times more.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, Final
from urllib.parse import urlsplit

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState

from gateway_core import CallEnded, HookStep, HopStep, Outcome, UpstreamView, WaitStep, shown_name
from gateway_observe_traces.context import Context

MAX_NAME: Final = 256
"""Characters of a name in an attribute; agents can make up names of any length."""
_TARGETS: Final = {
    "tools/call": "gen_ai.tool.name",
    "prompts/get": "gen_ai.prompt.name",
    "resources/read": "mcp.resource.uri",
    "resources/subscribe": "mcp.resource.uri",
}
_PORTS: Final = {"http": 80, "https": 443}
_UNSET: Final = Status(StatusCode.UNSET)
_FAILED: Final = Status(StatusCode.ERROR)
_SAMPLED: Final = TraceFlags(TraceFlags.SAMPLED)
Attributes = dict[str, Any]


class Spans:
    """Makes spans, and gives them to a processor."""

    def __init__(self, resource: Resource, version: str, end: Callable[[ReadableSpan], None]) -> None:
        """`version`: of the plugin. `end`: gets each span."""
        self._resource = resource
        self._scope = InstrumentationScope("gateway_observe_traces", version)
        self._end = end

    def make(
        self,
        event: CallEnded,
        own: Context,
        hops: Sequence[tuple[str, UpstreamView]],
        new_id: Callable[[], int],
        *,
        parent: Context | None,
        link: Context | None,
        version: str,
    ) -> None:
        """Make the span of the call, and of each of its steps.

        `own`: the span of the call. `hops`: the id of the span of each request, and its upstream. `new_id`: makes ids
        of spans. `parent`: what the agent sent. `link`: another context that came with the request. `version`: the
        revision that the agent speaks.
        """
        trace, state = int(own.trace, 16), _state(own)
        root = SpanContext(trace, int(own.span, 16), False, _SAMPLED, state)
        begun = int(event.started * 1e9)
        for step in event.steps:
            if isinstance(step, HopStep):
                span, upstream = hops[step.number]
                number = int(span, 16)
                name, kind, attributes = _of_hop(event, step, upstream)
            else:
                number = new_id()
                name, kind, attributes = _of_wait(step) if isinstance(step, WaitStep) else _of_hook(step)
            context = SpanContext(trace, number, False, _SAMPLED, state)
            start = max(begun, int(step.started * 1e9))
            self._put(name, context, root, kind, attributes, start, step.seconds)
        above = None if parent is None else _remote(parent)
        links = () if link is None else (Link(_remote(link)),)
        self._put(
            _span_name(event), root, above, SpanKind.SERVER, _of_call(event, version), begun, event.seconds, links
        )

    def _put(  # noqa: PLR0917 - in the order of the SDK
        self,
        name: str,
        context: SpanContext,
        parent: SpanContext | None,
        kind: SpanKind,
        attributes: Attributes,
        start: int,
        seconds: float,
        links: Sequence[Link] = (),
    ) -> None:
        self._end(
            ReadableSpan(
                name,
                context,
                parent,
                self._resource,
                attributes,
                (),
                links,
                kind,
                None,
                _FAILED if "error.type" in attributes else _UNSET,
                start,
                start + int(seconds * 1e9),
                self._scope,
            )
        )


def _of_hop(event: CallEnded, step: HopStep, upstream: UpstreamView) -> tuple[str, SpanKind, Attributes]:
    method, final = event.method, event.final
    name = "" if final is None else shown_name(method, final.original_name)[:MAX_NAME]
    attributes = {
        **_address(upstream.url),
        "mcp.method.name": method,
        "radium.upstream": step.upstream,
        "radium.ended": step.ended,
    }
    if name and method in _TARGETS:
        attributes[_TARGETS[method]] = name
    if method == "tools/call":
        attributes["gen_ai.operation.name"] = "execute_tool"
    if step.code is not None:
        attributes["error.type"] = attributes["rpc.response.status_code"] = str(step.code)
    elif step.ended not in {"answered", "open"}:
        attributes["error.type"] = step.ended
    elif event.result.outcome is Outcome.TOOL_ERROR and _is_last(event, step):
        attributes["error.type"] = "tool_error"
    return f"{method} {name}" if _is_listed(event) else method, SpanKind.CLIENT, attributes


def _of_wait(step: WaitStep) -> tuple[str, SpanKind, Attributes]:
    attributes: Attributes = {"radium.wait": step.waited_for, "radium.ended": step.ended}
    if step.upstream:
        attributes["radium.upstream"] = step.upstream
    if step.ended != "done":
        attributes["error.type"] = step.ended
    return f"wait for {step.waited_for}", SpanKind.INTERNAL, attributes


def _of_hook(step: HookStep) -> tuple[str, SpanKind, Attributes]:
    attributes: Attributes = {"radium.plugin": step.plugin, "radium.hook": step.hook}
    decision = step.decision
    if decision is not None:
        attributes["radium.decision"] = decision.decided
        if decision.rule:
            attributes["radium.rule"] = decision.rule
        if decision.decided == "fail":
            attributes["error.type"] = "plugin_failed"
    return f"{step.plugin} {step.hook}", SpanKind.INTERNAL, attributes


def _is_last(event: CallEnded, step: HopStep) -> bool:
    """Whether a request is the one whose answer became the result."""
    return event.result.upstream == step.upstream and step.number == max(
        it.number for it in event.steps if isinstance(it, HopStep)
    )


def _is_listed(event: CallEnded) -> bool:
    """Whether a server lists the name, so that few different ones become names of spans."""
    final = event.final
    known = final is not None and bool(final.upstreams)
    return known and event.method in {"tools/call", "prompts/get"}


def _span_name(event: CallEnded) -> str:
    final = event.final
    if final is None or not _is_listed(event):
        return event.method
    return f"{event.method} {(final.name if final.tool is None else final.tool.name)[:MAX_NAME]}"


def _of_call(event: CallEnded, version: str) -> Attributes:
    result, final, principal = event.result, event.final, event.principal
    found: Attributes = {
        "mcp.method.name": event.method,
        "mcp.protocol.version": version,
        "enduser.id": principal.id,
        "radium.exchange": event.exchange_id,
        "radium.generation": event.generation,
        "radium.outcome": result.outcome.value,
    }
    if final is not None and event.method in _TARGETS:
        found[_TARGETS[event.method]] = shown_name(event.method, final.name)[:MAX_NAME]
    if event.method == "tools/call":
        found["gen_ai.operation.name"] = "execute_tool"
    for key, value in (
        ("client.address", principal.address),
        ("mcp.session.id", event.session),
        ("radium.profile", principal.profile),
        ("radium.upstream", event.upstream),
    ):
        if value:
            found[key] = value
    if result.error is not None:
        found["error.type"] = found["rpc.response.status_code"] = str(result.error.code)
    elif result.is_error:
        found["error.type"] = result.outcome.value
    return found


@lru_cache(maxsize=1024)
def _address(url: str | None) -> Attributes:
    """Where a request goes; nothing but host and port of the URL, which may contain secrets."""
    if url is None:
        return {"network.transport": "pipe"}
    found: Attributes = {"network.transport": "tcp", "network.protocol.name": "http"}
    parts = urlsplit(url)
    if parts.hostname:
        found |= {"server.address": parts.hostname, "server.port": parts.port or _PORTS.get(parts.scheme, 0)}
    return found


def _remote(context: Context) -> SpanContext:
    flags = _SAMPLED if context.sampled else TraceFlags(TraceFlags.DEFAULT)
    return SpanContext(int(context.trace, 16), int(context.span, 16), True, flags, _state(context))


def _state(context: Context) -> TraceState | None:
    return TraceState.from_header([context.state]) if context.state else None
