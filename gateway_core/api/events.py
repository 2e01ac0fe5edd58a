"""What plugins learn: how calls began (`trace_call`), how calls and authentications ended, and what upstreams do
(`observe`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal, TypeAlias

import msgspec

from gateway_core.api.call import Call, CallResult
from gateway_core.api.identity import Principal
from gateway_core.api.upstream import UpstreamState, UpstreamView
from gateway_core.mcp.literals import Era

Decided: TypeAlias = Literal["pass", "rewrite", "refuse", "answer", "ask", "edit", "fail"]
"""What a plugin did with a call."""


class Decision(msgspec.Struct, frozen=True):
    """What one plugin did with a call, other than returning None."""

    plugin: str
    decided: Decided
    """`pass`, `rewrite`, `refuse`, `answer` or `ask` by `before_call`, `edit` of the result by `after_call`; `fail` if
    a hook failed or did not decide in time."""
    rule: str = ""
    """The rule behind it, in the words of the plugin: `rule` of its verdict, or the name of its question."""


class HookStep(msgspec.Struct, frozen=True):
    """One run of a hook of a plugin, for one call."""

    plugin: str
    hook: str
    started: float
    """Seconds since the epoch."""
    seconds: float
    """From its call to its verdict, the time that an asynchronous hook waits included."""
    decision: Decision | None = None
    """What the plugin did; None if the hook returned None, or was cancelled."""


class HopStep(msgspec.Struct, frozen=True):
    """One request to an upstream, for one call. It begins when the request has a place at the upstream.

    In a call that brings answers to a parked one, it begins when that goes on.
    """

    upstream: str
    number: int
    """The position among the requests of the call, from 0, in the order in which they began."""
    started: float
    """Seconds since the epoch."""
    seconds: float
    ended: Literal["answered", "not_sent", "refused", "unknown", "cancelled", "open"]
    """`answered` with a result or an error; `not_sent`: no byte left; `refused` by an HTTP status, not executed;
    `unknown`: sent and not answered; `cancelled` by the agent, a deadline or the gateway; `open`: the call ended first,
    because it asked the agent a question."""
    code: int | None = None
    """The code of a JSON-RPC error that the upstream answered with."""


WaitedFor: TypeAlias = Literal["place", "start", "lists"]
"""`place`: that the upstream, which serves a limited number of requests at a time, has a place for one more. `start`:
that an attempt to start its server has ended. `lists`: the first lists of the upstreams, after the gateway's start."""


class WaitStep(msgspec.Struct, frozen=True):
    """One wait for an upstream before a request was sent."""

    upstream: str
    """Empty for `lists`."""
    waited_for: WaitedFor
    started: float
    """Seconds since the epoch."""
    seconds: float
    ended: Literal["done", "failed", "cancelled"]
    """`failed`: the queue was full."""


Step: TypeAlias = HookStep | HopStep | WaitStep


class CallEnded(msgspec.Struct, frozen=True, eq=False):
    """A request of an agent has ended: also one that was refused, cancelled or malformed."""

    exchange_id: str
    method: str
    principal: Principal
    era: Era
    session: str
    """An opaque key of the agent's session (`Call.session`)."""
    call: Call | None
    """The request as the agent made it, before any plugin; None if its params could not be read."""
    final: Call | None
    """The request as the plugins left it: `call` itself if none changed it."""
    result: CallResult
    """The result that the agent gets, after all plugins and in the agent's era."""
    decisions: tuple[Decision, ...]
    """What the plugins did, in order."""
    upstream: str | None
    """The upstream that the request went to last; None if it went to none."""
    sent: bool
    """Whether a byte of the request may have reached an upstream."""
    started: float
    """Seconds since the epoch."""
    seconds: float
    """How long it took."""
    waited: float
    """Seconds of it that passed while the agent's user was asked."""
    generation: int = 1
    """See `Call.generation`."""
    clean: Callable[[bytes], bytes] = bytes
    """Hides the secrets that the gateway holds in JSON, for who keeps arguments or results."""
    answered: bool = False
    """Whether a question of a plugin about the call was answered, in this request or in one that it continues."""
    answered_by: tuple[str, ...] = ()
    """The ids of the principals that answered on a page, in the order of the answers."""
    steps: tuple[Step, ...] = ()
    """Hooks, waits and requests to upstreams with their times, in the order in which they ended; empty unless a plugin
    traces this call (`trace_call`)."""


class AuthenticationEnded(msgspec.Struct, frozen=True):
    """Credentials were accepted or refused. The gateway remembers that, so that not every request leads to it."""

    address: str
    """The client's address."""
    principal: Principal | None
    """Who was proven; None for a refusal."""
    plugin: str
    """The plugin that recognised the credentials; empty if none did."""
    reason: str
    """Why they were refused, for the operator; empty for `principal`."""
    generation: int = 1
    """The number of the configuration that judged them; see `Call.generation`."""


class UpstreamChanged(msgspec.Struct, frozen=True):
    """An upstream of the configuration in force has entered another state."""

    upstream: str
    """Its name."""
    state: UpstreamState
    before: UpstreamState
    """The state that plugins got last; `connecting` for a new upstream."""
    reason: str = ""
    """Why calls do not reach it, in words that agents may see; empty for a state that needs no reason."""
    at: float = 0.0
    """Seconds since the epoch."""
    generation: int = 1
    """The number of the configuration in force; see `Call.generation`."""


Event: TypeAlias = CallEnded | AuthenticationEnded | UpstreamChanged


class CallBegun(msgspec.Struct, frozen=True):
    """A request of an agent has arrived, and nothing is known of it but this."""

    exchange_id: str
    method: str
    era: Era
    protocol_version: str
    """The revision that the agent speaks."""
    meta: Mapping[str, str]
    """The trace context in the request's `_meta`, as the agent sent it: `traceparent` and `tracestate`, if present."""
    headers: Mapping[str, str]
    """The same of the headers of the HTTP request; empty for other transports."""


class CallTrace:
    """Follows one call; the hook `trace_call` returns an object of a subclass."""

    def hop(self, upstream: UpstreamView) -> dict[str, str]:
        """Called just before each request to an upstream. Returns the trace context that goes along with it.

        Also called when this call brings answers to one that is parked, whose request was sent before: the context is
        not sent then.

        `traceparent` and, with it, `tracestate`: they are sent in `_meta`, and in the headers of Streamable HTTP, in
        place of those of the agent. Nothing: those of the agent pass in `_meta`.
        """
        return {}

    def ended(self, event: CallEnded) -> None:
        """Called once, when the call has ended; `event.steps` has what happened to it."""
