"""The snapshots of profiles. All principals without private lists share one for each profile.

A snapshot is made when an agent first needs it, and again whenever the gateway's snapshot changes. So the lists of a
profile are prepared bytes, and a call costs the same, however many profiles there are.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Final

import msgspec
from loguru import logger

from gateway_core.catalog.lists import Lists
from gateway_core.catalog.profiles.narrowing import narrowed
from gateway_core.catalog.profiles.profile import Profile
from gateway_core.catalog.profiles.remarks import Remark, remarks
from gateway_core.catalog.snapshot import Snapshot
from gateway_core.config import ProfileConfig
from gateway_core.errors import UnknownProfile
from gateway_core.limits.accounts import Account, Holding
from gateway_core.limits.budget import MemoryBudget
from gateway_core.limits.slices import Slices, finish, in_turns
from gateway_core.upstream.lists.fetched_lists import CAPABILITY, LIST_METHODS
from gateway_core.upstream.lists.listing import ENTRY_MEMORY
from gateway_core.upstream.lists.private_lists import MAX_PRINCIPALS


class ProfileView(msgspec.Struct, frozen=True):
    """The snapshot of one profile, and the snapshot that it was made from."""

    base: Snapshot
    snapshot: Snapshot
    holding: Holding
    """Counts the view against the memory budget."""

    @property
    def memory(self) -> int:
        """The bytes that it takes besides the snapshot that it was made from."""
        entries = sum(len(self.snapshot.held(kind)) for kind in LIST_METHODS)
        return entries * ENTRY_MEMORY + sum(len(page) for it in self.snapshot.listings.values() for page in it.pages)


Key = tuple[str, str]
"""A profile, and the principal whose private lists are in the view; empty for all."""


class ProfileViews:
    """The views of all profiles.

    Those with private lists are at most `MAX_PRINCIPALS`. Where the memory has no room, the least recently made are
    dropped, those of single principals first.
    """

    def __init__(self, profiles: Iterable[ProfileConfig], lists: Lists, budget: MemoryBudget | None = None) -> None:
        self.profiles: Final[Mapping[str, Profile]] = {config.name: Profile(config) for config in profiles}
        self._lists = lists
        self._account = Account(budget, "views of profiles")
        self._shared: dict[Key, ProfileView] = {}
        self._own: dict[Key, ProfileView] = {}
        self._making: dict[Key, asyncio.Future[None]] = {}

    def known(self, base: Snapshot, profile: str, owner: str = "") -> Snapshot | None:
        """The snapshot of a profile made from `base`; None if it has to be made.

        `owner`: the principal that `base` belongs to; empty for all.
        """
        view = (self._own if owner else self._shared).get((profile, owner))
        return view.snapshot if view is not None and view.base is base else None

    def of(self, base: Snapshot, profile: str, owner: str = "") -> Snapshot:
        """The snapshot of a profile made from `base`. Makes it at once if `prepare` did not."""
        known = self.known(base, profile, owner)
        return known or self._keep((profile, owner), finish(self._made(base, profile, owner)))

    def remarks(self, base: Snapshot, profile: str) -> list[Remark]:
        """The remarks on a profile. Raises `UnknownProfile`."""
        self.check(profile)
        return [*remarks(self.profiles[profile], base, self.of(base, profile))]

    def all_remarks(self, base: Snapshot) -> dict[str, list[Remark]]:
        """The remarks on every profile, by its name."""
        return {profile: self.remarks(base, profile) for profile in self.profiles}

    def check(self, profile: str) -> None:
        """Raise `UnknownProfile` unless the configuration has the profile, or none is named."""
        if profile and profile not in self.profiles:
            raise UnknownProfile(profile, self.profiles)

    def rules(self, profile: str) -> Profile:
        """The rules of a profile. One that the configuration has no longer shows nothing."""
        return self.profiles.get(profile) or Profile(ProfileConfig(name=profile, tools=()))

    async def prepare(self, base: Snapshot, profile: str, owner: str = "") -> None:
        """Make the snapshot of a profile in slices, if it is not known. Concurrent callers share the work."""
        key = (profile, owner)
        while self.known(base, profile, owner) is None:
            other = self._making.get(key)
            if other is not None:
                await asyncio.wait([other])
                continue
            done = self._making[key] = asyncio.get_running_loop().create_future()
            try:
                self._keep(key, await in_turns(self._made(base, profile, owner)))
            finally:
                del self._making[key]
                done.set_result(None)

    def renewed(self, base: Snapshot) -> Slices[dict[str, ProfileView]]:
        """The shared views that are in use, made from a new snapshot, in slices; see `replace`."""
        found: dict[str, ProfileView] = {}
        for profile, owner in tuple(self._shared):
            found[profile] = yield from self._made(base, profile, owner)
        return found

    def replace(self, renewed: Mapping[str, ProfileView]) -> dict[str, frozenset[str]]:
        """Use these views from now on. Returns what agents of each profile see changed."""
        changed: dict[str, frozenset[str]] = {}
        for profile, view in renewed.items():
            before = self._shared.get((profile, ""))
            self._keep((profile, ""), view)
            if before is not None:
                kinds = (kind for kind in LIST_METHODS if before.snapshot.differs(view.snapshot, kind))
                changed[profile] = frozenset(CAPABILITY[kind] for kind in kinds)
        return changed

    def _made(self, base: Snapshot, profile: str, owner: str) -> Slices[ProfileView]:
        snapshot = yield from narrowed(base, self.rules(profile), self._lists, owner)
        return ProfileView(base, snapshot, self._account.holding())

    def _keep(self, key: Key, view: ProfileView) -> Snapshot:
        views = self._own if key[1] else self._shared
        before = views.pop(key, None)
        known = frozenset[str]() if before is None else frozenset(before.snapshot.warnings)
        for warning in view.snapshot.warnings:
            if warning not in known and not key[1]:
                logger.warning("{}", warning)
        while not view.holding.resize(view.memory, force=not (self._own or self._shared)):
            self._drop_oldest()
        views[key] = view
        if len(self._own) > MAX_PRINCIPALS:
            self._drop_oldest()
        return view.snapshot

    def _drop_oldest(self) -> None:
        views = self._own or self._shared
        del views[next(iter(views))]
