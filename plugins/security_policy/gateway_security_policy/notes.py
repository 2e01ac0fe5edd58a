"""Notes on rules that are probably mistakes, for `rad mcp proxy check`."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from functools import partial
from typing import Final

from gateway_core import Globs, Known, Note, Tool
from gateway_security_policy.rules import Rule
from gateway_security_policy.settings import RuleConfig

_TIERS: Final = frozenset({"read", "write", "destructive"})


def notes(rules: Sequence[Rule], known: Known) -> Iterator[Note]:
    """Notes on rules that name nothing that exists, and on rules that never apply."""
    for index, rule in enumerate(rules):
        at = f"rules[{index}]"
        earlier = next((other for other in rules[:index] if precludes(other, rule)), None)
        if earlier is not None:
            message = f"never applies, because {earlier.label} comes first and matches whatever this rule matches"
            yield Note(message, at)
        yield from known.about_groups(rule.config.groups or (), f"{at}.groups")
        yield from known.about_groups(rule.config.approvers or (), f"{at}.approvers")
        yield from known.about_profiles(rule.config.profiles or (), f"{at}.profiles")
        yield from known.about_upstreams(rule.config.upstreams or (), f"{at}.upstreams")
        yield from known.about_tools(rule.config.tools or (), f"{at}.tools", partial(_names, rule))


def _names(rule: Rule, tool: Tool) -> tuple[str, ...]:
    """The names of a tool that a rule compares; none of a tool of other upstreams."""
    upstreams = rule.config.upstreams
    if upstreams is not None and not any(map(upstreams.matches, tool.upstreams)):
        return ()
    return (tool.name,) if rule.then == "allow" else (tool.name, tool.original_name)


def precludes(first: Rule, later: Rule) -> bool:
    """Whether `first` surely matches whatever a later rule matches."""
    one, other = first.config, later.config
    if one.when is not None and (one.when, one.then) != (other.when, other.then):
        return False  # one that has no value denies, but does not allow
    return (
        first.kinds >= later.kinds
        and (one.verified is None or one.verified is other.verified)
        and _includes(one.principals, other.principals)
        and _includes(one.groups, other.groups)
        and _includes(one.scopes, other.scopes)
        and _includes(one.profiles, other.profiles)
        and _includes(one.methods, other.methods)
        and (_TIERS.issubset(one.tiers or ()) or _includes(one.tiers, other.tiers))
        and _covers(one.issuers, other.issuers)
        and _covers(one.upstreams, other.upstreams)
        and all(_names_covered(kind, one, other) for kind in later.kinds)
    )


def _names_covered(kind: str, one: RuleConfig, other: RuleConfig) -> bool:
    """Whether a rule matches all names of a kind that another one matches."""
    names, others = (one.tools, other.tools) if kind == "tool" else (one.prompts, other.prompts)
    if kind in {"resource", "template"}:
        names, others = one.resources, other.resources
    if names is None or "*" in names:
        return True
    if one.then == "allow" and other.then != "allow":
        return False  # a rule that restricts also matches the upstream's own name, and other ways to write a URI
    return _includes(names, others) if kind in {"resource", "template"} else _covers(names, others)


def _includes(these: Collection[str] | None, those: Collection[str] | None) -> bool:
    return these is None or (those is not None and set(those).issubset(these))


def _covers(these: Globs | None, those: Iterable[str] | None) -> bool:
    return these is None or (those is not None and all(map(these.covers, those)))
