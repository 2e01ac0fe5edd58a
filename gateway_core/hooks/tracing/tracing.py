"""The plugin with `trace_call`, which decides at the start of each call whether it is followed."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, Final

import msgspec
from msgspec import Raw

from gateway_core.api import CallBegun, CallEnded, CallTrace, UpstreamView
from gateway_core.errors import RpcError
from gateway_core.exchange.exchange import Exchange
from gateway_core.exchange.hops import CONTEXT_KEYS, Carried, Passing
from gateway_core.hooks.failures import Misuse, log_failure
from gateway_core.hooks.implementations import Hook
from gateway_core.hooks.tracing.timeline import Timeline
from gateway_core.hooks.verdicts import kind
from gateway_core.log.sparing import Sparing
from gateway_core.mcp import jsonrpc

MAX_CONTEXT: Final = 8192
"""Maximum characters of each value of trace context."""
_NONE: Final[Mapping[str, str]] = {}


class Tracing:
    """Calls `trace_call` and what it returned. A failure changes nothing but the log: the call is not followed."""

    def __init__(self, hook: Hook | None) -> None:
        self._hook = hook
        self._spoken = Sparing()

    def __bool__(self) -> bool:
        return self._hook is not None

    def begin(self, exchange: Exchange, params: Mapping[str, Raw]) -> Timeline | None:
        """Ask the plugin about a call. Returns the timeline of one that it follows."""
        hook, agent = self._hook, exchange.agent
        if hook is None:
            return None
        meta = exchange.meta if exchange.meta is not None else _meta_of(params)
        fields = exchange.back.fields
        begun = CallBegun(
            exchange.id,
            exchange.method,
            agent.era,
            agent.protocol_version,
            _context_in(meta) if "traceparent" in meta else _NONE,
            {key: fields[key] for key in CONTEXT_KEYS if key in fields} if "traceparent" in fields else _NONE,
        )
        try:
            found = hook.function(begun)
            if found is None:
                return None
            if isinstance(found, Mapping):
                if found:
                    exchange.follow(Passing(_checked(found)))
                return None
            if not isinstance(found, CallTrace):
                raise Misuse(f"returned {kind(found)} instead of None, a dict or a CallTrace")
        except BaseException as error:  # noqa: BLE001 - whatever a plugin raises is its failure
            self._failed(hook, error, exchange.id)
            return None
        timeline = Timeline(found, partial(self._hop, hook, found, exchange.id))
        exchange.follow(timeline)
        return timeline

    def _hop(self, hook: Hook, trace: CallTrace, exchange_id: str, upstream: UpstreamView) -> Carried | None:
        try:
            context = trace.hop(upstream)
            return _checked(context) if context else None
        except BaseException as error:  # noqa: BLE001 - whatever a plugin raises is its failure
            self._failed(hook, error, exchange_id)
            return None

    def ended(self, trace: CallTrace, ended: CallEnded) -> None:
        """Tell the plugin that a call that it follows has ended."""
        assert self._hook is not None, "it has returned the trace"
        try:
            trace.ended(ended)
        except BaseException as error:  # noqa: BLE001 - whatever a plugin raises is its failure
            self._failed(self._hook, error, ended.exchange_id)

    def _failed(self, hook: Hook, error: BaseException, subject: str) -> None:
        if self._spoken.due(type(error).__name__):
            log_failure(hook, error, subject, note="; logged once a minute")


def _meta_of(params: Mapping[str, Raw]) -> Mapping[str, Raw]:
    """The members of `_meta`; empty if it is malformed, which the pipeline refuses later."""
    try:
        return jsonrpc.members(params["_meta"]) if "_meta" in params else {}
    except RpcError:
        return {}


def _context_in(meta: Mapping[str, Raw]) -> Mapping[str, str]:
    """The trace context in `_meta`, without values that are not short texts."""
    found = {}
    for key in CONTEXT_KEYS:
        raw = meta.get(key)
        if raw is not None and len(bytes(raw)) <= MAX_CONTEXT:
            try:
                found[key] = msgspec.json.decode(raw, type=str)
            except msgspec.DecodeError:
                continue
    return found


def _checked(context: Any) -> Carried:
    """What a plugin wants to send along. Raises `Misuse`."""
    if not isinstance(context, Mapping) or "traceparent" not in context:
        raise Misuse(f"returned {kind(context)} instead of a dict with a traceparent")
    for key, value in context.items():
        if key not in CONTEXT_KEYS:
            raise Misuse("returned trace context with a key other than traceparent and tracestate")
        if not (isinstance(value, str) and value.isascii() and value.isprintable() and 0 < len(value) <= MAX_CONTEXT):
            raise Misuse(f"returned a {key} that is not printable ASCII of at most {MAX_CONTEXT} characters")
    return Carried.of(context)
