"""The catalog of the configuration in force, for everything that outlives a reload of the configuration."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from gateway_core.api import Era
from gateway_core.catalog.catalog import Catalog, Listener
from gateway_core.catalog.tasks import Tasks
from gateway_core.log.sparing import Sparing
from gateway_core.mcp.cache_hints import Hint
from gateway_core.supervised import run_each
from gateway_core.upstream.lists.fetched_lists import CAPABILITY, LIST_METHODS


class CurrentCatalog:
    """Passes look-ups on to the present catalog, and keeps the listeners when another one takes its place.

    A call does not use it: from its first look-up to its last, it uses the catalog of its own generation.
    """

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._listeners: list[Listener] = []
        self._spoken = Sparing()
        self._forget: Callable[[], None] = _nothing
        """Ends the listening to the present catalog, which lasts while there are listeners here."""

    def replace(self, catalog: Catalog, kinds: frozenset[str] = frozenset()) -> None:
        """Put another catalog in place, and call the listeners with the lists that differ from those before.

        `kinds`: lists that agents see differently for another reason.
        """
        before, self._catalog = self._catalog.snapshot, catalog
        if self._listeners:
            self._forget()
            self._forget = catalog.listen(self._changed)
        after = catalog.snapshot
        differing = frozenset(CAPABILITY[kind] for kind in LIST_METHODS if before.differs(after, kind))
        if changed := differing | kinds:
            self._changed(changed)

    def _changed(self, kinds: frozenset[str], principal: str = "") -> None:
        run_each(
            "telling agents that lists have changed",
            self._spoken,
            tuple(self._listeners),
            lambda listener: listener(kinds, principal),
        )

    def listen(self, callback: Listener) -> Callable[[], None]:
        """Call `callback` for each change; returns a function that ends this."""
        if not self._listeners:
            self._forget = self._catalog.listen(self._changed)
        self._listeners.append(callback)
        return partial(self._end, callback)

    def _end(self, callback: Listener) -> None:
        if callback in self._listeners:
            self._listeners.remove(callback)
            if not self._listeners:
                self._forget()

    @property
    def tasks(self) -> Tasks:
        """See `Catalog.tasks`."""
        return self._catalog.tasks

    def check_profile(self, profile: str) -> None:
        """Raise `UnknownProfile` unless there is such a profile, or it is empty."""
        self._catalog.profiles.check(profile)

    def changed_in(self, profile: str, kinds: frozenset[str]) -> frozenset[str]:
        """See `Catalog.changed_in`."""
        return self._catalog.changed_in(profile, kinds)

    def identity(self, era: Era, profile: str = "") -> dict[str, Any]:
        """See `Catalog.identity`."""
        return self._catalog.identity(era, profile)

    def discover_hint(self) -> Hint:
        """See `Catalog.discover_hint`."""
        return self._catalog.discover_hint()

    def published_uri(self, upstream: str, uri: str, principal: str | None = None, profile: str = "") -> str:
        """See `Catalog.published_uri`."""
        return self._catalog.published_uri(upstream, uri, principal, profile)


def _nothing() -> None:
    """End nothing."""
