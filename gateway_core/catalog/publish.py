"""Assigns published names to the items of all upstreams: joins replicas, resolves conflicts, makes names valid.

Items are ordered by upstream, in file order, then by each upstream's own order. Names do not depend on health: an
upstream that was not reached yet takes part with its recorded names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Final

import msgspec
from msgspec import Raw

from gateway_core.api import Claim, Kind, Tool, ToolConflict
from gateway_core.catalog.entry import Entry
from gateway_core.catalog.naming import Names, shortened
from gateway_core.catalog.owners import Owners
from gateway_core.catalog.replicas import ReplicaRule
from gateway_core.catalog.snapshot import Decision
from gateway_core.config import UpstreamConfig
from gateway_core.limits.slices import SLICE, Slices, mapped, sliced
from gateway_core.mcp import jsonrpc
from gateway_core.upstream.lists.fetched_lists import NAME_KEYS, FetchedLists, Item
from gateway_core.upstream.upstream import Upstream

Resolver = Callable[[ToolConflict], Mapping[str, Claim] | None]
FetchedByUpstream = Mapping[Upstream, FetchedLists]
"""Upstream -> its fetched lists, for the principals that the snapshot is for; in file order."""


class Rules(msgspec.Struct, frozen=True):
    """The rules that decide about names, besides the conflict plugin."""

    names: Names
    replicas: ReplicaRule
    owners: Owners
    separator: str


@dataclass(slots=True, eq=False)
class _Group:
    """Replicas of one item, while they are collected."""

    local: str
    """The valid form of its name."""
    item: Item
    upstreams: list[Upstream]

    def join(self, upstream: Upstream, item: Item) -> None:
        """Add a replica. Its definition is used if only the name was known so far."""
        self.upstreams.append(upstream)
        if not self.item.raw:
            self.item = item

    @property
    def names(self) -> list[str]:
        return [upstream.name for upstream in self.upstreams]

    @property
    def configs(self) -> list[UpstreamConfig]:
        return [upstream.config for upstream in self.upstreams]

    def claim(self) -> Claim:
        return Claim(self.item.name, self.item.raw or {}, tuple(upstream.view for upstream in self.upstreams))


@dataclass(slots=True)
class Published:
    """The outcome for one kind."""

    entries: dict[str, Entry] = field(default_factory=dict)
    awaited: dict[str, Entry] = field(default_factory=dict)
    """Names reserved for upstreams that were not reached yet; not listed, because their definitions are unknown."""
    decisions: list[Decision] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    kept: set[str] = field(default_factory=set)
    """Contested names that their holder keeps, although another claimant stands above it in the file."""
    lookalikes: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    """Pairs of upstreams that offer the same item under one name and are not replicas -> those names."""


class _Wish(msgspec.Struct, frozen=True, eq=False):
    """A name that the plugin chose for a group."""

    name: str
    group: _Group
    contested: frozenset[str]
    """All upstreams that claim the name which the plugin decided about."""


def publish(kind: Kind, all_fetched: FetchedByUpstream, resolve: Resolver, rules: Rules) -> Slices[Published]:
    """Publish all items of one kind, in slices."""
    claims = yield from _collect(kind, all_fetched, rules)
    published = Published()
    wishes: list[_Wish] = []

    def decide(claimed: tuple[str, list[_Group]]) -> None:
        name, groups = claimed
        # Upstreams that may have the name come first; its holder comes before later claimants.
        space = rules.names.namespace(kind, name)
        first = groups[0]
        groups.sort(key=lambda group: (_foreign(space, group), _keeper(kind, name, group, space, rules) is not None))
        if first is not groups[0] and rules.owners.holds(kind, name, groups[0].names):
            published.kept.add(name)
        pairs = [(group.claim(), group) for group in groups]
        mapping = resolve(ToolConflict(kind, name, tuple(claim for claim, _ in pairs), rules.separator))
        if mapping is None:
            mapping = {name: pairs[0][0]}
        contested = frozenset(owner for group in groups for owner in group.names)
        for new_name, claim in mapping.items():
            wishes.append(_Wish(new_name, _group_of(claim, pairs), contested))

    size = max(1, SLICE // max(len(all_fetched), 1))  # each upstream may claim each name
    yield from mapped(decide, claims.items(), size)
    given = yield from _give_out(kind, wishes, rules, published.warnings)
    order = {upstream: number for number, upstream in enumerate(all_fetched)}

    def placed(pair: tuple[str, _Group]) -> tuple[int, int, str]:
        owner = pair[1].upstreams[0]
        return order[owner], all_fetched[owner].positions(kind)[pair[1].item.name], pair[0]

    def enter(place: tuple[int, int, str]) -> None:
        name, group = place[2], given[place[2]]
        (published.entries if group.item.raw else published.awaited)[name] = _entry(kind, name, group)

    # This order is the same after every restart, whichever upstream answered first.
    places = yield from mapped(placed, given.items())
    places.sort(key=_AT)
    yield from mapped(enter, places)
    yield from _explain(kind, claims, given, published)
    return published


_AT: Final = itemgetter(0, 1)


def _collect(kind: Kind, all_fetched: FetchedByUpstream, rules: Rules) -> Slices[dict[str, list[_Group]]]:
    claims: dict[str, list[_Group]] = {}
    for upstream, fetched in all_fetched.items():
        items = fetched.of(kind)
        local = yield from rules.names.local(kind, items)
        for part in sliced(items):
            for item in part:
                groups = claims.setdefault(local[item.name], [])
                for group in groups:
                    if _alike(group.item, item) and rules.replicas.join(group.configs, upstream.config):
                        group.join(upstream, item)
                        break
                else:
                    groups.append(_Group(local[item.name], item, [upstream]))
            if len(claims) > SLICE:
                yield
    return claims


def _alike(one: Item, other: Item) -> bool:
    return one.identity == other.identity and one.name == other.name


def _foreign(space: frozenset[str], group: _Group) -> bool:
    """Whether a name is in the namespace of the upstreams `space`, none of which is in the group."""
    return bool(space) and space.isdisjoint(group.names)


def _keeper(kind: Kind, name: str, group: _Group, space: frozenset[str], rules: Rules) -> str | None:
    """The holder that precedes the group, unless the name is in the group's namespace and not in the holder's."""
    holder = rules.owners.kept_from(kind, name, group.names)
    return None if space and holder not in space else holder


def _group_of(claim: Claim, pairs: Sequence[tuple[Claim, _Group]]) -> _Group:
    """The group of a claim that the plugin returned, which is one of those that it was given."""
    return next(group for known, group in pairs if known is claim)


def _give_out(kind: Kind, wishes: Sequence[_Wish], rules: Rules, warnings: list[str]) -> Slices[dict[str, _Group]]:
    """Assign names to wishes. Unchanged names come first, so that no renamed item can take them."""
    given: dict[str, _Group] = {}
    refused: list[tuple[_Wish, str]] = []

    def give(wish: _Wish) -> None:
        name = rules.names.valid(kind, wish.name)
        reason = _refusal(kind, name, wish, given, rules)
        if reason is None:
            given[name] = wish.group
            _warn_of_form(kind, name, wish, rules, warnings)
        else:
            refused.append((wish, reason))

    def give_another(refusal: tuple[_Wish, str]) -> None:
        wish, reason = refusal
        name = next(_free_names(kind, wish, given, rules), "")
        if not name:
            warnings.append(f"{_described(kind, wish.group)} is left out: {reason}")
            return
        given[name] = wish.group
        warnings.append(f"{_described(kind, wish.group)} is published as {shortened(name)!r}: {reason}")

    for own_name in (True, False):
        yield from mapped(give, [wish for wish in wishes if (wish.name == wish.group.local) is own_name])
    yield from mapped(give_another, refused)
    return given


def _free_names(kind: Kind, wish: _Wish, given: Mapping[str, _Group], rules: Rules) -> Iterator[str]:
    owner = wish.group.upstreams[0].name
    candidates = list(rules.names.owned(kind, owner, wish.group.local))
    yield from (name for name in candidates if _refusal(kind, name, wish, given, rules) is None)
    # Candidates after the first (a digest or a repeated mark) may even look like another upstream's names.
    yield from (name for name in candidates[1:] if name not in given)


def _refusal(kind: Kind, name: str, wish: _Wish, given: Mapping[str, _Group], rules: Rules) -> str | None:
    """Why the group cannot have the name; None if it can."""
    group = wish.group
    if name in given:
        return f"the name {shortened(name)!r} is taken by {_described(kind, given[name])}"
    space = rules.names.namespace(kind, name)
    if _foreign(space, group):
        return f"names of the form {shortened(name)!r} belong to upstream {' and '.join(sorted(space))}"
    holder = _keeper(kind, name, group, space, rules)
    if holder is not None and holder not in wish.contested:
        return f"the name {shortened(name)!r} belongs to upstream {holder}, which does not offer it at present"
    return None


def _warn_of_form(kind: Kind, name: str, wish: _Wish, rules: Rules, warnings: list[str]) -> None:
    """Warn if a name was changed to make it valid."""
    if name != wish.name or wish.name == wish.group.local != wish.group.item.name:
        warnings.append(
            f"{_described(kind, wish.group)} is published as {shortened(name)!r}: names are {rules.names.rule}"
        )


def _described(kind: Kind, group: _Group) -> str:
    return f"{kind} {shortened(group.item.name)!r} of {', '.join(group.names)}"


def _entry(kind: Kind, name: str, group: _Group) -> Entry:
    raw = group.item.raw
    if raw and name != group.item.name:
        key = NAME_KEYS[kind]
        members = jsonrpc.members(raw)
        members[key] = Raw(jsonrpc.encode(name))
        raw = jsonrpc.encode(members)
    upstreams = tuple(group.upstreams)
    tool = None
    if kind == "tool" and raw:
        tool = Tool(name, group.item.name, raw, tuple(upstream.name for upstream in upstreams))
    return Entry(kind, name, group.item.name, raw, upstreams, tool, group.item.header_map, group.item.legacy)


def _explain(
    kind: Kind, claims: Mapping[str, list[_Group]], given: Mapping[str, _Group], published: Published
) -> Slices[None]:
    """Record how each conflict was resolved, for operators."""
    names = {group: name for name, group in reversed(list(given.items()))}

    def explain(claim: tuple[str, list[_Group]]) -> None:
        name, claimed = claim
        groups = sorted(claimed, key=lambda group: group.upstreams[0].facts.order)
        outcome = tuple((names.get(group), tuple(group.names)) for group in groups)
        published.decisions.append(Decision(kind, name, outcome, kept=name in published.kept))
        firsts: dict[tuple[str, str], _Group] = {}
        for group in groups:
            first = firsts.setdefault((group.item.name, group.item.identity), group)
            if first is not group:
                pair = (first.upstreams[0].name, group.upstreams[0].name)
                published.lookalikes.setdefault(pair, []).append(name)

    conflicts = [claim for claim in claims.items() if len(claim[1]) > 1]
    size = max(1, SLICE // max(map(len, claims.values()), default=1))
    yield from mapped(explain, conflicts, size)


def known_in(all_fetched: FetchedByUpstream, kind: Kind) -> Iterable[str]:
    """The upstreams whose list of that kind is known."""
    return (upstream.name for upstream, fetched in all_fetched.items() if kind in fetched.items)
