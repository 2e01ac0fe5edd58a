"""Logs changes of the catalog."""

from __future__ import annotations

from typing import Final

from loguru import logger

from gateway_core.catalog.entry import Entry
from gateway_core.catalog.naming import shortened
from gateway_core.catalog.snapshot import Snapshot
from gateway_core.limits.slices import Slices, mapped
from gateway_core.log.wording import count
from gateway_core.upstream.lists.fetched_lists import LIST_METHODS

MAX_LOGGED: Final = 20
"""Warnings that are logged for one change; further ones are only counted."""
MAX_NAMES: Final = 5
"""Names in one log line."""


def report_changes(before: Snapshot, after: Snapshot) -> Slices[None]:
    """Log names that changed hands, then new warnings, replica sets and lookalikes, in slices."""
    for line in (yield from _moved(before, after)):
        logger.warning("{}", line)
    known_warnings = frozenset(before.warnings)
    new = [warning for warning in after.warnings if warning not in known_warnings]
    for warning in new[:MAX_LOGGED]:
        logger.warning("{}", warning)
    if len(new) > MAX_LOGGED:
        logger.warning("the catalog has {}: rad mcp proxy tools", count(len(new) - MAX_LOGGED, "more new warning"))
    known_sets = {found.upstreams for found in before.replicas}
    for found in after.replicas:
        if found.upstreams not in known_sets:
            logger.info("{}", found)
    if len(after.all_fetched) < len(after.upstreams):
        return  # a missing list may change which upstreams are compared
    complete_before = len(before.all_fetched) == len(after.all_fetched)
    known_pairs = {pair.upstreams for pair in before.lookalikes} if complete_before else set()
    for pair in after.lookalikes:
        if pair.upstreams not in known_pairs:
            logger.info("{}", pair)


def _moved(before: Snapshot, after: Snapshot) -> Slices[list[str]]:
    """One sentence for each pair of owners between which names changed hands."""
    moved: dict[tuple[str, str], list[str]] = {}

    def compare(pair: tuple[Entry, Entry]) -> None:
        former, owners = ([one.name for one in found.upstreams] for found in pair)
        if set(owners).isdisjoint(former):
            shown = f"{pair[1].kind} {shortened(pair[1].name)!r}"
            moved.setdefault((" and ".join(former), " and ".join(owners)), []).append(shown)

    for kind in LIST_METHODS:
        old, new = before.held(kind), after.held(kind)
        yield from mapped(compare, ((old[name], entry) for name, entry in new.items() if name in old))
    return [
        f"names changed hands from {former} to {owner}: {', '.join(names[:MAX_NAMES])}"
        + (f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else "")
        for (former, owner), names in moved.items()
    ]
