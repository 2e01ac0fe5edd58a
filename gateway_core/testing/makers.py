"""Makers of the arguments of hooks."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from gateway_core.api import (
    Answer,
    AuthenticationEnded,
    Call,
    CallBegun,
    CallEnded,
    CallResult,
    Claim,
    ClientCertificate,
    Credentials,
    Decision,
    Era,
    Kind,
    Principal,
    Published,
    Step,
    Tool,
    ToolConflict,
    Transport,
    UpstreamChanged,
    UpstreamFacts,
    UpstreamState,
    UpstreamView,
)
from gateway_core.api.notes import Known
from gateway_core.mcp import jsonrpc
from gateway_core.mcp.names import LATEST_HANDSHAKE_VERSION, LATEST_MODERN_VERSION, LISTS
from gateway_core.mcp.read_only import read_only
from gateway_core.testing.fakes import GivenHeaders, Place, Served, make_result, make_tool
from gateway_core.testing.users import answered


def make_call(
    name: str = "echo",
    arguments: Mapping[str, Any] | None = None,
    *,
    method: str = "tools/call",
    principal: str | Principal = "agent@127.0.0.1",
    era: Era = "modern",
    annotations: Mapping[str, Any] | None = None,
    upstreams: Sequence[str | UpstreamView] = ("upstream",),
    known: bool = True,
    original_name: str | None = None,
    listed: Sequence[Published] = (),
    session: str = "",
    answers: Mapping[str, Answer] | None = None,
    answered_by: str = "",
    meta: Mapping[str, Any] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Call:
    """A call as a plugin gets it. `principal`: also the id of one that is not verified.

    Its name is served by `upstreams` (names, or results of `make_upstream`), under `original_name` if that differs,
    unless `known` is false. A `tools/call` then has a catalog entry. `listed`: for a list method, the names in the
    list. `answers`: to the questions of the plugin about this call, by the names of the questions. `answered_by`: who
    gave them on a page, the id of a principal. `meta`: its `_meta`. `headers`: of the HTTP request; the plugin sees
    those that it names in `call_headers`.
    """
    original = name if original_name is None else original_name
    places = tuple(Place.of(upstream) for upstream in upstreams)
    tool = None
    if method == "tools/call" and known:
        tool = make_tool(name, original, annotations, tuple(place.name for place in places))
    raw = b"" if arguments is None else jsonrpc.encode(arguments)
    sender = Principal(principal) if isinstance(principal, str) else principal
    served = Served(original, places) if known and method not in LISTS else None
    call = Call(
        method,
        name,
        sender,
        era,
        "exchange",
        raw,
        b"" if meta is None else jsonrpc.encode(meta),
        tool=tool,
        _served=served,
        listed=read_only({entry.name: entry for entry in listed}),
        of_prompt=method == "completion/complete",
        session=session,
    )
    if headers is not None:
        call.present(GivenHeaders({name.lower(): value for name, value in headers.items()}))
    return call if answers is None else answered(call, answers, answered_by)


def make_credentials(
    authorization: str | None = None,
    *,
    headers: Mapping[str, str] | None = None,
    certificate: ClientCertificate | None = None,
    address: str = "127.0.0.1",
) -> Credentials:
    """The credentials of a request as `authenticate` gets them. `authorization`: the value of that header."""
    given = {name.lower(): value for name, value in (headers or {}).items()}
    if authorization is not None:
        given["authorization"] = authorization
    return Credentials(read_only(given), certificate, address)


def make_upstream(
    name: str = "upstream",
    *,
    priority: int = 1,
    healthy: bool = True,
    state: UpstreamState | str | None = None,
    order: int = 0,
    transport: Transport = "http",
    url: str | None = None,
    group: str | None = None,
    era: Era | None = "modern",
    in_flight: int = 0,
    latency: float | None = None,
) -> UpstreamView:
    """An upstream as a plugin sees it. `order` is its place in the configuration file.

    `state`: `healthy`, or `down` if `healthy` is false, unless it is given.
    """
    default = UpstreamState.HEALTHY if healthy else UpstreamState.DOWN
    found = default if state is None else UpstreamState(state)
    return UpstreamView(
        UpstreamFacts(name, transport, url, priority, group, order, era, found, in_flight=in_flight, latency=latency)
    )


def make_conflict(
    name: str = "search",
    *claims: UpstreamView | Sequence[UpstreamView],
    kind: Kind = "tool",
    separator: str = "__",
) -> ToolConflict:
    """A name and its claims. A claim is one upstream, or several that share a definition. Default: two upstreams."""
    given = claims or (make_upstream("first", order=0), make_upstream("second", order=1))
    made = []
    for number, owners in enumerate(given):
        upstreams = (owners,) if isinstance(owners, UpstreamView) else tuple(owners)
        definition = read_only({"name": name, "description": f"definition {number}"})
        made.append(Claim(name, definition, upstreams))
    return ToolConflict(kind, name, tuple(made), separator)


def make_begun(
    method: str = "tools/call",
    *,
    era: Era = "modern",
    meta: Mapping[str, str] | None = None,
    headers: Mapping[str, str] | None = None,
) -> CallBegun:
    """What `trace_call` gets. `meta` and `headers`: the trace context in `_meta` and in the headers of the request."""
    version = LATEST_MODERN_VERSION if era == "modern" else LATEST_HANDSHAKE_VERSION
    return CallBegun("exchange", method, era, version, read_only(dict(meta or {})), read_only(dict(headers or {})))


def make_call_ended(
    call: Call | None = None,
    result: CallResult | None = None,
    *,
    final: Call | None = None,
    decisions: Sequence[Decision] = (),
    seconds: float = 0.01,
    waited: float = 0.0,
    generation: int = 1,
    steps: Sequence[Step] = (),
) -> CallEnded:
    """The event of a call that has ended. Default: `make_call()` with the result `make_result()`.

    `final`: the call as the plugins left it, if they changed it. The result says which upstream the call went to.
    """
    call = call or make_call()
    result = result or make_result()
    return CallEnded(
        call.exchange_id,
        call.method,
        call.principal,
        call.era,
        call.session,
        call,
        final or call,
        result,
        tuple(decisions),
        result.upstream,
        result.upstream is not None,
        time.time() - seconds,
        seconds,
        waited,
        generation,
        steps=tuple(steps),
    )


def make_authentication_ended(
    principal: Principal | None = None,
    *,
    plugin: str = "",
    reason: str = "",
    address: str = "127.0.0.1",
    generation: int = 1,
) -> AuthenticationEnded:
    """The event of credentials that were accepted for `principal`, or refused for `reason`."""
    return AuthenticationEnded(address, principal, plugin, reason, generation)


def make_upstream_changed(
    upstream: str = "upstream",
    state: UpstreamState | str = UpstreamState.DOWN,
    before: UpstreamState | str = UpstreamState.HEALTHY,
    *,
    reason: str = "",
    generation: int = 1,
) -> UpstreamChanged:
    """The event of an upstream that has entered another state."""
    return UpstreamChanged(upstream, UpstreamState(state), UpstreamState(before), reason, time.time(), generation)


def make_known(
    upstreams: Sequence[str] = ("upstream",),
    *,
    tools: Sequence[str | Tool] | None = None,
    groups: Sequence[str] | None = None,
) -> Known:
    """What a plugin's method `notes` gets. `tools`: published names, or catalog entries such as `make_call().tool`."""
    known = None if tools is None else [it if isinstance(it, Tool) else _tool(it, upstreams) for it in tools]
    return Known(frozenset(upstreams), known, None if groups is None else frozenset(groups))


def _tool(name: str, upstreams: Sequence[str]) -> Tool:
    return make_tool(name, name, None, tuple(upstreams))
