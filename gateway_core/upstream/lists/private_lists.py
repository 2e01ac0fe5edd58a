"""The private lists of each principal at one upstream.

A modern server marks each list. A *public* one is the same for all callers: agents get the gateway's copy. A
*private* one is fetched for each principal that asks, in its name and with its capabilities, and never served to
another (server/utilities/caching, Cache Scope Field). Legacy servers mark nothing: their lists are shared.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

import msgspec
from loguru import logger

from gateway_core.api import Kind
from gateway_core.config import UpstreamConfig
from gateway_core.errors import DeliveryError, RpcError, UserLoginNeeded, drop_traceback
from gateway_core.exchange.exchange import Agent, Exchange
from gateway_core.limits.accounts import UNCOUNTED, Account
from gateway_core.upstream.base import ServerInfo
from gateway_core.upstream.lists import gathering
from gateway_core.upstream.lists.fetched_lists import LIST_METHODS, FetchedLists
from gateway_core.upstream.lists.gathering import Failure, ListRequests, Outcome
from gateway_core.upstream.lists.published_lists import PublishedLists
from gateway_core.upstream.requests import Reply, Request
from gateway_core.upstream.status import NO_EVENTS, PrivateTo, UpstreamEvents

MAX_PRINCIPALS: Final = 256
"""Principals whose private lists are kept; beyond this, the least recently used are dropped."""
MAX_FETCHES: Final = 8
"""Principals whose private lists are fetched concurrently, up to four requests each; leaves capacity for calls."""
PATIENCE: Final = 3.0
"""Seconds that an agent waits for its private lists; then it gets the last known ones."""
FETCH_TIMEOUT: Final = 15.0
"""Seconds for fetching private lists: a late result still serves the next request."""


_CALLED: Final[tuple[Kind, ...]] = ("tool", "prompt")
"""The lists whose changes are reported. Resources are often data of their user."""

Ask = Callable[[Exchange, Request], Awaitable[Reply]]


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """The private lists of one principal."""

    fetched: FetchedLists | None
    """None if the fetch failed."""
    changes: int
    """`PublishedLists.changes` at the start of the fetch."""
    number: int
    fetched_at: float


class _Run(msgspec.Struct, frozen=True):
    """A fetch of private lists in progress."""

    task: asyncio.Task[None]
    changes: int
    started: float


class PrivateLists:
    """The private lists of one upstream, by principal. `ask` delivers a request in an agent's name."""

    def __init__(
        self,
        config: UpstreamConfig,
        published: PublishedLists,
        ask: Ask,
        events: UpstreamEvents = NO_EVENTS,
        account: Account = UNCOUNTED,
        *,
        info_for: Callable[[Agent], Awaitable[ServerInfo]],
        without_login: Callable[[FetchedLists], FetchedLists] = lambda shared: shared,
        hide: Callable[[Agent, str], str] = lambda agent, text: text,
    ) -> None:
        """`account` counts the lists. Where there is no room for one, the least recently used are dropped.

        `info_for`: what the server says of itself to an agent. `without_login`: the lists of a principal that has to
        log in first, made of the gateway's own. `hide`: hides in a text of the server what it got of an agent.
        """
        self._info_for = info_for
        self._without_login = without_login
        self._hide = hide
        self._account = account
        self._config = config
        self._published = published
        self._ask = ask
        self._events = events
        self._numbers = itertools.count(1)
        """Of the fetches, in the order in which they start."""
        self._parts: dict[str, Part] = {}
        self._running: dict[str, _Run] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._turns = asyncio.Semaphore(MAX_FETCHES)

    def part(self, principal: str) -> Part | None:
        """A principal's last private lists; None before the first fetch."""
        return self._parts.get(principal)

    def tools_for(self, principal: str) -> FetchedLists | None:
        """The fetched lists with the tools that a principal sees."""
        part = self._parts.get(principal)
        own = part.fetched if part is not None else None
        return own if own is not None and "tool" in own.items else self._published.fetched

    def param_headers(self, exchange: Exchange, request: Request) -> dict[str, str] | None:
        """The `Mcp-Param-*` headers of a `tools/call`; see `FetchedLists.param_headers`."""
        tools = self.tools_for(exchange.agent.viewer)
        return None if tools is None else tools.param_headers(request.members, exchange.headers or ())

    def due(self, principal: str, *, listing: bool) -> bool:
        """Whether a principal's private lists must be fetched now; for a call, only if they never were."""
        part = self._parts.pop(principal, None)
        if part is None:
            return True
        self._parts[principal] = part  # again at the end: the order of use, for the bound
        if not listing:
            return False
        if part.fetched is None or part.fetched.failures or part.changes != self._published.changes:
            return True
        return self._published.is_expired(part.fetched, part.fetched_at)

    async def renew(self, agent: Agent) -> None:
        """Fetch the private lists of the agent's principal.

        Waits at most `PATIENCE` seconds from the start of the fetch. `part` has the result.
        """
        principal = agent.viewer
        run = self._running.get(principal)
        if run is None or run.changes != self._published.changes:
            if len(self._tasks) >= MAX_PRINCIPALS:
                return
            run = self._start(agent)
        await asyncio.wait([run.task], timeout=max(run.started + PATIENCE - time.monotonic(), 0.0))

    def _start(self, agent: Agent) -> _Run:
        principal = agent.viewer
        fetching = self._fetch_for(agent, self._published.changes, next(self._numbers))
        task = asyncio.create_task(fetching, name=f"lists of {self._config.name}")
        run = self._running[principal] = _Run(task, self._published.changes, time.monotonic())
        self._tasks.add(task)

        def ended(_: asyncio.Task[None]) -> None:
            self._tasks.discard(task)
            if self._running.get(principal) is run:
                del self._running[principal]

        task.add_done_callback(ended)
        return run

    async def _fetch_for(self, agent: Agent, changes: int, number: int) -> None:
        async def send(method: str, params: Mapping[str, Any]) -> Reply:
            return await self._ask(Exchange(agent, method), Request(method, params))

        shared = self._published.fetched
        assert shared is not None, "only lists that are known can be private"
        principal = agent.viewer
        kinds = shared.private - shared.failures.keys()  # a list that fails for the gateway is skipped
        name, wanted = self._config.name, self._config.tools
        outcomes: Mapping[Kind, Outcome]
        async with self._turns:
            try:
                info = await self._info_for(agent)
            except UserLoginNeeded:
                self._keep(principal, Part(self._without_login(shared), changes, number, time.monotonic()))
                return
            except (DeliveryError, RpcError) as problem:
                outcomes, hinted = dict.fromkeys(kinds, Failure(drop_traceback(problem))), False
            else:
                requests, hinted = ListRequests(kinds & gathering.announced(info)), info.era == "modern"
                tasks = gathering.start(
                    name, send, info, requests, wanted=wanted, timeout=FETCH_TIMEOUT, account=self._account
                )
                outcomes = await gathering.first_ones(tasks, FETCH_TIMEOUT)
                gathering.cancel(tasks)
        known = self._parts.pop(principal, None)
        if any(isinstance(outcome, Failure) and outcome.for_memory for outcome in outcomes.values()):
            self.drop_oldest(1 + len(self._parts) // 4)
        if known is None or known.number < number:
            own = self._own_lists(known.fetched if known is not None else None, outcomes, agent, hinted=hinted)
            if own is not None or known is None:
                if known is not None and known.fetched is not None and own is not None:
                    self._compare(agent, known.fetched, own)
                known = Part(own, changes, number, time.monotonic())
        self._keep(principal, known)

    def _compare(self, agent: Agent, before: FetchedLists, after: FetchedLists) -> None:
        """Report the lists of what a principal can call, if they differ from its earlier lists."""
        differing = [
            kind
            for kind in _CALLED
            if kind in before.items and [it.raw for it in before.of(kind)] != [it.raw for it in after.of(kind)]
        ]
        if differing:
            earlier, later = ({kind: lists.of(kind) for kind in differing} for lists in (before, after))
            private = PrivateTo(agent.viewer, partial(self._hide, agent))
            self._events.lists_differ(self._config.name, earlier, later, private)

    def _keep(self, principal: str, part: Part) -> None:
        self._parts.pop(principal, None)
        self._parts[principal] = part
        self._events.private_lists_changed(principal, False)
        self.drop_oldest(len(self._parts) - MAX_PRINCIPALS)

    def forget(self, principal: str) -> None:
        """Forget the lists of a principal, which has logged in or out, and fetches of them in progress."""
        for viewer in {it for it in (*self._running, *self._parts) if _is_of(it, principal)}:
            run = self._running.pop(viewer, None)
            if run is not None:
                run.task.cancel()
            self._parts.pop(viewer, None)
            self._events.private_lists_changed(viewer, False)
        self._events.private_lists_changed(principal, True)

    def outdated(self, principal: str) -> None:
        """Fetch the lists of a principal again when they are requested: the server announced a change to it alone."""
        for viewer, part in self._parts.items():
            if _is_of(viewer, principal):
                self._parts[viewer] = replace(part, changes=-1)

    def drop_oldest(self, count: int) -> None:
        """Drop the lists of the principals that have not used theirs for longest."""
        for _ in range(min(count, len(self._parts))):
            forgotten = next(iter(self._parts))
            del self._parts[forgotten]
            self._events.private_lists_changed(forgotten, False)

    def _own_lists(
        self, known: FetchedLists | None, outcomes: Mapping[Kind, Outcome], agent: Agent, *, hinted: bool
    ) -> FetchedLists | None:
        """The private lists of a principal after a fetch; None if every list failed. `hinted`: see `with_list`."""
        shared = self._published.fetched
        assert shared is not None
        own = (known or FetchedLists()).only(shared.private)
        for kind in shared.private & shared.failures.keys():
            own = own.with_failure(kind, shared.failures[kind])
        for kind, outcome in outcomes.items():
            if isinstance(outcome, Failure):
                reason = self._hide(agent, outcome.reason)
                own = own.with_failure(kind, reason)
                logger.bind(upstream=self._config.name, agent=agent.viewer).info(
                    "private {} of upstream {} could not be fetched, what was last known stays: {}",
                    LIST_METHODS[kind],
                    self._config.name,
                    reason,
                )
            else:
                own = own.with_list(kind, outcome, hinted=hinted)
        if outcomes and all(isinstance(outcome, Failure) for outcome in outcomes.values()):
            return None
        return own.sharing(shared)

    async def close(self) -> None:
        """Cancel all fetches in progress, and wait for them."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)


def _is_of(viewer: str, principal: str) -> bool:
    """Whether a viewer (`Agent.viewer`) is one of this principal."""
    return viewer == principal or viewer.startswith(f"{principal}#")
