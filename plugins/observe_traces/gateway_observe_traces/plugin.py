"""Follows calls, passes trace context on, and exports spans by OpenTelemetry's SDK."""

from __future__ import annotations

import asyncio
import random
import re
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any, Final, Self

from loguru import logger
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace.export import SpanExporter
from pydantic import Field, SecretStr, field_validator, model_validator

from gateway_core import CallBegun, CallEnded, CallTrace, HeaderName, Plugin, PluginConfig, UpstreamView, hookimpl
from gateway_observe_traces.context import Context, read
from gateway_observe_traces.exporting import Pipeline, only_headers
from gateway_observe_traces.spans import Spans

_LOWER: Final = 2**64 - 1
FLUSH: Final = 4.0
"""Seconds for the delivery of what is queued at the end."""
_EXPORTER: Final = "opentelemetry.exporter.otlp.proto.http"
_URL: Final = re.compile(r"https?://[^\s/?#@]+(/[^\s?#]*)?")


class Settings(PluginConfig):
    """The settings of the plugin in the TOML."""

    endpoint: str = Field(
        default="http://127.0.0.1:4318/v1/traces", description="where spans go: OTLP over HTTP, with protobuf"
    )
    headers: dict[HeaderName, SecretStr] = Field(
        default_factory=dict, max_length=20, description="headers of the requests to the endpoint, such as a key"
    )
    ratio: float = Field(
        default=1.0, ge=0, le=1, description="the share of traces that are recorded, of those that begin here"
    )
    follow_agents: bool = Field(
        default=True,
        description="record what an agent's `traceparent` marks as sampled, and nothing that it does not; "
        "if false, `ratio` decides about these, too",
    )
    service_name: str = Field(default="radium-mcp-gateway", min_length=1, description="`service.name` of the spans")
    timeout: float = Field(default=10.0, gt=0, le=60, description="seconds for one request to the endpoint")
    queue: int = Field(default=8192, ge=1, le=1_000_000, description="spans that wait in memory; older ones are lost")

    @field_validator("endpoint")
    @classmethod
    def _plain_url(cls, value: str) -> str:
        if _URL.fullmatch(value) is None:
            raise ValueError("must be an http or https URL without user, query and fragment; put a key into headers")
        return value

    @field_validator("headers")
    @classmethod
    def _sendable(cls, value: dict[str, SecretStr]) -> dict[str, SecretStr]:
        for secret in value.values():
            text = secret.get_secret_value()
            if not (text.isascii() and text.isprintable()):
                raise ValueError("must have values of printable ASCII")
        return value

    @model_validator(mode="after")
    def _can_export(self) -> Self:
        if find_spec("opentelemetry.exporter") is None or find_spec(_EXPORTER) is None:
            raise ValueError('the exporter is not installed; run: pip install "gateway-observe-traces[otlp]"')
        return self


class Traces(Plugin[Settings]):
    """The plugin. It decides nothing about calls."""

    def __init__(self, config: Settings) -> None:
        super().__init__(config)
        self._below = int(config.ratio * 2**64)
        """The lower 64 bits of the id of a trace that is recorded are below this, as in other SDKs."""
        self._bits = random.Random().getrandbits  # noqa: S311 - ids are no secrets
        self._pipeline: Pipeline | None = None
        self._spans: Spans | None = None

    def make_exporter(self) -> SpanExporter:
        """The exporter of the spans."""
        import requests  # noqa: PLC0415 - of the exporter, an extra
        from opentelemetry.exporter.otlp.proto.http import Compression  # noqa: PLC0415 - an extra
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415

        headers = {name: secret.get_secret_value() for name, secret in self.config.headers.items()}
        auth = partial(only_headers, frozenset(map(str.lower, headers)))

        class Session(requests.Session):
            def __init__(self) -> None:
                super().__init__()
                self.auth = auth

        return OTLPSpanExporter(
            self.config.endpoint,
            headers=headers,
            timeout=self.config.timeout,
            compression=Compression.Gzip,
            session=Session(),
        )

    async def __aenter__(self) -> Self:
        pipeline, resource = await asyncio.to_thread(self._open)
        self._pipeline = pipeline
        self._spans = Spans(resource, version("gateway-observe-traces"), pipeline.batches.on_end)
        return self

    def _open(self) -> tuple[Pipeline, Resource]:
        about = {"service.name": self.config.service_name, "service.version": version("gateway-core")}
        return Pipeline(self.make_exporter(), self.config.endpoint, self.config.queue), Resource.create(about)

    async def __aexit__(self, *_: object) -> None:
        pipeline, self._pipeline, self._spans = self._pipeline, None, None
        if pipeline is None:
            return
        if not await asyncio.to_thread(pipeline.close, FLUSH):
            logger.warning("observe_traces: the last spans could not be delivered within {:g} s", FLUSH)

    @property
    def warnings(self) -> list[str]:
        """What is wrong at present, for `status`."""
        problem = "" if self._pipeline is None else self._pipeline.problem
        return [problem] if problem else []

    @hookimpl
    def trace_call(self, begun: CallBegun) -> CallTrace | dict[str, str] | None:
        """Decide whether a call is recorded; its trace context goes along with its requests in any case."""
        if not begun.meta and not begun.headers:  # as few steps as possible: most calls are not recorded
            ids = self._bits(192)
            if ids >> 64 & _LOWER >= self._below:
                return {"traceparent": f"00-{ids >> 64:032x}-{ids & _LOWER:016x}-00"}
            return Recorded(self, begun, Context(f"{ids >> 64:032x}", f"{ids & _LOWER:016x}", True))
        inner, outer = read(begun.meta), read(begun.headers)
        parent = inner or outer
        trace = f"{self._bits(128):032x}" if parent is None else parent.trace
        follows = parent is not None and self.config.follow_agents
        sampled = parent.sampled if parent is not None and follows else int(trace[16:], 16) < self._below
        if not sampled:
            span = f"{self.new_id():016x}" if parent is None else parent.span
            return Context(trace, span, False, "" if parent is None else parent.state).headers()
        own = Context(trace, f"{self.new_id():016x}", True, "" if parent is None else parent.state)
        link = outer if inner is not None and outer is not None and outer.span != inner.span else None
        return Recorded(self, begun, own, parent, link)

    def new_id(self) -> int:
        """The id of a span."""
        return self._bits(64) or 1

    def make(self, event: CallEnded, own: Context, hops: Any, **others: Any) -> None:
        """Make the spans of a call; nothing after the plugin has ended."""
        if self._spans is not None:
            self._spans.make(event, own, hops, self.new_id, **others)


class Recorded(CallTrace):
    """One call that is recorded."""

    __slots__ = ("_hops", "_link", "_own", "_parent", "_plugin", "_version")

    def __init__(
        self, plugin: Traces, begun: CallBegun, own: Context, parent: Context | None = None, link: Context | None = None
    ) -> None:
        self._plugin = plugin
        self._version = begun.protocol_version
        self._own = own
        self._parent = parent
        self._link = link
        self._hops: list[tuple[str, UpstreamView]] = []

    def hop(self, upstream: UpstreamView) -> dict[str, str]:
        """The context of the next request: its own span, so that the upstream's is below it."""
        span = f"{self._plugin.new_id():016x}"
        self._hops.append((span, upstream))
        return Context(self._own.trace, span, True, self._own.state).headers()

    def ended(self, event: CallEnded) -> None:
        """Make the spans."""
        self._plugin.make(event, self._own, self._hops, parent=self._parent, link=self._link, version=self._version)
