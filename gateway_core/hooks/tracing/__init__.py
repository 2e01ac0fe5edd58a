"""Follows single calls: the hook `trace_call`, and the times of hooks and of requests to upstreams per call."""

from gateway_core.hooks.tracing.timed import timed_by
from gateway_core.hooks.tracing.timeline import Timeline
from gateway_core.hooks.tracing.tracing import Tracing

__all__ = ["Timeline", "Tracing", "timed_by"]
