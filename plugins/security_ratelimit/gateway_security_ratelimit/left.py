"""What the limits leave one agent, for operators."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, Protocol

from gateway_core import Allowance, Globs, Principal, network_of
from gateway_security_ratelimit.arrivals import Key, Unlisted
from gateway_security_ratelimit.limits import Check, Whose

_MAX_GLOBS: Final = 5
"""Globs of a rule that are named."""


class AnyRule(Protocol):
    """The limits of some agents and tools."""

    @property
    def number(self) -> int: ...
    @property
    def groups(self) -> frozenset[str]: ...
    @property
    def tools(self) -> Globs: ...
    @property
    def shared(self) -> bool: ...
    @property
    def checks(self) -> tuple[Check, ...]: ...


def rules_of(rules: Sequence[AnyRule], groups: frozenset[str]) -> tuple[AnyRule, ...]:
    """The rules that can apply to an agent of these groups: without those whose tools earlier ones take."""
    found: list[AnyRule] = []
    for rule in rules:
        if rule.groups and rule.groups.isdisjoint(groups):
            continue
        if not all(any(earlier.tools.covers(glob) for earlier in found) for glob in rule.tools or ("*",)):
            found.append(rule)
        if not rule.tools:
            break
    return tuple(found)


def allowances(
    principal: Principal,
    rules: Sequence[AnyRule],
    of_address: Sequence[Check],
    rule_of: Callable[[str], AnyRule],
    now: float,
) -> Iterator[Allowance]:
    """Those of what the agent has used lately, then those of everything else.

    `rules`: those that can apply to the agent. `rule_of`: the rule for one of its tools.
    """
    who, place = principal.id, network_of(principal.address)
    for tool in _used(who, [check for rule in rules for check in rule.checks], now):
        rule = rule_of(tool) if isinstance(tool, str) else _numbered(tool.rule, rules)
        if rule is not None and not rule.shared:
            yield from _if_used(_left(_what(tool, rules), rule.checks, (who, tool), "agent", now), rule.checks)
    if not principal.verified:
        for tool in _used(place, of_address, now):
            yield from _left(_what(tool, rules), of_address, (place, tool), "address", now)
    free: list[str] = []
    for rule in rules:
        others = f" except {_globs(free)}" if free else ""
        if not rule.checks:
            free += rule.tools
        elif rule.shared:
            what = f"{_globs(rule.tools)}{others}, together"
            yield from _left(what, rule.checks, (who, rule.number), "agent", now)
        else:
            yield from _full(f"each {_globs(rule.tools, 'other tool')}{others}", rule.checks, "agent")
    if not principal.verified:
        yield from _full("each other tool", of_address, "address")


def _used(who: str, checks: Iterable[Check], now: float) -> list[str | Unlisted]:
    """The tools of which not everything is left; each store is read once."""
    stores = {id(check.store): check for check in checks}
    found = {tool for check in stores.values() for _, tool in check.used(who, now)}
    names = sorted(tool for tool in found if isinstance(tool, str))
    return [*names, *sorted(tool for tool in found if isinstance(tool, Unlisted))]


def _numbered(number: int, rules: Iterable[AnyRule]) -> AnyRule | None:
    """None if it does not apply to the agent any longer, because its groups changed."""
    return next((rule for rule in rules if rule.number == number), None)


def _what(tool: str | Unlisted, rules: Iterable[AnyRule]) -> str:
    if isinstance(tool, str):
        return tool
    rule = _numbered(tool.rule, rules)
    return f"{_globs(() if rule is None else rule.tools)} that no list shows, together"


def _globs(tools: Sequence[str], without: str = "all tools") -> str:
    if not tools:
        return without
    more = f" and {len(tools) - _MAX_GLOBS} more" if len(tools) > _MAX_GLOBS else ""
    return ", ".join(tools[:_MAX_GLOBS]) + more


def _left(what: str, checks: Iterable[Check], key: Key, whose: Whose, now: float) -> Iterator[Allowance]:
    for check in checks:
        wait = check.wait(key, now)
        yield Allowance(what, check.limit, check.period, check.remaining(key, now), whose, wait)


def _if_used(found: Iterator[Allowance], checks: Sequence[Check]) -> list[Allowance]:
    """Those of one tool; none if everything is left of them, as of a tool that another rule has counted."""
    given = list(found)
    return given if any(one.remaining < check.burst for one, check in zip(given, checks, strict=True)) else []


def _full(what: str, checks: Iterable[Check], whose: Whose) -> Iterator[Allowance]:
    for check in checks:
        yield Allowance(what, check.limit, check.period, check.burst, whose)
