"""Replicas: upstreams that the configuration declares as replicas and that offer the same items.

Two servers that look alike may serve two accounts, two folders, or staging and production. A call must not reach the
wrong one. So equal definitions alone make no replicas unless the configuration says so (`replicas = "schema"`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Final
from urllib.parse import urlsplit

import msgspec

from gateway_core.api import Kind
from gateway_core.catalog.entry import Entry
from gateway_core.catalog.naming import shortened
from gateway_core.catalog.programs import program
from gateway_core.config import ProxyConfig, UpstreamConfig
from gateway_core.limits.slices import Slices, mapped

MAX_ADVICE: Final = 20
"""Maximum number of pairs of upstreams that `undeclared` reports."""


@dataclass(frozen=True, slots=True)
class ReplicaSet:
    """Upstreams that are replicas of the same items."""

    upstreams: tuple[str, ...]
    reason: str
    """Why, for people."""
    names: Mapping[Kind, tuple[str, ...]]
    """The published names of the shared items."""

    def __str__(self) -> str:
        shared = ", ".join(f"{len(names)} {kind}{'s' * (len(names) != 1)}" for kind, names in self.names.items())
        return f"{' and '.join(self.upstreams)} are replicas, because {self.reason}: they share {shared}"


class Lookalikes(msgspec.Struct, frozen=True):
    """Two upstreams that offer the same items under the same names and are not replicas."""

    upstreams: tuple[str, str]
    names: tuple[str, ...]

    def __str__(self) -> str:
        first, second = self.upstreams
        shown = ", ".join(map(shortened, self.names[:3])) + (
            f" and {len(self.names) - 3} more" if len(self.names) > 3 else ""
        )
        return f"{first} and {second} offer the same under the same names ({shown}) and are two servers; {_ADVICE}"


_ADVICE: Final = (
    'if they are replicas that may serve each other\'s calls, give both the same `group`, for example group = "shared"'
)


class ReplicaRule:
    """The rule of `mcp.proxy.replicas`."""

    def __init__(self, proxy: ProxyConfig) -> None:
        self._mode = proxy.replicas

    def reason(self, first: UpstreamConfig, other: UpstreamConfig) -> str | None:
        """Why two upstreams are replicas for items that both offer; None if they are not."""
        if first.group is not None and first.group == other.group:
            return f'they are in group "{first.group}"'
        if self._mode == "schema":
            return 'the file says replicas = "schema"'
        different_groups = first.group is not None and other.group is not None
        if self._mode == "intent" and not different_groups and _has_priority(first) and _has_priority(other):
            return "each has a priority"
        return None

    def join(self, members: Sequence[UpstreamConfig], other: UpstreamConfig) -> bool:
        """Whether `other` is a replica of each of the `members`."""
        return all(self.reason(member, other) is not None for member in members)

    def reason_of(self, members: Sequence[UpstreamConfig]) -> str:
        """Why all members, at least two, are replicas."""
        reasons = [self.reason(first, other) or "" for first, other in combinations(members, 2)]
        return ", ".join(dict.fromkeys(reasons))


def _has_priority(config: UpstreamConfig) -> bool:
    return "priority" in config.model_fields_set


def replica_sets(entries: Mapping[Kind, Iterable[Entry]], rule: ReplicaRule) -> Slices[tuple[ReplicaSet, ...]]:
    """The replica sets of all published entries, in the order of the lists, in slices."""
    found: dict[tuple[str, ...], dict[Kind, list[str]]] = {}
    configs: dict[tuple[str, ...], list[UpstreamConfig]] = {}

    def add(entry: Entry) -> None:
        owners = tuple(upstream.name for upstream in entry.upstreams)
        found.setdefault(owners, {}).setdefault(entry.kind, []).append(entry.name)
        configs[owners] = [upstream.config for upstream in entry.upstreams]

    for published in entries.values():
        yield from mapped(add, [entry for entry in published if len(entry.upstreams) > 1])
    return tuple(
        ReplicaSet(owners, rule.reason_of(configs[owners]), {kind: tuple(names) for kind, names in shared.items()})
        for owners, shared in found.items()
    )


def declared(proxy: ProxyConfig) -> list[str]:
    """Sentences for people: which configured upstreams are replicas for the items that they share."""
    rule = ReplicaRule(proxy)
    if proxy.replicas == "schema":
        return ['all upstreams are replicas of the tools that they offer alike (replicas = "schema")']
    sets: list[list[UpstreamConfig]] = []
    for upstream in proxy.upstreams:
        joined = next((members for members in sets if rule.join(members, upstream)), None)
        if joined is None:
            sets.append([upstream])
        else:
            joined.append(upstream)
    return [
        f"{' and '.join(member.name for member in members)} are replicas of the tools that they offer alike, because "
        f"{rule.reason_of(members)}"
        for members in sets
        if len(members) > 1
    ]


def undeclared(proxy: ProxyConfig) -> dict[tuple[str, str], str]:
    """Pairs with the same program or address that are not replicas, each with a sentence for people.

    Each upstream is compared only with the first one that has the same program or address.
    """
    rule = ReplicaRule(proxy)
    found: dict[tuple[str, str], str] = {}
    firsts: dict[tuple[str, str], UpstreamConfig] = {}
    for upstream in proxy.upstreams:
        likeness = _likeness(upstream)
        first = firsts.setdefault(likeness, upstream)
        if rule.reason(first, upstream) is None and first is not upstream and len(found) < MAX_ADVICE:
            found[first.name, upstream.name] = (
                f"{first.name} and {upstream.name} {likeness[0]} and are two servers; {_ADVICE}"
            )
    return found


def _likeness(config: UpstreamConfig) -> tuple[str, str]:
    """What is compared: a phrase for people (same address or same program), and the value."""
    if config.url is not None:
        parts = urlsplit(config.url)
        return "have the same address", f"{parts.scheme}://{parts.netloc.lower()}{parts.path}"
    return "run the same program", program(config.command or "", config.args)
