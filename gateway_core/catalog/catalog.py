"""The catalog: rebuilds snapshots, looks up names, answers list requests, notifies listeners of changes.

If an upstream's lists are private, each principal has its own **view**; see `views.py`. Without private lists, all
principals share one snapshot. A profile narrows what its agents see; see `profiles/`. In look-ups and lists,
`principal` is the id of the agent, and `profile` its profile.

A large catalog is rebuilt in slices, between which the event loop serves others. Calls use the last snapshot until the
new one is complete.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final

from loguru import logger
from msgspec.structs import replace as _replace

from gateway_core.api import CallResult, Era, Published
from gateway_core.catalog.assemble import Assembler
from gateway_core.catalog.changes import report_changes
from gateway_core.catalog.identity import discover_hint, identity
from gateway_core.catalog.lists import Lists
from gateway_core.catalog.memory import Memory
from gateway_core.catalog.profiles.links import hidden
from gateway_core.catalog.profiles.views import ProfileViews
from gateway_core.catalog.publish import Resolver, known_in
from gateway_core.catalog.replicas import undeclared
from gateway_core.catalog.snapshot import Snapshot, Target, explicit_tool
from gateway_core.catalog.tasks import Tasks
from gateway_core.catalog.uris.links import Publisher, Withheld, may_hold_links, published_links
from gateway_core.catalog.uris.templates import Effort
from gateway_core.catalog.views import Views
from gateway_core.config import ProxyConfig
from gateway_core.exchange.exchange import Exchange
from gateway_core.inline.driver import in_task
from gateway_core.internal_errors import where
from gateway_core.limits.budget import MemoryBudget
from gateway_core.limits.slices import RepeatedWork, Slices
from gateway_core.mcp.cache_hints import Hint
from gateway_core.sealing import Seal
from gateway_core.upstream.lists.fetched_lists import CAPABILITY, LIST_METHODS, FetchedLists
from gateway_core.upstream.upstream import Upstream
from gateway_core.upstream.user_logins.login_tool import is_login_tool

Listener = Callable[[frozenset[str], str], None]

LARGE_RESULT: Final = 256 * 1024
"""Bytes of a result above which its links are rewritten in a thread."""
_KINDS: Final = {method: kind for kind, method in LIST_METHODS.items()}


class Catalog:
    """The tools, prompts, resources and templates of all upstreams, under the names agents see."""

    def __init__(
        self,
        config: ProxyConfig,
        upstreams: Sequence[Upstream],
        resolve: Resolver,
        seal: Seal,
        memory: Memory | None = None,
        *,
        budget: MemoryBudget | None = None,
        before: Catalog | None = None,
    ) -> None:
        """`memory`: the names that an earlier process recorded; this process records its names there, too.

        `budget` counts what principals see of private lists. `before`: the catalog that this one is to replace; the log
        names only what differs from it.
        """
        self.memory: Final = memory or Memory(config)
        self._undeclared = undeclared(config)
        self._upstreams = tuple(upstreams)
        self._by_name = {upstream.name: upstream for upstream in upstreams}
        self._listeners: list[Listener] = []
        lists = self._lists = Lists(config.limits.page_size, seal)
        self.tasks: Final = Tasks(seal, upstreams, self.tool)
        self._assembler = Assembler(config, resolve, self._lists, self.memory.owners)
        self._views = Views(self._assembler, budget)
        self.profiles: Final = ProfileViews(config.profiles, self._lists, budget)
        self._changed_in: Mapping[str, frozenset[str]] = {}
        """Profile -> what the last change of the snapshot changed for its agents; see `changed_in`."""
        self._rebuilds = RepeatedWork(self._rebuilt, "rebuild the catalog", _failed)
        self.settled: Final = self._rebuilds.settled
        """Waits until the snapshot has all changes up to now. Returns whether it waited."""
        self._made_from: list[tuple[Upstream, FetchedLists, int]] | None = None
        """The lists that the snapshot was made from, each with the counter of its upstream's changes."""
        known = before is not None and lists.pages_as(before._lists)
        self.snapshot: Snapshot = before.snapshot if before is not None and known else Snapshot()
        """Made from the lists that upstreams returned to the gateway itself."""
        self.generation = object()
        """Identifies the snapshot; see `seen_by`."""
        self.rebuild()

    def rebuild(self) -> None:
        """Build a snapshot from the upstreams' last known lists, and call the listeners with what changed.

        A small catalog is rebuilt at once. A large one is rebuilt in a task; see `settled`. A change that comes
        meanwhile is taken by the next rebuild, which follows at once.

        If nothing changed, the old snapshot and the views made from it stay. Equal lists make the same snapshot, and
        most calls come from an upstream that went down or came back with the same lists.
        """
        self._rebuilds.run()

    def _rebuilt(self) -> Slices[None]:
        """Build a snapshot in slices, and replace the last one in one turn."""
        fetched = ((one, self._known(one)) for one in self._upstreams)
        made_from = [(one, known, one.published.changes) for one, known in fetched if known is not None]
        if made_from == self._made_from:
            return
        all_fetched = {one: known for one, known, _ in made_from}
        before, after = self.snapshot, (yield from self._assembler.whole(self._upstreams, all_fetched))
        if (yield from after.equals(before)):
            self._made_from = made_from
            return
        holders = yield from self.memory.owners.assignment({kind: after.held(kind) for kind in LIST_METHODS})
        yield from report_changes(before, after)
        in_profiles = yield from self.profiles.renewed(after)
        self._made_from = made_from
        self.snapshot = after
        self._changed_in = self.profiles.replace(in_profiles)
        self.generation = object()
        known = ((name, kind) for kind in LIST_METHODS for name in known_in(all_fetched, kind))
        self.memory.owners.assign(holders, known)
        self.memory.keep({upstream.name: fetched for upstream, fetched in all_fetched.items()})
        changed = frozenset(CAPABILITY[kind] for kind in LIST_METHODS if before.differs(after, kind))
        if changed and before.listings:
            for listener in tuple(self._listeners):
                listener(changed, "")

    def _known(self, upstream: Upstream) -> FetchedLists | None:
        fetched, remembered = upstream.fetched, self.memory.lists.get(upstream.name)
        return remembered if fetched is None else fetched if remembered is None else fetched.with_remembered(remembered)

    def notes(self) -> list[str]:
        """Sentences for people: which upstreams are replicas, and which pairs only look like replicas."""
        snapshot = self.snapshot
        known = {pair.upstreams[1] for pair in snapshot.lookalikes}
        guessed = [note for pair, note in self._undeclared.items() if pair[1] not in known]
        return [*map(str, snapshot.replicas), *map(str, snapshot.lookalikes), *guessed]

    async def close(self) -> None:
        """End a rebuild in progress, and write the names that were not written yet, for the next process."""
        await self._rebuilds.close()
        await self.memory.close()

    async def leave(self) -> None:
        """End a rebuild in progress: another catalog has taken the place of this one, and remembers its names."""
        await self._rebuilds.close()
        await self.memory.leave()

    def listen(self, callback: Listener) -> Callable[[], None]:
        """Call `callback` with changed kinds and their principal (empty: all); returns a function that ends this."""
        self._listeners.append(callback)
        return lambda: self._listeners.remove(callback) if callback in self._listeners else None

    def changed_in(self, profile: str, kinds: frozenset[str]) -> frozenset[str]:
        """What of the last change, which was in `kinds`, the agents of a profile see."""
        return self._changed_in.get(profile, kinds) if profile else kinds

    # -- views --------------------------------------------------------------------------------------------------

    async def prepare(self, exchange: Exchange) -> None:
        """Fetch the private lists that the agent of this exchange needs.

        A list request fetches private lists that are due. A call fetches them only if they were never requested, so
        that a name reaches the right tool. All upstreams are asked concurrently. For one that does not answer in
        time, the principal's last lists stay; without any, it is left out.
        """
        who = exchange.agent.principal
        if not self.snapshot.private:
            if who.profile:
                await self.profiles.prepare(self.snapshot, who.profile)
            return
        principal, kind = exchange.agent.viewer, _KINDS.get(exchange.method)
        wanted = [
            upstream
            for upstream, kinds in self.snapshot.private.items()
            if (kind is None or kind in kinds)
            and upstream.reachable
            and upstream.private_lists.due(principal, listing=kind is not None)
        ]
        if wanted:
            await asyncio.gather(*(upstream.private_lists.renew(exchange.agent) for upstream in wanted))
        await self._prepare_view(principal, who.profile)

    async def _prepare_view(self, principal: str, profile: str) -> None:
        await self._views.prepare(lambda: self.snapshot, principal)
        view = self._views.known(self.snapshot, principal) if profile else None
        if view is not None:
            await self.profiles.prepare(view.snapshot, profile, self._owner_of(view.snapshot, principal))

    def seen_by(self, principal: str, profile: str = "") -> object | None:
        """An object that identifies what a principal sees, to compare by identity; None if `prepare` is due."""
        base = self.snapshot
        if not base.private:
            return self.profiles.known(base, profile) if profile else self.generation
        view = self._views.known(base, principal)
        if view is None or (view.missing and any(one.reachable for one in view.missing)):
            return None
        if not profile:
            return view.token
        return self.profiles.known(view.snapshot, profile, self._owner_of(view.snapshot, principal))

    def _owner_of(self, snapshot: Snapshot, principal: str) -> str:
        """The principal that a snapshot belongs to; empty for the gateway's own."""
        return "" if snapshot is self.snapshot else principal

    def drop_view(self, principal: str, *, tell: bool) -> None:
        """Make the view of this principal again: its private lists have changed. `tell`: notify its agents of that."""
        self._views.drop(principal)
        for listener in tuple(self._listeners) if tell else ():
            listener(frozenset(CAPABILITY.values()), principal)

    def snapshots_of(self, principal: str | None, profile: str = "") -> tuple[Snapshot, ...]:
        """The snapshots to look names up in: the principal's view, then, if it is incomplete, the gateway's snapshot.

        The latter lets a call end with the upstream's own response or failure. None: the gateway's snapshot only.
        """
        base = self.snapshot
        if not base.private or principal is None:
            return (self.profiles.of(base, profile),) if profile else (base,)
        view = self._views.of(base, principal)
        seen = (view.snapshot,) if view.complete else (view.snapshot, base)
        if not profile:
            return seen
        return tuple(self.profiles.of(one, profile, self._owner_of(one, principal)) for one in seen)

    # -- look-ups ------------------------------------------------------------------------------------------------

    def tool(self, name: str, principal: str | None = None, profile: str = "") -> Target | None:
        """The target of a tool, by its name in the list or by `upstream:tool`.

        Without a profile, the latter reaches unlisted tools, too.
        """
        seen = self.snapshots_of(principal, profile)
        for snapshot in seen:
            target = snapshot.target("tool", name)
            if target is not None:
                return target
        upstream, original = self._explicit(name)
        if upstream is None:
            upstream, original = next((it for it in self._upstreams if is_login_tool(it.config, name)), None), name
        if upstream is None or not original:
            return None
        return explicit_tool(seen, upstream, original, principal, listed_only=bool(profile))

    def prompt(self, name: str, principal: str | None = None, profile: str = "") -> Target | None:
        """The target of a prompt, by published name or by `upstream:prompt`."""
        seen = self.snapshots_of(principal, profile)
        for snapshot in seen:
            target = snapshot.target("prompt", name)
            if target is not None:
                return target
        upstream, prompt = self._explicit(name)
        if upstream is None or not prompt or (profile and not any(it.has_prompt(upstream, prompt) for it in seen)):
            return None
        return Target(prompt, (upstream,))

    def resource(self, uri: str, principal: str | None = None, profile: str = "") -> Target | None:
        """The target of a resource; see `Snapshot.resource`."""
        found = (snapshot.resource(uri) for snapshot in self.snapshots_of(principal, profile))
        return next((target for target in found if target is not None), None)

    def template(self, uri_template: str, principal: str | None = None, profile: str = "") -> Target | None:
        """The target that completes the variables of a template, or of a resource's URI (the protocol allows both)."""
        for snapshot in self.snapshots_of(principal, profile):
            target = snapshot.target("template", uri_template)
            if target is not None:
                return target
        return self.resource(uri_template, principal, profile)

    def published_uri(self, upstream: str, uri: str, principal: str | None = None, profile: str = "") -> str:
        """The URI by which a principal reaches `uri`, a resource of the named upstream."""
        return self.snapshots_of(principal, profile)[0].published_uri(upstream, uri, served=True)

    async def linked(self, exchange: Exchange, result: CallResult) -> CallResult:
        """A result with its URIs rewritten to those that the agent uses.

        A large result is rewritten in a thread, so that other calls go on meanwhile.
        """
        viewer, who = exchange.agent.viewer, exchange.agent.principal
        if not (self.snapshot.linking or who.profile) or result.error is not None or result.upstream is None:
            return result
        small = len(result.raw) <= LARGE_RESULT
        if small and not may_hold_links(result.raw):
            return result
        if self.snapshot.private and self._views.known(self.snapshot, viewer) is None:
            await in_task()
            await self._prepare_view(viewer, who.profile)
        seen = self.snapshots_of(viewer, who.profile)
        if not who.profile and result.upstream not in seen[0].linking:
            return result
        served = exchange.method == "resources/read"
        published = partial(seen[0].published_uri, result.upstream, served=served, effort=Effort())
        withheld = partial(hidden, self.snapshots_of(viewer)[0], seen, Effort()) if who.profile else None
        if small:
            return _linked(exchange.method, result, published, withheld)
        await in_task()
        return await asyncio.to_thread(_linked, exchange.method, result, published, withheld)

    def _explicit(self, name: str) -> tuple[Upstream | None, str]:
        prefix, colon, rest = name.partition(":")
        return (self._by_name.get(prefix), rest) if colon else (None, "")

    # -- lists --------------------------------------------------------------------------------------------------

    def page(self, method: str, era: Era, cursor: str | None, principal: str | None = None, profile: str = "") -> bytes:
        """The result object of a list request, from memory; expired lists are fetched again in the background.

        Raises `RpcError(INVALID_PARAMS)` for an invalid cursor, or one whose position no longer exists.
        """
        if cursor is None:
            for upstream in self._upstreams:
                upstream.refresh_if_expired()
        return self._lists.page(self.snapshots_of(principal, profile)[0].listings[method, era], cursor)

    def listed(self, method: str, principal: str, profile: str = "") -> Mapping[str, Published]:
        """The names in the whole list of a principal; the same object until the list changes."""
        return self.snapshots_of(principal, profile)[0].listings[method, "modern"].published

    def identity(self, era: Era, profile: str = "") -> dict[str, Any]:
        """`capabilities`, `serverInfo` and `instructions` for `initialize` (legacy) and `server/discover` (modern)."""
        if not profile:
            return identity(self._upstreams, era)
        config = self.profiles.rules(profile).config
        upstreams = tuple(self.snapshots_of(None, profile)[0].upstreams.values())
        return identity(upstreams, era, title=config.title, instructions=config.instructions)

    def discover_hint(self) -> Hint:
        """The cache hint of `server/discover`."""
        return discover_hint(self._upstreams, public=not self.profiles.profiles)


def _failed(error: Exception) -> None:
    logger.error("{} while rebuilding the catalog\n{}", type(error).__name__, where(error))


def _linked(method: str, result: CallResult, published: Publisher, withheld: Withheld | None) -> CallResult:
    raw = published_links(method, result.raw, published, withheld)
    return result if raw is result.raw else _replace(result, raw=raw)
