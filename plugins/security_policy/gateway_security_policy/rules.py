"""Rules, compiled: whom a rule concerns, what it concerns, and whether its expression holds."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

from gateway_core import Globs, Principal, Tier, UriGlobs
from gateway_security_policy.expressions import EvaluationError, Expression
from gateway_security_policy.settings import Effect, RuleConfig


class Match(enum.Enum):
    """Whether a rule matches."""

    YES = "matches"
    NO = "does not match"
    OPEN = "depends on the call"
    """Not known before the call: on its arguments, or on the URI of a template."""
    FAILED = "cannot be evaluated"
    """Its expression has no value."""


@dataclass(frozen=True, slots=True)
class Subject:
    """What a call is about, at one upstream."""

    method: str
    kind: str
    """`tool`, `prompt`, `resource` or `template`."""
    name: str
    """The name in the lists of the gateway."""
    original_name: str
    """The upstream's own name."""
    upstream: str
    tier: Tier = "read"
    annotations: Mapping[str, Any] | None = None

    def facts(self) -> dict[str, Any]:
        """The variable `tool` of expressions."""
        return {
            "kind": self.kind,
            "name": self.name,
            "original_name": self.original_name,
            "upstream": self.upstream,
            "tier": self.tier,
            "annotations": dict(self.annotations or {}),
        }


def facts_of(principal: Principal) -> dict[str, Any]:
    """The variable `principal` of expressions."""
    return {
        "id": principal.id,
        "verified": principal.verified,
        "subject": principal.subject,
        "issuer": principal.issuer,
        "groups": sorted(principal.groups),
        "scopes": sorted(principal.scopes),
        "claims": plain(principal.claims),
        "profile": principal.profile,
        "client_name": principal.client_name,
        "address": principal.address,
    }


def plain(value: Any) -> Any:
    """A copy of decoded JSON whose objects and arrays are plain."""
    if isinstance(value, dict):
        return {key: plain(element) for key, element in value.items()}
    return [plain(element) for element in value] if isinstance(value, list) else value


class Rule:
    """One rule."""

    def __init__(self, number: int, config: RuleConfig) -> None:
        self.number: Final = number
        """Its place in the file, from 1."""
        self.config: Final = config
        self.then: Final[Effect] = config.then
        self.when: Final = None if config.when is None else Expression(config.when)
        self._who: Final = _who(config)
        self._uris: Final = None if config.resources is None else UriGlobs(config.resources)
        self._names: Final[Mapping[str, Globs | None]] = {
            "tool": config.tools,
            "prompt": config.prompts,
            "resource": self._uris,
            "template": self._uris,
        }
        self.kinds: Final = _kinds(config)
        """The kinds of names that it is about."""

    @property
    def label(self) -> str:
        """Its name, or its number."""
        return self.config.name or f"rule {self.number}"

    def uses(self, variable: str) -> bool:
        """Whether its expression reads a variable."""
        return self.when is not None and variable in self.when.uses

    def settled(self, principal: Mapping[str, Any]) -> Rule | None:
        """The rule for one principal: without its expression if that reads nothing but the principal and holds.

        None if it does not match then, whatever the call is about.
        """
        when = self.when
        if when is None or when.uses != {"principal"}:
            return self
        try:
            holds = when.holds(principal, {}, None)
        except EvaluationError:
            if self.then == "ask":
                return self  # what the other rules decide counts, too
            holds = self.then == "deny"
        return self._free if holds else None

    @cached_property
    def _free(self) -> Rule:
        """The same rule without its expression."""
        return Rule(self.number, self.config.model_copy(update={"when": None}))

    def concerns(self, principal: Principal) -> str:
        """Empty if the rule concerns the principal; otherwise the key that does not match."""
        return next((key for key, matches in self._who if not matches(principal)), "")

    def covers(self, subject: Subject) -> tuple[Match, str]:
        """Whether the rule is about a subject, apart from its expression; and the key that decides it."""
        other = self._differs(subject)
        globs = self._names[subject.kind]
        if other or globs is None or self._names_match(globs, subject):
            return (Match.NO, other) if other else (Match.YES, "")
        if subject.kind == "template" and self._uris is not None:
            return Match.OPEN if self._uris.may_match(subject.original_name) else Match.NO, "resources"
        return Match.NO, f"{subject.kind}s"

    def _differs(self, subject: Subject) -> str:
        """The key, other than that of its name, by which the rule is not about a subject; empty if none."""
        config = self.config
        if subject.kind not in self.kinds:
            return f"it is not about a {subject.kind}"
        if config.methods is not None and subject.method not in config.methods:
            return "methods"
        if config.upstreams is not None and not config.upstreams.matches(subject.upstream):
            return "upstreams"
        return "tiers" if subject.kind == "tool" and subject.tier not in (config.tiers or (subject.tier,)) else ""

    def _names_match(self, globs: Globs, subject: Subject) -> bool:
        matches: Callable[[str], bool] = globs.matches
        if self._uris is not None and globs is self._uris:
            resource = self._uris.surely_match if self.then == "allow" else self._uris.perhaps_match
            matches = self._uris.cover if subject.kind == "template" else resource
        # A prefix, a mark or `upstream:name` must not get around a rule that restricts.
        return matches(subject.name) or (self.then != "allow" and matches(subject.original_name))

    def holds(self, principal: Mapping[str, Any], subject: Subject, arguments: Mapping[str, Any] | None) -> Match:
        """Whether its expression holds. `arguments`: None if they are not known."""
        when = self.when
        if when is None:
            return Match.YES
        if arguments is None and "arguments" in when.uses:
            return Match.OPEN
        try:
            return Match.YES if when.holds(principal, subject.facts(), arguments) else Match.NO
        except EvaluationError:
            return Match.FAILED


def _kinds(config: RuleConfig) -> frozenset[str]:
    """The kinds of names that a rule is about: those that it names, or all."""
    kinds = set[str]()
    if config.tools is not None or config.tiers is not None:
        kinds.add("tool")
    if config.prompts is not None:
        kinds.add("prompt")
    if config.resources is not None:
        kinds |= {"resource", "template"}
    return frozenset(kinds or {"tool", "prompt", "resource", "template"})


def _who(config: RuleConfig) -> tuple[tuple[str, Callable[[Principal], bool]], ...]:
    """The keys that say whom a rule concerns, each with its test."""
    tests: list[tuple[str, Callable[[Principal], bool]]] = []
    if config.verified is not None:
        tests.append(("verified", lambda principal: principal.verified is config.verified))
    if config.principals is not None:
        ids, subjects = frozenset(config.principals), config.principals
        tests.append(("principals", lambda who: who.id in ids or (who.verified and subjects.matches(who.subject))))
    if config.groups is not None:
        groups = frozenset(config.groups)
        tests.append(("groups", lambda principal: not groups.isdisjoint(principal.groups)))
    if config.scopes is not None:
        scopes = frozenset(config.scopes)
        tests.append(("scopes", lambda principal: not scopes.isdisjoint(principal.scopes)))
    if config.issuers is not None:
        issuers = config.issuers
        tests.append(("issuers", lambda principal: principal.verified and issuers.matches(principal.issuer)))
    if config.profiles is not None:
        profiles = frozenset(config.profiles)
        tests.append(("profiles", lambda principal: _profile(principal) in profiles))
    return tuple(tests)


def _profile(principal: Principal) -> str:
    """The profile that the agent uses, or else the one that its key is bound to.

    The claim of a token counts only through the profile that it chose: people may be able to write it themselves.
    """
    of_token = "://" in principal.issuer
    profile = principal.profile or ("" if of_token else principal.claims.get("profile"))
    return profile if isinstance(profile, str) else ""
