"""The event about a call that has ended, for observers."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, Protocol

from gateway_core.api import Call, CallEnded, CallResult, Decision
from gateway_core.api.call import answers_of
from gateway_core.concealing import without_pages
from gateway_core.errors import PLUGIN_FAILED, RpcError
from gateway_core.exchange.exchange import Exchange
from gateway_core.hooks import ChainProgress
from gateway_core.hooks.tracing import Timeline


class Recorder(Protocol):
    """Keeps records of calls for operators."""

    def call_ended(
        self,
        exchange: Exchange,
        call: Call | None,
        progress: ChainProgress | None,
        result: CallResult,
        timeline: Timeline | None = None,
        *,
        seconds: float,
    ) -> None:
        """Record a call that has ended. `call`: as the plugins left it. `seconds`: how long it took.

        `timeline`: None if nothing was measured.
        """


class NoRecorder:
    """Keeps none."""

    def call_ended(
        self,
        exchange: Exchange,
        call: Call | None,
        progress: ChainProgress | None,
        result: CallResult,
        timeline: Timeline | None = None,
        *,
        seconds: float,
    ) -> None:
        return


NO_RECORDER: Final = NoRecorder()


def hider(clean: Callable[[bytes], bytes]) -> Callable[[bytes], bytes]:
    """Hides in JSON what `clean` hides, and the addresses of pages that agents alone may know."""
    return lambda data: without_pages(clean(data))


def call_ended(
    exchange: Exchange,
    final: Call | None,
    progress: ChainProgress | None,
    result: CallResult,
    timeline: Timeline | None = None,
    *,
    seconds: float,
    hide: Callable[[bytes], bytes],
) -> CallEnded:
    """The event for a call. `final`: the call as the plugins left it. `progress`: None if no plugin hooks its method.

    `timeline`: None if it was not followed. `seconds`: how long it took. `hide`: see `hider`.
    """
    agent, origin = exchange.agent, exchange.origin
    answers = () if origin is None else answers_of(origin if final is None else final).given
    return CallEnded(
        exchange.id,
        exchange.method,
        agent.principal,
        agent.era,
        agent.session_key,
        origin,
        final if origin is not None else None,
        result,
        decisions_of(progress, result.error),
        result.upstream or exchange.upstream,
        exchange.sent,
        time.time() - seconds,
        seconds,
        exchange.waited,
        exchange.generation,
        hide,
        True if answers else False,  # noqa: SIM210 - no call: every observed request comes here
        tuple([one.by for one in answers if one.by]) if answers else (),
        () if timeline is None else timeline.finish(),
    )


def decisions_of(progress: ChainProgress | None, error: RpcError | None) -> tuple[Decision, ...]:
    """What plugins did with a call that has ended. `error`: that of its result."""
    decided = () if progress is None else progress.decisions
    if error is not None and error.code == PLUGIN_FAILED:
        return _with_failure(decided, error.data)
    return decided


def _with_failure(decisions: tuple[Decision, ...], data: object) -> tuple[Decision, ...]:
    """The decisions, and the failure of a plugin that only the error names: one that was late, or one that routes."""
    plugin = data.get("plugin") if isinstance(data, dict) else None
    if not isinstance(plugin, str) or any(one.plugin == plugin and one.decided == "fail" for one in decisions):
        return decisions
    return (*decisions, Decision(plugin, "fail"))
