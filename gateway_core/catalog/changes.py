"""Logs changes of the catalog."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from loguru import logger

from gateway_core.catalog.naming import shortened
from gateway_core.catalog.snapshot import Snapshot
from gateway_core.log.wording import count
from gateway_core.upstream.lists.fetched_lists import LIST_METHODS

MAX_LOGGED: Final = 20
"""Warnings that are logged for one change; further ones are only counted."""
MAX_NAMES: Final = 5
"""Names in one log line."""


def report_changes(before: Snapshot, after: Snapshot) -> None:
    """Log names that changed hands, then new warnings, replica sets and lookalikes."""
    for line in _moved(before, after):
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


def _moved(before: Snapshot, after: Snapshot) -> Iterator[str]:
    """One sentence for each pair of owners between which names changed hands."""
    moved: dict[tuple[str, str], list[str]] = {}
    for kind in LIST_METHODS:
        old = {**before.awaited.get(kind, {}), **before.entries(kind)}
        new = {**after.awaited.get(kind, {}), **after.entries(kind)}
        for name, entry in new.items():
            known = old.get(name)
            if known is None or known is entry:
                continue
            owners, former = ([one.name for one in found.upstreams] for found in (entry, known))
            if set(owners).isdisjoint(former):
                moved.setdefault((" and ".join(former), " and ".join(owners)), []).append(f"{kind} {shortened(name)!r}")
    for (former_owner, owner), names in moved.items():
        more = f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else ""
        yield f"names changed hands from {former_owner} to {owner}: {', '.join(names[:MAX_NAMES])}{more}"
