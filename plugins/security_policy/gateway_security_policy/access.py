"""Explains what the rules decide: which rule, and why the ones before it do not match.

It tries one rule after the other and uses nothing that the policy remembers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gateway_core import Principal
from gateway_security_policy.plans import NO_RULE, Verdict, strictest
from gateway_security_policy.rules import Match, Rule, Subject, facts_of


@dataclass(frozen=True, slots=True)
class Step:
    """What came of one rule."""

    rule: Rule
    match: Match
    why: str
    """The key that decided, or what its expression does; empty if nothing stands against it."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """What the rules decide at one upstream."""

    subject: Subject
    steps: tuple[Step, ...]
    """The rules in order, up to the one that decides."""
    outcomes: tuple[Verdict, ...]
    """What may happen, in order; more than one if it depends on the arguments."""

    @property
    def decision(self) -> str:
        """`allow`, `deny`, `ask`, or `depends`."""
        effects = {verdict.effect for verdict in self.outcomes}
        return effects.pop() if len(effects) == 1 else "depends"


def explain(
    rules: Sequence[Rule], principal: Principal, subject: Subject, arguments: Mapping[str, Any] | None
) -> Explanation:
    """What the rules decide. `arguments`: None if they are not known."""
    steps = list[Step]()
    outcomes, least = list[Verdict](), list[Verdict]()
    facts = facts_of(principal)
    for rule in rules:
        step = _tried(rule, principal, facts, subject, arguments)
        steps.append(step)
        outcome = strictest((*least, Verdict(rule.then, rule)))
        if step.match is Match.OPEN:
            outcomes.append(outcome)
        elif step.match is Match.YES or (step.match is Match.FAILED and rule.then == "deny"):
            return Explanation(subject, tuple(steps), (*outcomes, outcome))
        elif step.match is Match.FAILED and rule.then == "ask":
            least.append(Verdict("ask", rule))
    return Explanation(subject, tuple(steps), (*outcomes, NO_RULE))


def _tried(
    rule: Rule, principal: Principal, facts: Mapping[str, Any], subject: Subject, arguments: Mapping[str, Any] | None
) -> Step:
    key = rule.concerns(principal)
    if key:
        return Step(rule, Match.NO, key)
    covered, key = rule.covers(subject)
    if covered is Match.NO:
        return Step(rule, Match.NO, key)
    match = rule.holds(facts, subject, arguments)
    if match is Match.YES:
        return Step(rule, covered, key)
    return Step(rule, match, "when")


def decision(explanations: Sequence[Explanation]) -> str:
    """The decision for a call that any of these upstreams may get: the strictest."""
    found = [one.decision for one in explanations]
    if "deny" in found or not found:
        return "deny"
    return next((effect for effect in ("depends", "ask") if effect in found), "allow")


def deciding(explanations: Sequence[Explanation]) -> Verdict | None:
    """The verdict that decides; None if it depends on the arguments."""
    settled = [one.outcomes[-1] for one in explanations if one.decision != "depends"]
    denied = [verdict for verdict in settled if verdict.effect == "deny"]
    if denied or len(settled) == len(explanations):
        return strictest(denied or settled)
    return None
