"""Limit calls per agent and tool, by the generic cell rate algorithm (GCRA, ITU-T I.371).

The state per agent and tool is one number, the **theoretical arrival time** (TAT): the time at which the calls allowed
so far would end at the configured rate. A call is allowed while the TAT is less than a burst after now. Agents cannot
exploit window boundaries: in any t seconds, at most `burst` + t * limit / 60 calls pass.

Overrides, quotas and limits of addresses are looked at only if the settings have any.
"""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, Final, Self

from pydantic import Field, model_validator

from gateway_core import Allowance, Call, Globs, Known, Note, Plugin, Principal, Reject, hookimpl, network_of
from gateway_security_ratelimit import left
from gateway_security_ratelimit.arrivals import Arrivals, Key, MemoryArrivals, Unlisted
from gateway_security_ratelimit.limits import AddressLimit, Check, Counts, Limit, Override, Rate, Whose, checks

MAX_NAME: Final = 128
"""Maximum characters of a name that is not in the catalog, as the agent chose it."""
MAX_MATCHES: Final = 4096
"""Maximum number of pairs of groups and tool whose rule is remembered."""
MAX_GROUPS: Final = 256
"""Maximum number of sets of groups whose rules are remembered."""
_UNLISTED: Final = Unlisted(0)
"""The tools that no list shows, if the general limits are the only ones."""


@dataclass(frozen=True, slots=True)
class Rule:
    """The limits of some agents and tools."""

    number: int
    """The place in the settings; the general limits are the last."""
    groups: frozenset[str]
    tools: Globs
    """Those of its tools; empty for all."""
    shared: bool
    checks: tuple[Check, ...]

    def applies(self, groups: frozenset[str], tool: str) -> bool:
        return (not self.groups or not self.groups.isdisjoint(groups)) and (not self.tools or self.tools.matches(tool))


class Settings(Limit):
    """Settings of `security_ratelimit`."""

    rate_limit_per_minute: int = Field(
        default=60, ge=0, description="calls per minute, per agent and tool; 0 switches the limit off"
    )
    burst: int | None = Field(
        default=None, gt=0, description="calls that may come at once; without it, as many as per minute"
    )
    calls_per_day: int | None = Field(
        default=None,
        ge=0,
        description="calls per UTC day, per agent and tool; a restart begins a new count; 0: no quota",
    )
    address: AddressLimit = Field(
        default=AddressLimit(),
        description="limits per address and tool, for all agents that are not verified together",
    )
    limits: tuple[Override, ...] = Field(
        default=(), description="limits for groups and tools in place of the general ones; the first that fits"
    )

    @model_validator(mode="after")
    def _overrides_have_a_rate(self) -> Self:
        for number, limit in enumerate(self.limits):
            if limit.burst is not None and limit.rate_limit_per_minute is None and not self.rate_limit_per_minute:
                raise ValueError(
                    f"burst of limits[{number}] has no effect, because rate_limit_per_minute is 0; give limits"
                    f"[{number}] a rate_limit_per_minute, or remove its burst"
                )
        return self


class RateLimit(Plugin[Settings]):
    """Rejects calls over the limit, with the time until the next attempt."""

    methods = frozenset({"tools/call"})

    def __init__(
        self,
        config: Settings,
        clock: Callable[[], float] = time.monotonic,
        arrivals: Arrivals | None = None,
        wall: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(config)
        self._clock = clock
        self._limits = config.limits
        self._arrivals = MemoryArrivals() if arrivals is None else arrivals
        self._wall = wall
        counts = Counts(self._time)
        general = checks(config, self._arrivals, counts)
        self._address = checks(config.address, MemoryArrivals(), Counts(self._time))
        self._rules = tuple(_rules(config, general, self._arrivals, counts))
        self._matches: OrderedDict[tuple[frozenset[str], str], Rule] = OrderedDict()
        self._rules_of = lru_cache(MAX_GROUPS)(partial(left.rules_of, self._rules))
        only = general[0] if len(general) == 1 and not self._address and len(self._rules) == 1 else None
        self._only = only if isinstance(only, Rate) else None
        """The one limit of settings that have no others."""
        self._interval = 0.0 if self._only is None else self._only.interval
        self._tolerance = 0.0 if self._only is None else self._only.tolerance

    def notes(self, known: Known) -> Iterator[Note]:
        """Limits that are probably mistakes."""
        for number, limit in enumerate(self._limits):
            earlier = next((at for at, other in enumerate(self._limits[:number]) if other.includes(limit)), None)
            if earlier is not None:
                message = f"never applies, because limits[{earlier}] comes first and fits all its agents and tools"
                yield Note(message, f"limits[{number}]")
            yield from known.about_groups(limit.groups, f"limits[{number}].groups")
            yield from known.about_tools(limit.tools, f"limits[{number}].tools")

    def allowances(self, principal: Principal) -> Iterator[Allowance]:
        """What the limits leave an agent."""
        rule_of = partial(self._rule, principal.groups)
        rules = self._rules_of(principal.groups)
        return left.allowances(principal, rules, self._address, rule_of, self._clock())

    def use_clock(self, clock: Callable[[], float]) -> None:
        """Take the time from a back-test: that of the recorded call, in seconds since the epoch."""
        self._clock = self._wall = clock

    def _time(self) -> float:
        return self._wall()

    @hookimpl
    def before_call(self, call: Call) -> Reject | None:
        if call.continues:
            return None  # it was counted before a plugin asked the user
        if self._only is None:
            return self._judge(call)
        # The published name, so that `upstream:tool` and the plain name share a limit.
        key = call.principal.id, _UNLISTED if call.tool is None else call.tool.name
        now = self._clock()
        wait = self._arrivals.take(key, now, self._interval, self._tolerance)
        if wait <= 0:
            return None
        return _refusal(_shown(call), [("agent", self._only, key)], now, shared=False)

    def _judge(self, call: Call) -> Reject | None:
        principal, shown = call.principal, _shown(call)
        rule = self._rule(principal.groups, shown)
        tool = Unlisted(rule.number) if call.tool is None else shown
        own: Key = (principal.id, rule.number if rule.shared else tool)
        found: list[tuple[Whose, Check, Key]] = [("agent", check, own) for check in rule.checks]
        if self._address and not principal.verified:
            place: Key = (network_of(principal.address), tool)
            found += [("address", check, place) for check in self._address]
        now = self._clock()
        if any(check.wait(key, now) > 0 for _, check, key in found):  # a refused call counts nowhere
            return _refusal(shown, found, now, shared=rule.shared)
        for _, check, key in found:
            check.take(key, now)
        return None

    def _rule(self, groups: frozenset[str], tool: str) -> Rule:
        if len(self._rules) == 1:
            return self._rules[0]
        pair = (groups, tool)
        rule = self._matches.get(pair)
        if rule is None:
            rule = self._matches[pair] = next(one for one in self._rules if one.applies(groups, tool))
            if len(self._matches) > MAX_MATCHES:
                self._matches.popitem(last=False)
        return rule


def _shown(call: Call) -> str:
    """The name of the tool: the published one, or that of the call if no list shows it."""
    return call.name[:MAX_NAME] if call.tool is None else call.tool.name


def _rules(config: Settings, general: tuple[Check, ...], arrivals: Arrivals, counts: Counts) -> Iterator[Rule]:
    """The overrides, then the general limits, which apply to everything."""
    inherited = {name: getattr(config, name) for name in Limit.model_fields}
    for number, override in enumerate(config.limits):
        given = override.model_dump(exclude_none=True, include=set(Limit.model_fields))
        if "rate_limit_per_minute" in given:
            given.setdefault("burst", None)  # the general burst belongs to the general rate
        limit = Limit(**{**inherited, **given})
        yield Rule(number, frozenset(override.groups), override.tools, override.shared, checks(limit, arrivals, counts))
    yield Rule(len(config.limits), frozenset(), Globs(), False, general)


def _refusal(tool: str, found: list[tuple[Whose, Check, Key]], now: float, *, shared: bool) -> Reject:
    """The refusal by the limit that takes longest to allow a call; its `data` has all limits of the call."""
    waits = [check.wait(key, now) for _, check, key in found]
    wait = max(waits)
    whose, check, _ = found[waits.index(wait)]
    seconds = math.ceil(wait * 10) / 10
    calls = "1 call" if check.limit == 1 else f"{check.limit} calls"
    what = f"the tools of one limit, {tool!r} among them" if shared and whose == "agent" else f"tool {tool!r}"
    source = " from this address" if whose == "address" else ""
    limits: list[dict[str, Any]] = [
        {"limit": check.limit, "per": check.period, "of": whose, "remaining": check.remaining(key, now)}
        for whose, check, key in found
    ]
    return Reject(
        f"Rate limit exceeded: {calls} per {check.period}{source} for {what}; try again in {seconds:g} s",
        retry_after=seconds,
        data={"limits": limits},
        rule=f"{calls} per {check.period}{source}",
    )
