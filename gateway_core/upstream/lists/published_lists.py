"""The published lists of one upstream: the copy that the gateway fetched for itself.

Agents get it, except for the lists that the server marks as private; see `private_lists.py`.

Lists are independent: one that fails keeps its last known entries, is reported, and is fetched again with backoff,
while the others are published.

Fetches are numbered in the order in which they start. An older one never replaces the result of a newer one, because
a list may change while it is being fetched.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from loguru import logger

from gateway_core.api import Kind
from gateway_core.config import UpstreamConfig
from gateway_core.limits.accounts import UNCOUNTED, Account, Holding
from gateway_core.mcp.cache_hints import Hint
from gateway_core.upstream.base import Connection, ServerInfo
from gateway_core.upstream.concealing import Concealer
from gateway_core.upstream.lists import gathering
from gateway_core.upstream.lists.fatal import FatalLists
from gateway_core.upstream.lists.fetched_lists import LIST_METHODS, FetchedLists, Item
from gateway_core.upstream.lists.gathering import Failure, ListRequests, ListRetries, Outcome, Tasks
from gateway_core.upstream.lists.kept_lists import NOTHING_KEPT, KeptLists
from gateway_core.upstream.lists.listing import COPIES, ENTRY_MEMORY
from gateway_core.upstream.status import NO_EVENTS, SYSTEM_CLOCK, Clock, UpstreamEvents

_ALL_PRIVATE: Final = dict.fromkeys(LIST_METHODS, Hint())


class PublishedLists:
    """The published lists of one upstream."""

    def __init__(
        self,
        config: UpstreamConfig,
        events: UpstreamEvents = NO_EVENTS,
        clock: Clock = SYSTEM_CLOCK,
        account: Account = UNCOUNTED,
        kept: KeptLists = NOTHING_KEPT,
    ) -> None:
        """`account` counts the lists. `kept` holds those of an earlier process, and gets all that are fetched."""
        known = kept.known(config)
        self.fetched: FetchedLists | None = None if known is None else _counted(known.lists, account)
        """The gateway's own copy of the lists."""
        self.info: ServerInfo | None = None if self.fetched is None or known is None else known.info
        """What the server of these lists said about itself."""
        self.of_earlier_process = self.fetched is not None
        """Whether nothing was fetched since the start, so that the server may be another version by now."""
        self.behind = False
        """Whether the last fetch failed as a whole."""
        self._refused = self.fetched is not None and _is_refused(self.fetched)
        """Whether the server does not serve the gateway itself, so that its lists are unknown."""
        self._compared: dict[Kind, tuple[Item, ...]] = {}
        """Each list as it was last known to be complete, also if the server has another version by now."""
        if self.fetched is not None and self.info is not None and not self._refused:
            self._compared = self._complete(self.fetched, self.info)
        self.changes = 0
        """Number of events after which private lists may differ: `list_changed`, connects, changes of cache scope."""
        self._config = config
        self._account = account
        self._kept = kept
        self._keeps = True
        self._concealer = Concealer.of(config)
        self._events = events
        self._fetched_at = 0.0
        self._numbers = itertools.count(1)
        self._fetched_by: dict[Kind, int] = {}
        """The number of the fetch that last determined each list, by success or failure."""
        self._retries = ListRetries()
        self.fatal: Final = FatalLists(config.name, self._concealer.hide, clock.now)
        self._late: dict[Kind, asyncio.Task[None]] = {}
        """Fetches still in progress whose lists were published as failed."""
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def age(self) -> float | None:
        """Seconds since the gateway's own lists were last fetched; None before the first fetch."""
        return time.monotonic() - self._fetched_at if self._fetched_at else None

    @property
    def known(self) -> bool:
        """Whether every list was fetched once, in this process or an earlier one, or has failed in this one."""
        return self.fetched is not None and not (self.fetched.last_known and self.fetched.failures)

    @property
    def private(self) -> frozenset[Kind]:
        """The lists that are fetched separately for each principal."""
        return frozenset() if self.fetched is None else self.fetched.private

    @property
    def expired(self) -> bool:
        """Whether the gateway's own lists are due to be fetched again."""
        fetched = self.fetched
        return fetched is not None and self.is_expired(fetched, self._fetched_at)

    def is_expired(self, fetched: FetchedLists, fetched_at: float) -> bool:
        """Whether lists fetched at that time are due again.

        Lists without a lifetime or change announcements expire after one health-check interval.
        """
        age, ttl_ms = time.monotonic() - fetched_at, fetched.ttl_ms
        if ttl_ms:
            return age * 1000 >= ttl_ms
        capabilities = self.info.capabilities if self.info is not None else {}
        announced = any(isinstance(part, dict) and part.get("listChanged") for part in capabilities.values())
        return not announced and age >= self._config.health_check_interval

    def per_principal(self) -> None:
        """Publish that all lists are private: the server does not serve the gateway itself."""
        if self.fetched is None or not _is_refused(self.fetched):
            self.changes += 1
            self._publish(FetchedLists(dict.fromkeys(LIST_METHODS, ()), _ALL_PRIVATE))
        self.behind = False
        self._refused = True

    def changed(self) -> None:
        """Record an event after which private lists may differ."""
        self.changes += 1

    @property
    def retry_due(self) -> bool:
        """Whether a failed list is due to be fetched again."""
        return self._retries.due

    async def fetch(self, connection: Connection, *, again: bool = False) -> None:
        """Fetch the gateway's own copy of all lists. `again`: skip failed ones that are not due yet.

        Returns when all lists are done, or when some are and the others are slow; slow ones are published on arrival.
        Raises `DeliveryError` if the connection is lost or no list gets an answer; then the last lists stay.
        """
        info, number = connection.info, next(self._numbers)
        assert info is not None
        if not again:
            self.fatal.connected(info)
        kinds, skipped = gathering.announced(info), self.fatal.skipped
        asked = kinds - skipped - (self._retries.waiting if again else frozenset())
        for kind in asked:
            if kind in self._late:
                self._late.pop(kind).cancel()
        requests = self.fatal.requests([kind for kind in LIST_METHODS if kind in asked])
        name, wanted, timeout = self._config.name, self._config.tools, self._config.start_timeout
        tasks = gathering.start(
            name, connection.request, info, requests, wanted=wanted, timeout=timeout, account=self._account
        )
        try:
            outcomes = await gathering.first_ones(tasks, gathering.SIDE_PATIENCE)
            if connection.closed:
                raise await self.fatal.lost(connection, outcomes, requests)
            self._check(outcomes, tasks)
        except BaseException:
            gathering.cancel(tasks)
            self.behind = True
            raise
        self.behind = self._refused = False
        self._forget_another(info)
        self.info = info
        if self.fetched is not None and self.fetched.items.keys() - kinds:
            self.fetched = self.fetched.only(kinds)
        self._take(outcomes, number)
        for kind in tasks.keys() - outcomes.keys():
            self._take_later(kind, tasks[kind], number, connection, requests)
        self._publish(self.fatal.marked(self.fetched or FetchedLists(), skipped & kinds))
        self._compare()
        if len(outcomes) == len(tasks):
            self.fatal.answered(requests)

    def _forget_another(self, info: ServerInfo) -> None:
        """Forget the lists of an earlier process if they are those of another version of the server."""
        if self.of_earlier_process and self.info is not None:
            if (self.info.name, self.info.version) != (info.name, info.version):
                self.fetched = None
            self.of_earlier_process = False

    def _check(self, outcomes: Mapping[Kind, Outcome], tasks: Tasks) -> None:
        """Raise the error of a list if no list got an answer: then the server failed, not only the list."""
        failures = [found for found in outcomes.values() if isinstance(found, Failure)]
        if failures and len(failures) == len(tasks) and not any(failure.answered for failure in failures):
            raise failures[0].error

    def _take(self, outcomes: Mapping[Kind, Outcome], number: int) -> None:
        """Publish the outcomes of a fetch, except for lists that a newer fetch has determined."""
        before = self.fetched or FetchedLists()
        fetched = before
        for kind, outcome in outcomes.items():
            if number < self._fetched_by.get(kind, 0):
                continue
            self._fetched_by[kind] = number
            if isinstance(outcome, Failure):
                reason = self._concealer.hide(outcome.reason)
                fetched = self._failed(fetched, kind, reason, self._retries.failed(kind))
            else:
                self._retries.succeeded(kind)
                # In a legacy server's answer, members with these names are not cache hints.
                fetched = fetched.with_list(kind, outcome, hinted=self.info is not None and self.info.era == "modern")
        if self.fetched is not None:
            fetched = fetched.sharing(self.fetched)
            self.changes += fetched.private != before.private
        self._fetched_at = time.monotonic()
        self._publish(fetched)

    def _publish(self, fetched: FetchedLists) -> None:
        """Publish these lists, and log their new warnings."""
        known = frozenset() if self.fetched is None else frozenset(self.fetched.warnings)
        self.fetched = fetched
        for warning in fetched.warnings:
            if warning not in known:
                logger.bind(upstream=self._config.name).warning("{}", warning)
        if self._keeps:
            self._kept.keep(self._config, self.info, fetched)

    def keep(self, keeps: bool) -> None:
        """Keep and compare the present lists and those that are fetched from now on, or none: the configuration of the
        upstream is not in force."""
        self._keeps = keeps
        if keeps and self.fetched is not None:
            self._kept.keep(self._config, self.info, self.fetched)
            self._compare()

    def _compare(self) -> None:
        """Report lists that may differ from those that were fetched before."""
        if self.fetched is None or self.info is None or self._refused or not self._keeps:
            return
        complete, known = self._complete(self.fetched, self.info), self._compared
        differing = [kind for kind, found in complete.items() if kind in known and found is not known[kind]]
        self._compared = known | complete
        if differing:
            before, after = ({kind: lists[kind] for kind in differing} for lists in (known, complete))
            self._events.lists_differ(self._config.name, before, after)

    @staticmethod
    def _complete(lists: FetchedLists, info: ServerInfo) -> dict[Kind, tuple[Item, ...]]:
        """The lists whose last fetch did not fail, and those that the server does not announce, which are empty."""
        known = (lists.items.keys() - lists.failures.keys()) | (LIST_METHODS.keys() - gathering.announced(info))
        return {kind: lists.of(kind) for kind in known}

    def _failed(self, fetched: FetchedLists, kind: Kind, reason: str, retry_in: float | None) -> FetchedLists:
        if retry_in is not None:
            logger.bind(upstream=self._config.name).info(
                "{} of upstream {} is asked for again in {:.0f} s or later",
                LIST_METHODS[kind],
                self._config.name,
                retry_in,
            )
        return fetched.with_failure(kind, fetched.report(self._config.name, kind, "failed", reason))

    def _take_later(
        self, kind: Kind, task: asyncio.Task[Outcome], number: int, connection: Connection, requests: ListRequests
    ) -> None:
        """Publish a slow list as failed for now, and wait for it in the background."""
        assert self.fetched is not None
        self.fetched = self._failed(self.fetched, kind, "no answer yet", None)

        async def finish() -> None:
            outcome = await task
            if connection.closed:
                await self.fatal.lost(connection, {kind: outcome}, requests)
            self._take({kind: outcome}, number)
            self._compare()
            self._events.lists_changed()

        late = self._late[kind] = asyncio.create_task(finish(), name=f"late {task.get_name()}")
        self._tasks.add(late)

        def ended(_: asyncio.Task[None]) -> None:
            self._tasks.discard(late)
            if self._late.get(kind) is late:
                del self._late[kind]

        late.add_done_callback(ended)

    async def close(self) -> None:
        """Cancel all fetches in progress, and wait for them."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)


def _is_refused(lists: FetchedLists) -> bool:
    """Whether `PublishedLists.per_principal` published these lists, in this process or an earlier one."""
    return lists.hints == _ALL_PRIVATE and not any(lists.items.values())


def _counted(lists: FetchedLists, account: Account) -> FetchedLists | None:
    """The lists, counted like fetched ones; None if there is no room for them."""
    holdings: dict[Kind, Holding | None] = {}
    for kind, found in lists.items.items():
        holding = holdings[kind] = account.holding()
        if not holding.resize(sum(len(item.raw) for item in found) * COPIES + len(found) * ENTRY_MEMORY):
            return None
    return replace(lists, holdings=holdings)
