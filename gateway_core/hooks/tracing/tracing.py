"""The plugin with `trace_call`, which decides at the start of each call whether it is followed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

import msgspec
from msgspec import Raw

from gateway_core.api import CallBegun, CallEnded, CallTrace, UpstreamView
from gateway_core.errors import RpcError
from gateway_core.exchange.exchange import Exchange
from gateway_core.exchange.hops import CONTEXT_KEYS, MAX_CONTEXT, Carried, WrongContext
from gateway_core.hooks.failures import FailureLog, Misuse
from gateway_core.hooks.implementations import Hook
from gateway_core.hooks.tracing.timeline import Timeline
from gateway_core.hooks.verdicts import kind
from gateway_core.mcp import jsonrpc

_NONE: Final[Mapping[str, str]] = {}


class Tracing:
    """Calls `trace_call` and what it returned. A failure changes nothing but the log: the call is not followed."""

    def __init__(self, hook: Hook | None, timelines: dict[str, Timeline], generation: int = 1) -> None:
        """`timelines`: receives those of the calls that are followed, by the ids of their exchanges.

        `generation`: for the log.
        """
        self._hook = hook
        self._ask: Callable[[CallBegun], Any] = _follow_nothing if hook is None else hook.function
        self._timelines = timelines
        self._failures = FailureLog(generation)

    def __bool__(self) -> bool:
        return self._hook is not None

    def begin(self, exchange: Exchange, params: Mapping[str, Raw]) -> Timeline | None:
        """Ask the plugin about a call. Returns the timeline of one that it follows.

        The caller runs the hooks of such a call with `Chain.followed`, and calls `ended` at its end.
        """
        agent, meta, fields = exchange.agent, exchange.meta, exchange.back.fields
        if meta is None:
            meta = _meta_of(params)
        begun = CallBegun(
            exchange.id,
            exchange.method,
            agent.era,
            agent.protocol_version,
            _context_in(meta) if "traceparent" in meta else _NONE,
            {key: fields[key] for key in CONTEXT_KEYS if key in fields} if "traceparent" in fields else _NONE,
        )
        try:
            found = self._ask(begun)
            if found.__class__ is dict:
                if found:
                    exchange.follow(Carried.of(found))
                return None
            if found is None:
                return None
            found = checked_trace(found)
        except BaseException as error:  # noqa: BLE001 - whatever a plugin raises is its failure
            self._failed(error, exchange.id)
            return None
        timeline = self._timelines[exchange.id] = Timeline(found, partial(self._hop, found, exchange.id))
        exchange.follow(timeline)
        return timeline

    def watch(self, exchange: Exchange) -> Timeline:
        """The timeline of a call that operators watch, and that no plugin follows.

        The caller does as with that of `begin`, but calls `forget` at the end.
        """
        context = exchange.hops if isinstance(exchange.hops, Carried) else None
        timeline = self._timelines[exchange.id] = Timeline(None, None if context is None else lambda _: context)
        exchange.follow(timeline)
        return timeline

    def forget(self, exchange_id: str) -> None:
        """Record no more runs of hooks for a call that has ended."""
        self._timelines.pop(exchange_id, None)

    def _hop(self, trace: CallTrace, exchange_id: str, upstream: UpstreamView) -> Carried | None:
        try:
            context = trace.hop(upstream)
            return Carried.of(context) if context else None
        except BaseException as error:  # noqa: BLE001 - whatever a plugin raises is its failure
            self._failed(error, exchange_id)
            return None

    def ended(self, timeline: Timeline, ended: CallEnded) -> None:
        """Tell the plugin, if it follows a call, that the call has ended."""
        self.forget(ended.exchange_id)
        if timeline.trace is None:
            return
        try:
            timeline.trace.ended(ended)
        except BaseException as error:  # noqa: BLE001 - whatever a plugin raises is its failure
            self._failed(error, ended.exchange_id)

    def _failed(self, error: BaseException, subject: str) -> None:
        if self._hook is not None:
            self._failures.add(self._hook, Misuse(str(error)) if isinstance(error, WrongContext) else error, subject)


def checked_trace(found: Any) -> CallTrace:
    """What `trace_call` returned, other than None and a dict. Raises `Misuse` if it is no `CallTrace`."""
    if not isinstance(found, CallTrace):
        raise Misuse(f"returned {kind(found)} instead of None, a dict or a CallTrace")
    return found


def _follow_nothing(begun: CallBegun) -> None:
    return None


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
