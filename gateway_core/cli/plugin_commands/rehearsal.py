"""Judges recorded calls by the plugins of a configuration, without a gateway and without upstreams."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

import msgspec

from gateway_core.api import Call, CallResult, Decision, Era, Kind, Principal, Reject, Tool
from gateway_core.cli.inspecting.problems import load_with_plugins
from gateway_core.cli.locate import locate
from gateway_core.errors import INVALID_PARAMS, UnreadableCall
from gateway_core.hooks import Chain, ChainProgress, Question
from gateway_core.log.output import without_notes
from gateway_core.mcp.names import TOOLS_CALL
from gateway_core.mcp.read_only import ReadOnlyDict, read_only

Decided: TypeAlias = Literal["allow", "refuse", "answer", "ask", "fail", "unserved", "undecided"]
_ENDED: Final = frozenset({"refuse", "answer", "ask", "fail"})


@dataclass(frozen=True, slots=True)
class RecordedCall:
    """What a record of a call says about it."""

    method: str
    name: str
    principal: Principal
    era: Era
    started: float
    """Seconds since the epoch."""
    kind: Kind = "tool"
    """What `name` names."""
    upstreams: tuple[str, ...] = ()
    """The upstreams that could get it; none if no upstream served the name."""
    original_name: str = ""
    """The upstreams' own name."""
    tool: str | None = None
    """The published name of the tool that was called; None for other methods, and for a tool that is not listed."""
    annotations: Mapping[str, Any] = field(default_factory=ReadOnlyDict)
    session: str = ""
    continues: bool = False
    """Whether it brought the answer to a question of a plugin."""
    arguments: bytes | None = None
    """The JSON of its arguments, empty for none; None if they were not recorded."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the plugins decide about a recorded call."""

    decision: Decided
    """As for calls, or `unserved` if no upstream of the configuration serves it, or `undecided`."""
    plugin: str = ""
    """The plugin that decided; empty if none did."""
    rule: str = ""
    reason: str = ""
    """What the agent would read, or why it is not decided."""


class NotRecorded(UnreadableCall):
    """A plugin needs a part of a call that was not recorded."""

    def __init__(self, what: str) -> None:
        """`what`: the part."""
        super().__init__(INVALID_PARAMS, f"the {what} were not recorded")


class _Unknown(dict[str, Any]):
    """Stands for decoded arguments, or headers, that are not known."""

    def __init__(self, what: str) -> None:
        super().__init__()
        self._what = what

    def get(self, key: str, default: Any = None) -> Any:
        raise NotRecorded(self._what)


class _UnknownBytes(bytes):
    """Stands for the JSON of arguments that are not known."""

    def _refuse(self, *_: Any, **__: Any) -> Any:
        raise NotRecorded("arguments")

    __bool__ = __len__ = __iter__ = __getitem__ = __contains__ = __hash__ = _refuse
    __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = __add__ = __mod__ = __mul__ = _refuse
    __bytes__ = __buffer__ = decode = hex = find = index = count = startswith = endswith = split = strip = _refuse


class _Place(msgspec.Struct, frozen=True):
    """An upstream of a recorded call."""

    name: str


class _Served(msgspec.Struct, frozen=True):
    """What stood behind the name of a recorded call."""

    original: str
    upstreams: tuple[_Place, ...]


class Rehearsal:
    """The plugins of a configuration, for recorded calls in the order in which they came.

    The plugins are constructed, but not started; only `before_call` runs. Nothing is asked, sent or connected to. A
    plugin that looks at the time may have a method `use_clock`, which gets a function that returns the time at which
    the recorded call began, in seconds since the epoch.
    """

    def __init__(self, config: Path | None) -> None:
        """`config`: the value of the option `--config`. Raises `ConfigError` and `PluginError`."""
        loaded, plugins = load_with_plugins(locate(config))
        self._tools: Final = {upstream.name: upstream.tools for upstream in loaded.proxy.upstreams if upstream.enabled}
        self._chain = Chain(plugins, rehearses=True)
        self._now = 0.0
        for plugin in plugins:
            use_clock = getattr(plugin.instance, "use_clock", None)
            if callable(use_clock):
                use_clock(self._clock)

    def _clock(self) -> float:
        return self._now

    async def judge(self, recorded: RecordedCall) -> Judgement:
        """What the plugins decide. Those that count calls count this one."""
        self._now = recorded.started
        upstreams = tuple(name for name in recorded.upstreams if self._serves(name, recorded))
        if recorded.upstreams and not upstreams:
            return Judgement("unserved", reason="no upstream of the configuration serves it")
        call, progress = _call_of(recorded, upstreams), ChainProgress()
        renamed = False

        def lookup(rewritten: Call) -> Call:
            nonlocal renamed
            renamed = renamed or rewritten.name != call.name
            return rewritten

        with without_notes():
            _, end = await self._chain.run_before(call, lookup, progress)
        if isinstance(end, CallResult) and isinstance(end.error, NotRecorded):
            return Judgement("undecided", reason=end.error.message)
        if renamed and end is None:
            return Judgement("undecided", reason="a plugin renames it, and what serves the other name is not recorded")
        return _judgement(progress.decisions, end, is_served=bool(upstreams))

    def _serves(self, upstream: str, recorded: RecordedCall) -> bool:
        if upstream not in self._tools:
            return False
        tools = self._tools[upstream]
        return tools is None or recorded.kind != "tool" or (recorded.original_name or recorded.name) in tools


def _call_of(recorded: RecordedCall, upstreams: tuple[str, ...]) -> Call:
    original = recorded.original_name or recorded.name
    tool = None
    if recorded.tool is not None and upstreams:
        definition = read_only({"name": recorded.tool, "annotations": dict(recorded.annotations)})
        tool = Tool(recorded.tool, original, definition, upstreams)
    served = _Served(original, tuple(map(_Place, upstreams))) if upstreams else None
    known = recorded.arguments is not None
    call = Call(
        recorded.method,
        recorded.name,
        recorded.principal,
        recorded.era,
        "rehearsal",
        _UnknownBytes() if recorded.arguments is None else recorded.arguments,
        tool=tool if recorded.kind == "tool" and (recorded.method == TOOLS_CALL or tool is not None) else None,
        _served=served,
        of_prompt=recorded.kind == "prompt",
        session=recorded.session,
        continues=recorded.continues,
        _decoded={} if known else _Unknown("arguments"),
    )
    call.present(_Unknown("headers"))
    return call


def _judgement(
    decisions: Sequence[Decision], end: Reject | CallResult | Question | None, *, is_served: bool
) -> Judgement:
    last = next((one for one in reversed(decisions) if one.decided in _ENDED), None)
    if end is None or last is None:
        if not is_served:
            return Judgement("unserved", reason="no upstream serves it")
        passed = next((one for one in reversed(decisions) if one.decided == "pass"), None)
        return Judgement("allow") if passed is None else Judgement("allow", passed.plugin, passed.rule)
    reason = ""
    if isinstance(end, Reject):
        reason = end.message
    elif isinstance(end, CallResult) and end.error is not None:
        reason = end.error.message
    decided: Decided = last.decided if last.decided in {"refuse", "answer", "ask"} else "fail"
    return Judgement(decided, last.plugin, last.rule, reason)
