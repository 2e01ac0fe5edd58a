"""The specifications of the eight hooks. pluggy checks implementations against them; `chain` calls those."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping, Sequence
from typing import Final

import pluggy

from gateway_core.api import (
    Ask,
    Call,
    CallBegun,
    CallResult,
    CallTrace,
    Claim,
    Credentials,
    Event,
    Health,
    Pass,
    Principal,
    Reject,
    ToolConflict,
    UpstreamView,
)

PROJECT: Final = "gateway_core"
hookspec: Final = pluggy.HookspecMarker(PROJECT)
hookimpl: Final = pluggy.HookimplMarker(PROJECT)


@hookspec
def route_tool(call: Call, candidates: Sequence[UpstreamView]) -> UpstreamView | None:
    """Choose the upstream that serves a call.

    :param call: the request, after every `before_call`.
    :param candidates: the healthy upstreams that can serve it, and lazy ones that do not run, in file order. At least
        two: a single candidate gets the call without this hook. If the request cannot be sent, the hook runs again
        without the chosen upstream.
    :returns: one of `candidates`, or None: the core takes the first.

    Synchronous. At most one enabled plugin may implement it.
    """


@hookspec
def resolve_conflict(conflict: ToolConflict) -> Mapping[str, Claim] | None:
    """Decide under which names the claims on one name are published.

    :param conflict: the name, its claims (a single one if there is no conflict), the separator.
    :returns: published name -> claim; a claim that is left out is dropped and reported. None: the first claim keeps
        the name.

    Synchronous and pure: the same claims must give the same names, regardless of health. At most one enabled plugin
    may implement it. Called when a list changes, never during a call.
    """


@hookspec
def before_call(
    call: Call,
) -> Call | Pass | Reject | CallResult | Ask | Awaitable[Call | Pass | Reject | CallResult | Ask | None] | None:
    """See, rewrite, refuse or answer a call before it is routed, or ask the agent's user about it.

    :param call: the request. `call.tool` is the catalog's entry, None if no upstream serves the name.
    :returns: None passes, and so does a `Pass`, which names the rule; a new `Call` (`call.replace(…)`) rewrites; a
        `Reject` refuses; a `CallResult` answers in place of the upstream. The first `Reject` or `CallResult` ends the
        chain. An `Ask` asks the agent's user; the hook runs again with the answer in `call.answers`.

    Synchronous or asynchronous. Runs in the order of the TOML.
    """


@hookspec
def after_call(call: Call, result: CallResult) -> CallResult | Awaitable[CallResult | None] | None:
    """See or rewrite the result of a call.

    :param call: the request as the plugin's own `before_call` left it.
    :param result: the result of the call: success, error, refusal by a later plugin, or cancellation.
    :returns: None keeps the result, a `CallResult` replaces it.

    Synchronous or asynchronous. Runs in reverse order, once for each plugin whose `before_call` completed or is absent.
    """


@hookspec
def check_health(upstream: UpstreamView) -> Health | Awaitable[Health | None] | None:
    """Check the health of one upstream in place of the core.

    :param upstream: the upstream to check.
    :returns: a `Health`, or None for the core's own check (`ping`, or `server/discover` for modern servers).

    Synchronous or asynchronous; ends after the check's timeout of 5 s.
    """


@hookspec
def authenticate(credentials: Credentials) -> Principal | Reject | Awaitable[Principal | Reject | None] | None:
    """Prove who makes a request.

    :param credentials: the request's headers named by `credential_headers`, its client certificate, and its address.
    :returns: a verified principal (`Principal.proven`); a `Reject` for credentials of this plugin's kind that prove
        nothing; None for credentials of another kind, or none at all: the next plugin is asked. If all return None,
        the request is refused. Every refusal looks the same to the client; the message of a `Reject` is logged.

    Synchronous or asynchronous; ends after 10 s. Called once for each combination of credentials, not for each request:
    the gateway remembers the verdict for a limited time, at most until `Principal.expires`.

    A plugin that fails refuses the request: its `on_error` cannot be "ignore". Optional attributes of the plugin:
    `credential_headers`, names of headers (default: `("authorization",)`); `challenges`, values of `WWW-Authenticate`
    in a refusal (RFC 9110, 11.6.1); `remember`, seconds for which a verdict holds (default and maximum: 300);
    `well_known`, JSON documents that every client may read, by their path below `/.well-known/` (RFC 8615).
    """


@hookspec
def observe(event: Event) -> Awaitable[None] | None:
    """See how a call or an authentication ended, or that an upstream has entered another state.

    :param event: a `CallEnded` for each request that reached the plugins' side of the gateway, after the last
        `after_call`: also one that a plugin refused, that was cancelled, or whose params were malformed. An
        `AuthenticationEnded` for credentials that were looked at. An `UpstreamChanged` for each upstream that has
        entered another state.
    :returns: None, or an awaitable for which the agent's answer, or the next change of an upstream, waits, at most 5 s.

    Synchronous or asynchronous. Runs in the order of the TOML, for all methods. Nothing that it does changes the
    result; a failure is logged, whatever its `on_error` says.
    """


@hookspec
def trace_call(begun: CallBegun) -> CallTrace | dict[str, str] | None:
    """Decide whether to follow a call, before anything else happens to it.

    :param begun: what is known of the request of the agent: its method, and the trace context that came with it.
    :returns: a `CallTrace`, whose methods are called for each request to an upstream and at the end of the call, with
        the times of hooks and requests; a dict with `traceparent` and perhaps `tracestate`, which goes along with each
        request of the call, and nothing is measured; None: neither.

    Synchronous. At most one enabled plugin may implement it. Runs for all methods that plugins can hook. A failure is
    logged, whatever the plugin's `on_error` says, and the call goes on.
    """
