"""Let rules decide who may call what, and show each principal what it may call.

`before_call` decides calls, `after_call` filters lists and links. What does not depend on the arguments of a call is
decided once for each principal and name.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterator
from dataclasses import replace
from functools import partial
from typing import ClassVar, Final

from gateway_core import Approvals, Ask, Call, CallResult, Known, Note, Pass, Plugin, Reject, hookimpl
from gateway_security_policy.filters import LINK, PUBLIC, Pages, filtered_page, may_have, private_result, without_links
from gateway_security_policy.notes import notes
from gateway_security_policy.plans import NO_RULE, Verdict
from gateway_security_policy.policy import METHOD_OF_LIST, Decided, Policy, View, is_open
from gateway_security_policy.reporting import Report
from gateway_security_policy.rules import Rule
from gateway_security_policy.settings import Settings

LARGE: Final = 256 * 1024
"""Bytes of a result above which its links are searched in a thread."""
_ALL: Final = frozenset(
    {"tools/call", "prompts/get", "resources/read", "resources/subscribe", "completion/complete"}
    | {"tasks/get", "tasks/update", "tasks/cancel"}
    | METHOD_OF_LIST.keys()
)
_KINDS: Final = {
    "tools/list": "tool",
    "prompts/list": "prompt",
    "resources/list": "resource",
    "resources/templates/list": "template",
}
_LINKING: Final = frozenset({"tools/call", "prompts/get", "tasks/get"})


class SecurityPolicy(Plugin[Settings]):
    """Applies the rules of the file. Without rules, everything is allowed."""

    methods = _ALL
    fails_closed: ClassVar = True
    after_call_reads_arguments: ClassVar = False

    def __init__(self, config: Settings, report: Report | None = None) -> None:
        super().__init__(config)
        if not config.rules:
            self.methods = frozenset()
        self.policy: Final = Policy(config)
        self._enforces = config.mode == "enforce"
        self._report = Report() if report is None else report
        self._pages = Pages()
        self._approvals = Approvals(config.patterns)

    @hookimpl
    def before_call(self, call: Call) -> Ask | Pass | Reject | CallResult | None:
        view = self.policy.view(call.principal)
        known = view.known.get((call.method, call.name))
        if known is not None and known.allowed and known.tool is call.tool is not None:
            return known.passes  # the usual call
        return None if call.method in METHOD_OF_LIST else self._judged(view, call)

    def _judged(self, view: View, call: Call) -> Ask | Pass | Reject | CallResult | None:
        verdict = _verdict(self.policy.decided(view, call), call)
        if verdict.effect == "allow":
            return None if verdict.rule is None else Pass(verdict.label)
        if not self._enforces:
            if not call.upstreams:
                return None
            self._report.stopped(call, verdict)
            return Pass(f"{verdict.label} (only reported)")
        if verdict.effect == "ask" and verdict.rule is not None:
            return self._ask(call, verdict.rule)
        return _refusal(call, verdict)

    def _ask(self, call: Call, rule: Rule) -> Ask | Pass | Reject:
        config = rule.config
        verdict = self._approvals.verdict(
            call,
            remember=config.remember or "no",
            reason=config.reason or "",
            rule=str(rule.number),
            on_page=config.answer == "page",
            approvers=config.approvers or (),
        )
        if isinstance(verdict, Reject):
            return replace(verdict, rule=rule.label)
        return Pass(rule.label) if verdict is None else verdict

    @hookimpl
    def after_call(self, call: Call, result: CallResult) -> CallResult | Awaitable[CallResult | None] | None:
        raw, method = result.raw, call.method
        if method in _LINKING:
            if not may_have(raw, LINK) or result.upstream is None or not self._enforces:
                return None
            return self._unlinked(call, result, result.upstream)
        if not self._enforces or not raw:
            return None
        if method in METHOD_OF_LIST:
            return _with(result, self._page(call, raw))
        if method == "resources/read" and may_have(raw, PUBLIC):
            return _with(result, private_result(raw))
        return None

    def notes(self, known: Known) -> Iterator[Note]:
        """Rules that are probably mistakes."""
        return notes(self.policy.rules, known)

    def _page(self, call: Call, raw: bytes) -> bytes:
        view = self.policy.view(call.principal)
        found = self._pages.get(view, call.method, raw, call.listed)
        if found is None:
            kind, method = _KINDS[call.method], METHOD_OF_LIST[call.method]
            found = filtered_page(
                call.method,
                raw,
                call.listed,
                lambda entry, hints: self.policy.listed(view, method, entry, kind, hints),
            )
            self._pages.put(view, call.method, raw, call.listed, found)
        return found

    def _unlinked(
        self, call: Call, result: CallResult, upstream: str
    ) -> CallResult | Awaitable[CallResult | None] | None:
        edit = partial(self._without_links, call.method, result.raw, upstream, self.policy.view(call.principal))
        return _with(result, edit()) if len(result.raw) <= LARGE else _in_thread(result, edit)

    def _without_links(self, method: str, raw: bytes, upstream: str, view: View) -> bytes:
        return without_links(method, raw, partial(self.policy.linked, view, upstream))


def _refusal(call: Call, verdict: Verdict) -> Reject | CallResult:
    reason = None if verdict.rule is None else verdict.rule.config.reason
    return CallResult.unknown(call, rule=verdict.label) if reason is None else Reject(reason, rule=verdict.label)


async def _in_thread(result: CallResult, edit: partial[bytes]) -> CallResult | None:
    return _with(result, await asyncio.to_thread(edit))


def _with(result: CallResult, raw: bytes) -> CallResult | None:
    """The result with other bytes; None if they are the same."""
    if raw == result.raw:
        return None
    return CallResult(raw=raw, outcome=result.outcome, upstream=result.upstream, era=result.era)


def _verdict(decided: Decided, call: Call) -> Verdict:
    if not decided.plans:
        return NO_RULE
    if is_open(call):
        return Verdict("allow", None) if decided.possible else decided.decide({})
    needs = any(rule.uses("arguments") for one in decided.plans for rule in one.steps)
    return decided.decide(call.arguments if needs else {})
