"""What the limits leave one agent, for operators."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, Protocol

from gateway_core import Allowance, Globs, Principal, network_of
from gateway_security_ratelimit.arrivals import Key
from gateway_security_ratelimit.limits import Check, Whose

UNLISTED: Final = " "
"""Begins what stands for the tools that no list shows: they share a limit, because agents choose their names."""
_UNLISTED: Final = "all tools that no list shows, together"
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


def allowances(
    principal: Principal,
    rules: Sequence[AnyRule],
    of_address: Sequence[Check],
    rule_of: Callable[[str], AnyRule],
    now: float,
) -> Iterator[Allowance]:
    """Those of what the agent has used lately, then those of everything else.

    `rules`: all, of which the last has the general limits. `rule_of`: the rule for one tool of the agent.
    """
    who, place = principal.id, network_of(principal.address)
    for key in _used(who, [check for rule in rules for check in rule.checks], now):
        rule = _rule_of(key, rules, rule_of)
        if not rule.shared:
            yield from _if_used(_left(_what(key[1]), rule.checks, key, "agent", now), rule.checks)
    if not principal.verified:
        for key in _used(place, of_address, now):
            yield from _left(_what(key[1]), of_address, key, "address", now)
    mine = [rule for rule in rules if not rule.groups or not rule.groups.isdisjoint(principal.groups)]
    for rule in mine:
        if rule.shared:
            yield from _left(f"{_globs(rule.tools)}, together", rule.checks, (who, rule.number), "agent", now)
        else:
            yield from _full(f"each {_globs(rule.tools, 'other tool')}", rule.checks, "agent")
    if not principal.verified:
        yield from _full("each other tool", of_address, "address")


def _used(who: str, checks: Iterable[Check], now: float) -> list[Key]:
    return sorted({key for check in checks for key in check.used(who, now) if isinstance(key[1], str)})


def _rule_of(key: Key, rules: Sequence[AnyRule], rule_of: Callable[[str], AnyRule]) -> AnyRule:
    name = str(key[1])
    if not name.startswith(UNLISTED):
        return rule_of(name)
    number = name.removeprefix(UNLISTED)
    return rules[int(number)] if number else rules[-1]


def _what(tool: str | int) -> str:
    name = str(tool)
    return _UNLISTED if name.startswith(UNLISTED) else name


def _globs(tools: Globs, without: str = "all tools") -> str:
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
