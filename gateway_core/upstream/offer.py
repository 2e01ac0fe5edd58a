"""What one upstream offers: as the gateway was told, and, where its lists are private, as each principal was.

A modern server marks each list. A *public* one is the same for everybody: the gateway's own copy is served. A
*private* one is fetched for every principal that asks, in its name and with its capabilities, and shown to no other
(server/utilities/caching, Cache Scope Field). Legacy servers mark nothing: their lists are shared.

Fetches are numbered in the order in which they begin, and what an older one brings never replaces what a newer one
did: a list may change while it is being fetched.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from loguru import logger

from gateway_core.config import UpstreamConfig
from gateway_core.errors import DeliveryError, RpcError
from gateway_core.exchange import Agent, Exchange
from gateway_core.types import Kind
from gateway_core.upstream.base import Connection, ServerInfo
from gateway_core.upstream.inventory import Inventory, fetch
from gateway_core.upstream.requests import Reply, Request

MAX_PRINCIPALS: Final = 256
"""Principals whose private lists are kept; past it those that were asked for least recently go."""
PATIENCE: Final = 3.0
"""Seconds that an agent waits for its private lists; then it gets what it got last."""
FETCH_TIMEOUT: Final = 15.0
"""Seconds that fetching them may take: what comes too late for one request is there for the next."""

Ask = Callable[[Exchange, str, Mapping[str, Any]], Awaitable[Reply]]


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """The private lists of one principal."""

    inventory: Inventory | None
    """None when they were asked for in vain."""
    changes: int
    """`Offer.changes` when they were asked for."""
    number: int
    fetched_at: float


@dataclass(frozen=True, slots=True)
class _Run:
    """A fetch of private lists that is under way."""

    task: asyncio.Task[None]
    changes: int
    started: float


class Offer:
    """The lists of one upstream. `ask` delivers a request in an agent's name."""

    def __init__(self, config: UpstreamConfig, ask: Ask) -> None:
        self.inventory: Inventory | None = None
        """What the gateway itself was offered when it last asked."""
        self.behind = False
        """Whether the last attempt to ask again has failed."""
        self.changes = 0
        """How often private lists may have changed: each time the server says so, or is connected to."""
        self._config = config
        self._ask = ask
        self._info: ServerInfo | None = None
        self._fetched_at = 0.0
        self._numbers = itertools.count(1)
        self._number = 0
        self._parts: dict[str, Part] = {}
        self.on_part: Callable[[str], None] = lambda principal: None
        """Told that `part` of a principal is another one now."""
        self._running: dict[str, _Run] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def age(self) -> float | None:
        """Seconds since the gateway's own lists were fetched; None before the first time."""
        return None if self.inventory is None else time.monotonic() - self._fetched_at

    @property
    def private(self) -> frozenset[Kind]:
        """The lists that belong to each principal for itself."""
        return frozenset() if self.inventory is None else self.inventory.private

    @property
    def expired(self) -> bool:
        """Whether the gateway's own lists are due to be fetched again."""
        return self.inventory is not None and self._expired(self.inventory, self._fetched_at)

    def _expired(self, inventory: Inventory, fetched_at: float) -> bool:
        """A server that gives no lifetime and announces no changes is asked again after each health-check interval."""
        age = time.monotonic() - fetched_at
        if inventory.ttl_ms > 0:
            return age * 1000 >= inventory.ttl_ms
        capabilities = self._info.capabilities if self._info is not None else {}
        announced = any(isinstance(part, dict) and part.get("listChanged") for part in capabilities.values())
        return not announced and age >= self._config.health_check_interval

    async def fetch(self, connection: Connection) -> None:
        """Fetch the gateway's own copy of all lists. Raises as `inventory.fetch` does; then the last ones stay."""
        info, number = connection.info, next(self._numbers)
        assert info is not None
        try:
            inventory = await fetch(self._config.name, connection.request, info, self._config.tools)
        except BaseException:
            self.behind = True
            raise
        if number < self._number:
            return
        if self.inventory is not None:
            inventory = inventory.sharing(self.inventory)
            self.changes += inventory.private != self.private
        self.inventory, self.behind, self._info = inventory, False, info
        self._number, self._fetched_at = number, time.monotonic()
        for warning in inventory.warnings:
            logger.warning("{}", warning)

    # -- private lists ------------------------------------------------------------------------------------------

    def part(self, principal: str) -> Part | None:
        """What a principal got last; None before it got anything."""
        return self._parts.get(principal)

    def tools_for(self, principal: str) -> Inventory | None:
        """The inventory that has the tools that a principal knows."""
        part = self._parts.get(principal)
        own = part.inventory if part is not None else None
        return own if own is not None and "tool" in own.items else self.inventory

    def param_headers(self, exchange: Exchange, request: Request) -> dict[str, str] | None:
        """The `Mcp-Param-*` headers of a `tools/call`; see `Inventory.param_headers`."""
        tools = self.tools_for(exchange.agent.principal.id)
        return None if tools is None else tools.param_headers(request.members, exchange.headers or ())

    def due(self, principal: str, *, listing: bool) -> bool:
        """Whether its private lists are to be fetched now: for a call only if they never were."""
        part = self._parts.pop(principal, None)
        if part is None:
            return True
        self._parts[principal] = part  # again at the end: the order of use, for the bound
        if not listing:
            return False
        if part.inventory is None or part.changes != self.changes:
            return True
        return self._expired(part.inventory, part.fetched_at)

    async def renew(self, agent: Agent) -> None:
        """Fetch the private lists of the agent's principal.

        Waits `PATIENCE` seconds from the beginning of the fetch at most; whatever comes of it, `part` tells.
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
        assert self.inventory is not None, "only lists that are known can be private"
        principal = agent.principal.id
        inventory = None
        try:
            async with asyncio.timeout(FETCH_TIMEOUT):
                inventory = await fetch(self._config.name, send, self._info, self._config.tools, self.private)
        except (DeliveryError, RpcError, TimeoutError) as problem:
            logger.bind(upstream=self._config.name, agent=principal).info(
                "private lists of upstream {} could not be fetched, the last known ones stay: {}",
                self._config.name,
                str(problem) or "timed out",
            )
        known = self._parts.pop(principal, None)
        if known is None or (inventory is not None and known.number < number):
            own = inventory.sharing(self.inventory) if inventory is not None else None
            known = Part(own, changes, number, time.monotonic())
        self._parts[principal] = known
        self.on_part(principal)
        while len(self._parts) > MAX_PRINCIPALS:
            forgotten = next(iter(self._parts))
            del self._parts[forgotten]
            self.on_part(forgotten)

    async def close(self) -> None:
        """End the fetches that are under way."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
