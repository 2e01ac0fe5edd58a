"""The five hooks, and nothing else. pluggy registers and checks implementations; `chain` calls them."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping, Sequence
from typing import Final

import pluggy

from gateway_core.api import Call, CallResult, Claim, Health, Reject, ToolConflict, UpstreamView

PROJECT: Final = "gateway_core"
hookspec: Final = pluggy.HookspecMarker(PROJECT)
hookimpl: Final = pluggy.HookimplMarker(PROJECT)


@hookspec(firstresult=True)
def route_tool(call: Call, candidates: Sequence[UpstreamView]) -> UpstreamView | None:
    """Choose the upstream that serves a call.

    :param call: the request, after every `before_call`.
    :param candidates: the healthy upstreams that can serve it; when none is healthy, the ejected one that is due
        soonest. In file order, never empty. Asked again without the one whose connection failed, until one takes
        the call or none is left.
    :returns: one of `candidates`, or None to leave it to the core (the first).

    Synchronous. One enabled plugin at most may implement it.
    """


@hookspec(firstresult=True)
def resolve_conflict(conflict: ToolConflict) -> Mapping[str, Claim] | None:
    """Decide under which names the claims on one name are published.

    :param conflict: the name, its claims in file order (one claim only where nothing clashes), the separator.
    :returns: published name -> claim; a claim that is left out is dropped and reported. None leaves it to the
        core: the first claim keeps the name.

    Synchronous and pure: the same claims must give the same names, whoever is up. One enabled plugin at most
    may implement it. Asked when a list changes, never on the path of a call.
    """


@hookspec
def before_call(call: Call) -> Call | Reject | CallResult | Awaitable[Call | Reject | CallResult | None] | None:
    """See, rewrite, refuse or answer a call before it is routed.

    :param call: the request. `call.tool` is the catalog's entry, None for a name that nobody serves.
    :returns: None passes; a new `Call` (`call.replace(…)`) rewrites; a `Reject` refuses; a `CallResult` answers in
        the upstream's place. The first `Reject` or `CallResult` ends the chain.

    Synchronous or asynchronous. Runs in the order of the TOML.
    """


@hookspec
def after_call(call: Call, result: CallResult) -> CallResult | Awaitable[CallResult | None] | None:
    """See or rewrite the end of a call.

    :param call: the request as the plugin's own `before_call` left it.
    :param result: how it ended: on success, on an error, on a later plugin's refusal, on cancellation.
    :returns: None keeps the result, a `CallResult` takes its place.

    Synchronous or asynchronous. Runs in reverse order, once for each plugin whose `before_call` completed.
    """


@hookspec(firstresult=True)
def check_health(upstream: UpstreamView) -> Health | Awaitable[Health | None] | None:
    """Check one upstream in the core's place.

    :param upstream: the upstream whose turn it is.
    :returns: a `Health`, or None for the core's own check (`ping`, or `server/discover` for modern servers).

    Synchronous or asynchronous; ends after the check's timeout of 5 s.
    """
