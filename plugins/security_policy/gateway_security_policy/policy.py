"""The policy: what the rules decide about calls and lists, remembered as far as it does not depend on the call.

Principals whom the same rules concern share one **view**, unless an expression compares the principal with the tool or
the arguments. A view remembers
the plans of the names that were used. All memories are bounded.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from gateway_core import Call, Pass, Principal, Published, Tier, Tool, tier_of
from gateway_security_policy.plans import Plan, Verdict, concerned, plan, strictest
from gateway_security_policy.rules import Rule, Subject, facts_of
from gateway_security_policy.settings import Settings

MAX_PRINCIPALS: Final = 1024
MAX_VIEWS: Final = 256
MAX_NAMES: Final = 512
"""Maximum number of names whose plans one view remembers."""
MAX_NAME: Final = 256
"""Maximum characters of a name whose plans are remembered."""

METHOD_OF_LIST: Final = {
    "tools/list": "tools/call",
    "prompts/list": "prompts/get",
    "resources/list": "resources/read",
    "resources/templates/list": "resources/read",
}
"""List method -> the method that uses the names in the list."""


@dataclass(frozen=True, slots=True)
class Decided:
    """The plans for a name, one for each upstream that may get the call; equal ones only once."""

    tool: Tool | None
    upstreams: tuple[str, ...]
    original_name: str
    plans: tuple[Plan, ...]
    allowed: bool
    """Whether every call is allowed."""
    passes: Pass | None = None
    """The verdict if one rule allows every call."""

    def decide(self, arguments: Mapping[str, Any]) -> Verdict:
        """The strictest outcome: whichever upstream gets the call, it is allowed there."""
        return strictest(one.decide(arguments) for one in self.plans)

    @property
    def possible(self) -> bool:
        """Whether a call may be allowed."""
        return bool(self.plans) and all(one.possible for one in self.plans)


class View:
    """What the rules decide for the principals whom the same rules concern."""

    __slots__ = ("facts", "known", "rules")

    def __init__(self, rules: tuple[Rule, ...], facts: Mapping[str, Any]) -> None:
        self.rules = rules
        self.facts = facts
        self.known: dict[tuple[str, str], Decided] = {}
        """Method and name -> plans."""


class Policy:
    """The rules of the file."""

    def __init__(self, config: Settings) -> None:
        self.unannotated: Final[Tier] = config.unannotated
        self.rules: Final = tuple(Rule(number, rule) for number, rule in enumerate(config.rules, 1))
        self._reads_principal = any(rule.uses("principal") for rule in self.rules)
        self._principals: OrderedDict[int, tuple[Principal, View]] = OrderedDict()
        """By `id(principal)`: the gateway uses one object for all calls of an agent, and hashing one is slow."""
        self._views: OrderedDict[Any, View] = OrderedDict()

    def view(self, principal: Principal) -> View:
        """The view of a principal."""
        found = self._principals.get(id(principal))
        if found is not None and found[0] is principal:
            return found[1]
        facts = facts_of(principal) if self._reads_principal else {}
        rules = concerned(self.rules, principal, facts)
        facts = facts if any(rule.uses("principal") for rule in rules) else {}
        key: Any = (tuple(rule.number for rule in rules), id(principal) if facts else 0)
        view = None if facts else self._views.get(key)
        if view is None:
            view = self._views[key] = View(rules, facts)
        self._views.move_to_end(key)
        self._principals[id(principal)] = principal, view
        while len(self._views) > MAX_VIEWS:
            self._views.popitem(last=False)
        while len(self._principals) > MAX_PRINCIPALS:
            self._principals.popitem(last=False)
        return view

    def decided(self, view: View, call: Call) -> Decided:
        """The plans for a call of any method but a list. A name that no upstream serves has none."""
        key = (call.method, call.name)
        found = view.known.get(key)
        if found is not None and found.tool is call.tool:
            if call.tool is not None:  # the same object, so its upstreams are the same, too
                return found
            if (found.upstreams, found.original_name) == (call.upstreams, call.original_name):
                return found
        upstreams, original = call.upstreams, call.original_name
        plans = _distinct(plan(view.rules, view.facts, subject) for subject in self.subjects(call))
        allowed = bool(plans) and all(one.verdict is not None and one.end.effect == "allow" for one in plans)
        passes = Pass(plans[0].end.label) if allowed and len(plans) == 1 else None
        found = Decided(call.tool, upstreams, original, plans, allowed, passes)
        if len(call.name) <= MAX_NAME:
            if len(view.known) >= MAX_NAMES:
                view.known.clear()
            view.known[key] = found
        return found

    def subjects(self, call: Call) -> Iterable[Subject]:
        """What a call is about, at each upstream that may get it; nothing for a tool without a definition.

        A call about a task is about a call of the tool that created it.
        """
        if call.kind != "tool":
            names = (call.name, call.original_name)
            return [self._subject(call.method, call.kind, names, upstream, {}) for upstream in call.upstreams]
        return [] if call.tool is None else self.subjects_of(call.tool, call.upstreams)

    def subjects_of(self, tool: Tool, upstreams: tuple[str, ...] | None = None) -> Iterable[Subject]:
        """A call of a tool, at each of these upstreams, by default all of the tool."""
        names, hints = (tool.name, tool.original_name), tool.annotations
        owners = tool.upstreams if upstreams is None else upstreams
        return [self._subject("tools/call", "tool", names, upstream, hints) for upstream in owners]

    def listed(self, view: View, method: str, entry: Published, kind: str, annotations: Mapping[str, Any]) -> bool:
        """Whether a list shows a name: whether a call of it may be allowed."""
        names = (entry.name, entry.original_name)
        return bool(entry.upstreams) and all(
            plan(view.rules, view.facts, self._subject(method, kind, names, upstream, annotations)).possible
            for upstream in entry.upstreams
        )

    def linked(self, view: View, upstream: str, uri: str) -> bool:
        """Whether the principal may read a resource that a result links to."""
        subject = self._subject("resources/read", "resource", (uri, uri), upstream, {})
        return plan(view.rules, view.facts, subject).possible

    def _subject(
        self, method: str, kind: str, names: tuple[str, str], upstream: str, annotations: Mapping[str, Any]
    ) -> Subject:
        tier = (tier_of(annotations) or self.unannotated) if kind == "tool" else "read"
        return Subject(method, kind, *names, upstream, tier, annotations)


def is_open(call: Call) -> bool:
    """Whether the call does not say all of what it is about: the URI of a template, the arguments of a task's tool.

    Such a call is allowed if its template, prompt or tool is listed.
    """
    return call.method == "completion/complete" or call.method.startswith("tasks/")


def _distinct(plans: Iterable[Plan]) -> tuple[Plan, ...]:
    """The plans, without those whose outcome another one always has."""
    found = list[Plan]()
    for one in plans:
        if one.steps or all(other.steps or other.end != one.end for other in found):
            found.append(one)
    return tuple(found)
