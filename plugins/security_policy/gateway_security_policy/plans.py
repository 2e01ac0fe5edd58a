"""What the rules decide about one subject, as far as it is known before a call: a plan.

A plan is the list of steps that are left to try, in order. A step that matches ends it; without one the call is denied.
Of a rule whose expression cannot be evaluated it is not known whether it matches, so the stricter outcome counts:
an `allow` does not match, a `deny` does, and an `ask` turns what the rules after it allow into an `ask`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from gateway_core import Approvals, Principal
from gateway_security_policy.rules import Match, Rule, Subject
from gateway_security_policy.settings import Effect

_STRICTNESS: Final[Mapping[Effect, int]] = {"allow": 0, "ask": 1, "deny": 2}


@dataclass(frozen=True, slots=True)
class Verdict:
    """The outcome of the rules."""

    effect: Effect
    rule: Rule | None
    """The rule that decided; None if none matched."""

    @property
    def label(self) -> str:
        """The rule as text."""
        return "no rule matches" if self.rule is None else self.rule.label

    @property
    def strictness(self) -> tuple[int, bool, int]:
        """Larger for a stricter verdict: of two that ask, the one on a page, then the one that remembers less."""
        config = None if self.rule is None else self.rule.config
        remember = None if config is None else config.remember
        longest = Approvals.MAX_SECONDS if remember == "session" else remember if isinstance(remember, int) else 0
        return _STRICTNESS[self.effect], config is not None and config.answer == "page", -longest


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
    valueless: tuple[Rule, ...] = ()
    """Those steps that ask, and whose expression has no value, whatever the arguments."""

    @property
    def verdict(self) -> Verdict | None:
        """The outcome, if it does not depend on the call."""
        return None if self.steps else self.end

    @property
    def possible(self) -> bool:
        """Whether a call may be allowed."""
        return self.end.effect != "deny" or any(
            rule.then != "deny" and rule not in self.valueless for rule in self.steps
        )

    def decide(self, arguments: Mapping[str, Any]) -> Verdict:
        """The outcome for a call with these arguments."""
        least = list[Verdict]()
        for rule in self.steps:
            match = rule.holds(self.facts, self.subject, arguments)
            if match is Match.YES or (match is Match.FAILED and rule.then == "deny"):
                return strictest((*least, Verdict(rule.then, rule)))
            if match is Match.FAILED and rule.then == "ask":
                least.append(Verdict("ask", rule))
        return strictest((*least, self.end)) if least else self.end


def plan(rules: Iterable[Rule], facts: Mapping[str, Any], subject: Subject) -> Plan:
    """The plan for a subject. `rules`: those that concern the principal."""
    steps, valueless = list[Rule](), list[Rule]()
    for rule in rules:
        covered, _ = rule.covers(subject)
        if covered is Match.NO:
            continue
        match = rule.holds(facts, subject, None)
        if match is Match.NO or (match is Match.FAILED and rule.then == "allow"):
            continue
        if match is Match.FAILED and rule.then == "ask":
            valueless.append(rule)
        if covered is Match.OPEN or match is Match.OPEN or rule in valueless:
            steps.append(rule)
            continue
        return Plan(facts, subject, tuple(steps), Verdict(rule.then, rule), tuple(valueless))
    return Plan(facts, subject, tuple(steps), NO_RULE, tuple(valueless))


def strictest(verdicts: Iterable[Verdict]) -> Verdict:
    """The strictest of some verdicts; a denial if there are none."""
    return max(verdicts, key=lambda verdict: verdict.strictness, default=NO_RULE)


def concerned(rules: Iterable[Rule], principal: Principal, facts: Mapping[str, Any]) -> tuple[Rule, ...]:
    """The rules that concern a principal. `facts`: the variable `principal`."""
    settled = (rule.settled(facts) for rule in rules if not rule.concerns(principal))
    return tuple(rule for rule in settled if rule is not None)
