"""The views of principals: snapshots made from the private lists that upstreams returned for one principal.

Other principals never see them. A view is made again when its private lists or the gateway's snapshot have changed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Final

import msgspec

from gateway_core.api import UpstreamState
from gateway_core.catalog.assemble import Assembler
from gateway_core.catalog.snapshot import Snapshot
from gateway_core.limits.accounts import Account, Holding
from gateway_core.limits.budget import MemoryBudget
from gateway_core.limits.slices import Slices, finish, in_turns
from gateway_core.upstream.lists.fetched_lists import LIST_METHODS, FetchedLists
from gateway_core.upstream.lists.listing import ENTRY_MEMORY
from gateway_core.upstream.lists.private_lists import MAX_PRINCIPALS, Part
from gateway_core.upstream.upstream import Upstream

ATTEMPTS: Final = 2
"""How often a view is made in slices for one request, if lists change meanwhile."""

Parts = Mapping[Upstream, Part | None]
"""The private lists of one principal, by upstream; None if they were not requested yet."""


class View(msgspec.Struct, frozen=True):
    """The view of one principal, and the snapshot that it was made from."""

    base: Snapshot
    snapshot: Snapshot
    complete: bool
    """Whether all of its private lists were fetched."""
    missing: tuple[Upstream, ...]
    """Upstreams whose private lists were not requested yet."""
    holding: Holding
    """Counts the view against the memory budget."""
    token: object = msgspec.field(default_factory=object)
    """Identifies the view."""

    @property
    def memory(self) -> int:
        """The bytes that it takes besides the snapshot that it was made from."""
        if self.snapshot is self.base:
            return 0
        mine, base = self.snapshot, self.base
        entries = [len(mine.entries(kind)) for kind in LIST_METHODS if mine.entries(kind) is not base.entries(kind)]
        own = [found for key, found in mine.listings.items() if found is not base.listings.get(key)]
        return sum(entries) * ENTRY_MEMORY + sum(len(page) for found in own for page in found.pages)


class Views:
    """The views of all principals; at most `MAX_PRINCIPALS`, and only as many as the memory has room for.

    The least recently used are dropped first. The last one that is used always stays.
    """

    def __init__(self, assembler: Assembler, budget: MemoryBudget | None = None) -> None:
        """`budget` counts all views as one owner."""
        self._assembler = assembler
        self._account = Account(budget, "views of private lists")
        self._views: dict[str, View] = {}
        self._making: dict[str, asyncio.Future[None]] = {}

    def known(self, base: Snapshot, principal: str) -> View | None:
        """The view of a principal; None if it has to be made again."""
        view = self._views.get(principal)
        return view if view is not None and view.base is base else None

    def of(self, base: Snapshot, principal: str) -> View:
        """The view of a principal. Makes it at once if `prepare` did not."""
        view = self.known(base, principal)
        return self._keep(principal, view or finish(self._made(base, principal, _parts(base, principal))))

    async def prepare(self, base: Callable[[], Snapshot], principal: str) -> None:
        """Make the view of a principal in slices, if it has to be made again. `base` returns the present snapshot."""
        for _ in range(ATTEMPTS):
            snapshot = base()
            if not snapshot.private or self.known(snapshot, principal) is not None:
                return
            other = self._making.get(principal)
            if other is not None:
                await asyncio.wait([other])
                continue
            parts = _parts(snapshot, principal)
            done = self._making[principal] = asyncio.get_running_loop().create_future()
            try:
                view = await in_turns(self._made(snapshot, principal, parts))
            finally:
                del self._making[principal]
                done.set_result(None)
            if snapshot is base() and parts == _parts(snapshot, principal):
                self._keep(principal, view)

    def drop(self, principal: str) -> None:
        """Make the view of this principal again when it is needed."""
        self._views.pop(principal, None)

    def _keep(self, principal: str, view: View) -> View:
        self._views.pop(principal, None)
        while not view.holding.resize(view.memory, force=not self._views):
            self.drop_oldest()
        self._views[principal] = view
        if len(self._views) > MAX_PRINCIPALS:
            self.drop_oldest()
        return view

    def drop_oldest(self) -> None:
        """Drop the view that was not used for longest."""
        if self._views:
            del self._views[next(iter(self._views))]

    def _made(self, base: Snapshot, principal: str, parts: Parts) -> Slices[View]:
        own = {one: part.fetched for one, part in parts.items() if part is not None}
        snapshot = yield from self._own_snapshot(base, principal, own)
        complete = all(
            part is not None and part.fetched is not None and not part.fetched.failures for part in parts.values()
        )
        missing = tuple(one for one, part in parts.items() if part is None)
        return View(base, snapshot, complete, missing, self._account.holding())

    def _own_snapshot(
        self, base: Snapshot, principal: str, own: Mapping[Upstream, FetchedLists | None]
    ) -> Slices[Snapshot]:
        """The snapshot of one principal; `base` if its private lists equal those of the gateway."""
        known = base.all_fetched
        private = {
            one: own.get(one) or (fetched if one.facts.state is UpstreamState.IDLE else FetchedLists())
            for one, fetched in known.items()
            if fetched.private
        }
        kinds = frozenset(kind for one, part in private.items() for kind in part.other_than(known[one]))
        if not kinds:
            return base
        all_fetched = {one: found.with_private(private.get(one, found)) for one, found in known.items()}
        return (yield from self._assembler.renewed(base, kinds, all_fetched, principal))


def _parts(base: Snapshot, principal: str) -> Parts:
    return {upstream: upstream.private_lists.part(principal) for upstream in base.private}
