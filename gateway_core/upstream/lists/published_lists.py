"""The published lists of one upstream: the gateway's own copy, and the private lists of each principal.

A modern server marks each list. A *public* one is the same for all callers: agents get the gateway's copy. A
*private* one is fetched for each principal that asks, in its name and with its capabilities. It is never served to
another (server/utilities/caching, Cache Scope Field). Legacy servers mark nothing: their lists are shared.

Lists are independent: one that fails keeps its last known entries, is reported, and is fetched again with backoff,
while the others are published.

Fetches are numbered in the order in which they start. An older one never replaces the result of a newer one, because
a list may change while it is being fetched.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from loguru import logger

from gateway_core.api import Kind
from gateway_core.config import UpstreamConfig
from gateway_core.exchange.exchange import Agent, Exchange
from gateway_core.upstream.base import Connection, ServerInfo
from gateway_core.upstream.concealing import Concealer
from gateway_core.upstream.lists import gathering
from gateway_core.upstream.lists.fatal import FatalLists
from gateway_core.upstream.lists.fetched_lists import LIST_METHODS, FetchedLists
from gateway_core.upstream.lists.gathering import Failure, ListRequests, ListRetries, Outcome, Tasks
from gateway_core.upstream.requests import Reply, Request
from gateway_core.upstream.status import NO_EVENTS, SYSTEM_CLOCK, Clock, UpstreamEvents

MAX_PRINCIPALS: Final = 256
"""Principals whose private lists are kept; beyond this, the least recently used are dropped."""
MAX_FETCHES: Final = 8
"""Principals whose private lists are fetched concurrently, up to four requests each; leaves capacity for calls."""
PATIENCE: Final = 3.0
"""Seconds that an agent waits for its private lists; then it gets the last known ones."""
FETCH_TIMEOUT: Final = 15.0
"""Seconds for fetching private lists: a late result still serves the next request."""


Ask = Callable[[Exchange, str, Mapping[str, Any]], Awaitable[Reply]]


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """The private lists of one principal."""

    fetched: FetchedLists | None
    """None if the fetch failed."""
    changes: int
    """`PublishedLists.changes` at the start of the fetch."""
    number: int
    fetched_at: float


@dataclass(frozen=True, slots=True)
class _Run:
    """A fetch of private lists in progress."""

    task: asyncio.Task[None]
    changes: int
    started: float


class PublishedLists:
    """The published lists of one upstream. `ask` delivers a request in an agent's name."""

    def __init__(
        self, config: UpstreamConfig, ask: Ask, events: UpstreamEvents = NO_EVENTS, clock: Clock = SYSTEM_CLOCK
    ) -> None:
        self.fetched: FetchedLists | None = None
        """The gateway's own copy of the lists."""
        self.behind = False
        """Whether the last fetch failed as a whole."""
        self.changes = 0
        """Number of events after which private lists may differ: `list_changed`, connects, changes of cache scope."""
        self._config = config
        self._concealer = Concealer.of(config)
        self._ask = ask
        self._events = events
        self._info: ServerInfo | None = None
        self._fetched_at = 0.0
        self._numbers = itertools.count(1)
        self._fetched_by: dict[Kind, int] = {}
        """The number of the fetch that last determined each list, by success or failure."""
        self._retries = ListRetries()
        self.fatal: Final = FatalLists(config.name, self._concealer.hide, clock.now)
        self._late: dict[Kind, asyncio.Task[None]] = {}
        """Fetches still in progress whose lists were published as failed."""
        self._parts: dict[str, Part] = {}
        self._running: dict[str, _Run] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._turns = asyncio.Semaphore(MAX_FETCHES)

    @property
    def age(self) -> float | None:
        """Seconds since the gateway's own lists were last fetched; None before the first fetch."""
        return None if self.fetched is None else time.monotonic() - self._fetched_at

    @property
    def private(self) -> frozenset[Kind]:
        """The lists that are fetched separately for each principal."""
        return frozenset() if self.fetched is None else self.fetched.private

    @property
    def expired(self) -> bool:
        """Whether the gateway's own lists are due to be fetched again."""
        return self.fetched is not None and self._expired(self.fetched, self._fetched_at)

    def _expired(self, fetched: FetchedLists, fetched_at: float) -> bool:
        """Lists without a lifetime or change announcements expire after one health-check interval."""
        age = time.monotonic() - fetched_at
        if fetched.ttl_ms > 0:
            return age * 1000 >= fetched.ttl_ms
        capabilities = self._info.capabilities if self._info is not None else {}
        announced = any(isinstance(part, dict) and part.get("listChanged") for part in capabilities.values())
        return not announced and age >= self._config.health_check_interval

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
        tasks = gathering.start(name, connection.request, info, requests, wanted=wanted, timeout=timeout)
        try:
            outcomes = await gathering.first_ones(tasks, gathering.SIDE_PATIENCE)
            if connection.closed:
                raise await self.fatal.lost(connection, outcomes, requests)
            self._check(outcomes, tasks)
        except BaseException:
            gathering.cancel(tasks)
            self.behind = True
            raise
        self.behind, self._info = False, info
        if self.fetched is not None and self.fetched.items.keys() - kinds:
            self.fetched = self.fetched.only(kinds)
        self._take(outcomes, number)
        for kind in tasks.keys() - outcomes.keys():
            self._take_later(kind, tasks[kind], number, connection, requests)
        self._publish(self.fatal.marked(self.fetched or FetchedLists(), skipped & kinds))
        if len(outcomes) == len(tasks):
            self.fatal.answered(requests)

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
                fetched = fetched.with_list(kind, outcome, hinted=self._info is not None and self._info.era == "modern")
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
            self._events.lists_changed()

        late = self._late[kind] = asyncio.create_task(finish(), name=f"late {task.get_name()}")
        self._tasks.add(late)

        def ended(_: asyncio.Task[None]) -> None:
            self._tasks.discard(late)
            if self._late.get(kind) is late:
                del self._late[kind]

        late.add_done_callback(ended)

    # -- private lists ------------------------------------------------------------------------------------------

    def part(self, principal: str) -> Part | None:
        """A principal's last private lists; None before the first fetch."""
        return self._parts.get(principal)

    def tools_for(self, principal: str) -> FetchedLists | None:
        """The fetched lists with the tools that a principal sees."""
        part = self._parts.get(principal)
        own = part.fetched if part is not None else None
        return own if own is not None and "tool" in own.items else self.fetched

    def param_headers(self, exchange: Exchange, request: Request) -> dict[str, str] | None:
        """The `Mcp-Param-*` headers of a `tools/call`; see `FetchedLists.param_headers`."""
        tools = self.tools_for(exchange.agent.principal.id)
        return None if tools is None else tools.param_headers(request.members, exchange.headers or ())

    def due(self, principal: str, *, listing: bool) -> bool:
        """Whether a principal's private lists must be fetched now; for a call, only if they never were."""
        part = self._parts.pop(principal, None)
        if part is None:
            return True
        self._parts[principal] = part  # again at the end: the order of use, for the bound
        if not listing:
            return False
        if part.fetched is None or part.fetched.failures or part.changes != self.changes:
            return True
        return self._expired(part.fetched, part.fetched_at)

    async def renew(self, agent: Agent) -> None:
        """Fetch the private lists of the agent's principal.

        Waits at most `PATIENCE` seconds from the start of the fetch. `part` has the result.
        """
        principal = agent.principal.id
        run = self._running.get(principal)
        if run is None or run.changes != self.changes:
            if len(self._tasks) >= MAX_PRINCIPALS:
                return
            run = self._start(agent)
        await asyncio.wait([run.task], timeout=max(run.started + PATIENCE - time.monotonic(), 0.0))

    def _start(self, agent: Agent) -> _Run:
        principal = agent.principal.id
        fetching = self._fetch_for(agent, self.changes, next(self._numbers))
        task = asyncio.create_task(fetching, name=f"lists of {self._config.name}")
        run = self._running[principal] = _Run(task, self.changes, time.monotonic())
        self._tasks.add(task)

        def ended(_: asyncio.Task[None]) -> None:
            self._tasks.discard(task)
            if self._running.get(principal) is run:
                del self._running[principal]

        task.add_done_callback(ended)
        return run

    async def _fetch_for(self, agent: Agent, changes: int, number: int) -> None:
        async def send(method: str, params: Mapping[str, Any]) -> Reply:
            return await self._ask(Exchange(agent, method), method, params)

        assert self._info is not None
        assert self.fetched is not None, "only lists that are known can be private"
        principal = agent.principal.id
        kinds = self.private - self.fetched.failures.keys()  # a list that fails for the gateway is skipped
        name, wanted = self._config.name, self._config.tools
        async with self._turns:
            tasks = gathering.start(name, send, self._info, ListRequests(kinds), wanted=wanted, timeout=FETCH_TIMEOUT)
            outcomes = await gathering.first_ones(tasks, FETCH_TIMEOUT)
            gathering.cancel(tasks)
        known = self._parts.pop(principal, None)
        if known is None or known.number < number:
            own = self._own_lists(known.fetched if known is not None else None, outcomes, principal)
            if own is not None or known is None:
                known = Part(own, changes, number, time.monotonic())
        self._parts[principal] = known
        self._events.private_lists_changed(principal)
        while len(self._parts) > MAX_PRINCIPALS:
            forgotten = next(iter(self._parts))
            del self._parts[forgotten]
            self._events.private_lists_changed(forgotten)

    def _own_lists(
        self, known: FetchedLists | None, outcomes: Mapping[Kind, Outcome], principal: str
    ) -> FetchedLists | None:
        """The private lists of a principal after a fetch; None if every list failed."""
        assert self.fetched is not None
        own = (known or FetchedLists()).only(self.private)
        for kind in self.private & self.fetched.failures.keys():
            own = own.with_failure(kind, self.fetched.failures[kind])
        for kind, outcome in outcomes.items():
            if isinstance(outcome, Failure):
                own = own.with_failure(kind, outcome.reason)
                logger.bind(upstream=self._config.name, agent=principal).info(
                    "private {} of upstream {} could not be fetched, what was last known stays: {}",
                    LIST_METHODS[kind],
                    self._config.name,
                    outcome.reason,
                )
            else:
                own = own.with_list(kind, outcome, hinted=True)
        if outcomes and all(isinstance(outcome, Failure) for outcome in outcomes.values()):
            return None
        return own.sharing(self.fetched)

    async def close(self) -> None:
        """Cancel all fetches in progress, and wait for them."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
