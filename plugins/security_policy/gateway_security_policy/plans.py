"""What the rules decide about one subject, as far as it is known before a call: a plan.

A plan is the list of steps that are left to try, in order. A step that matches ends it; without one the call is denied.
Of a rule whose expression cannot be evaluated it is not known whether it matches, so the stricter outcome counts:
an `allow` does not match, a `deny` does.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from gateway_core import Principal
from gateway_security_policy.rules import Match, Rule, Subject
from gateway_security_policy.settings import Effect


@dataclass(frozen=True, slots=True)
class Verdict:
    """The outcome of the rules."""

    effect: Effect
    rule: Rule | None
    """The rule that decided; None if none matched."""


NO_RULE = Verdict("deny", None)


@dataclass(frozen=True, slots=True)
class Plan:
    """The steps of one principal and one subject."""

    facts: Mapping[str, Any]
    """The variable `principal`."""
    subject: Subject
    steps: tuple[Rule, ...]
    """Rules that may match, depending on the call."""
    end: Verdict
    """The outcome if none of the steps matches."""

    @property
    def verdict(self) -> Verdict | None:
        """The outcome, if it does not depend on the call."""
        return None if self.steps else self.end

    @property
    def possible(self) -> bool:
        """Whether a call may be allowed."""
        return self.end.effect != "deny" or any(rule.then != "deny" for rule in self.steps)

    def decide(self, arguments: Mapping[str, Any]) -> Verdict:
        """The outcome for a call with these arguments."""
        for rule in self.steps:
            match = rule.holds(self.facts, self.subject, arguments)
            if match is Match.YES or (match is Match.FAILED and rule.then == "deny"):
                return Verdict(rule.then, rule)
        return self.end


def plan(rules: Iterable[Rule], facts: Mapping[str, Any], subject: Subject) -> Plan:
    """The plan for a subject. `rules`: those that concern the principal."""
    steps = list[Rule]()
    for rule in rules:
        covered, _ = rule.covers(subject)
        if covered is Match.NO:
            continue
        match = rule.holds(facts, subject, None)
        if match is Match.NO or (match is Match.FAILED and rule.then == "allow"):
            continue
        if covered is Match.OPEN or match is Match.OPEN:
            steps.append(rule)
            continue
        return Plan(facts, subject, tuple(steps), Verdict(rule.then, rule))
    return Plan(facts, subject, tuple(steps), NO_RULE)


def concerned(rules: Iterable[Rule], principal: Principal, facts: Mapping[str, Any]) -> tuple[Rule, ...]:
    """The rules that concern a principal. `facts`: the variable `principal`."""
    settled = (rule.settled(facts) for rule in rules if not rule.concerns(principal))
    return tuple(rule for rule in settled if rule is not None)
