"""The tasks whose status one subscription announces, by the ids that its agent knows.

A status notification of an upstream has the content of an answer to `tasks/get`. It therefore goes through the
pipeline as the answer to a `tasks/get` of the agent. Plugins see and change it, and the pipeline rejects the status of
a task that is not the agent's. The upstream is only asked if notifications may have been missed.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Final

from loguru import logger
from msgspec import Raw

from gateway_core.api import CallResult
from gateway_core.background import Background
from gateway_core.catalog.current import CurrentCatalog
from gateway_core.downstream.subscriptions.asking import Ask
from gateway_core.errors import DeliveryError, RpcError
from gateway_core.exchange.exchange import Agent, Exchange
from gateway_core.mcp import jsonrpc
from gateway_core.mcp.names import TASK_ID
from gateway_core.upstream.notifications.follows import Follower
from gateway_core.upstream.upstream import Upstream

MAX_FOLLOWED: Final = 256
"""Maximum number of tasks in one listen request."""
MAX_WAITING: Final = 256
MAX_BYTES: Final = 4 * 1024 * 1024
"""Bounds of the statuses that wait for the pipeline; above them the oldest is dropped."""
_GET: Final = "tasks/get"


class Followed:
    """The tasks of one subscription. The owner must call `close`."""

    def __init__(
        self, catalog: CurrentCatalog, agent: Agent, call: Ask, tell: Callable[[dict[str, Raw]], None]
    ) -> None:
        """`tell` is called with the members of a task, in the form of an answer to `tasks/get`."""
        self._catalog = catalog
        self._agent = agent
        self._call = call
        self._tell = tell
        self._followers: list[tuple[Upstream, dict[str, str], Follower]] = []
        """The upstream, the agent's ids of its tasks by its own, and what ends it."""
        self._moving = Background("following tasks again")
        self._waiting: deque[tuple[str, str, bytes]] = deque()
        """The agent's task id, the upstream's name, and the status; an empty status means: ask the upstream."""
        self._bytes = 0
        self._worker: asyncio.Task[None] | None = None
        self._begun = self._closed = False

    async def add(self, task_ids: Sequence[str]) -> list[str]:
        """Follow tasks; returns the ids of the followed ones.

        The others are not the agent's, or their upstream is unavailable or announces no status.
        """
        wanted: dict[Upstream, dict[str, str]] = {}
        for task_id in task_ids:
            target = self._catalog.tasks.find(self._agent, task_id)
            if target is not None:
                wanted.setdefault(target.upstreams[0], {}).setdefault(target.original, task_id)
        accepted = await asyncio.gather(*(self._follow(upstream, ids) for upstream, ids in wanted.items()))
        known = frozenset[str]().union(*accepted)
        return [task_id for task_id in task_ids if task_id in known]

    async def _follow(self, upstream: Upstream, ids: dict[str, str]) -> frozenset[str]:
        """Follow tasks of one upstream; returns the agent's ids of those accepted. `ids`: upstream's id -> agent's."""

        def on_status(own: str, status: Raw | None) -> None:
            self._put(ids[own], upstream.name, b"" if status is None else bytes(status))

        try:
            follower = await upstream.follow(self._agent, frozenset(ids), on_status)
        except (DeliveryError, RpcError) as problem:
            logger.bind(upstream=upstream.name).debug("tells nothing of tasks: {}", problem)
            return frozenset()
        if self._closed:
            follower.close()
        self._followers.append((upstream, ids, follower))
        return frozenset(ids[own] for own in follower.accepted)

    def reconsider(self, gone: Collection[Upstream]) -> None:
        """Follow the tasks of replaced upstreams where the catalog has them now."""
        lost = [it for it in self._followers if it[0] in gone]
        self._followers = [it for it in self._followers if it[0] not in gone]
        for _, ids, follower in lost:
            follower.close()
            self._moving.run(partial(self._move, list(ids.values())))

    async def _move(self, task_ids: Sequence[str]) -> None:
        """Follow tasks again, and ask for their status, which may have changed meanwhile."""
        for task_id in await self.add(task_ids):
            self._put(task_id, "", b"")

    def begin(self) -> None:
        """Start to announce statuses, including earlier ones, once the acknowledgement is queued."""
        self._begun = True
        self._work()

    def close(self) -> None:
        """Stop following all tasks."""
        self._closed = True
        for _, _, follower in self._followers:
            follower.close()
        self._moving.cancel()
        self._waiting.clear()
        if self._worker is not None:
            self._worker.cancel()

    def _put(self, task_id: str, upstream: str, status: bytes) -> None:
        if self._closed:
            return
        self._waiting.append((task_id, upstream, status))
        self._bytes += len(status)
        while len(self._waiting) > MAX_WAITING or (self._bytes > MAX_BYTES and len(self._waiting) > 1):
            self._bytes -= len(self._waiting.popleft()[2])
        self._work()

    def _work(self) -> None:
        if self._begun and self._waiting and (self._worker is None or self._worker.done()):
            self._worker = asyncio.get_running_loop().create_task(self._pass_on(), name="pass the status of tasks on")

    async def _pass_on(self) -> None:
        """Pass statuses through the pipeline one at a time, to keep their order."""
        while self._waiting:
            task_id, upstream, status = self._waiting.popleft()
            self._bytes -= len(status)
            answer = CallResult(raw=status, upstream=upstream, era="modern") if status else None
            exchange = Exchange(self._agent, _GET)
            result = await self._call(exchange, {TASK_ID: Raw(jsonrpc.encode(task_id))}, answer)
            if result.error is None:
                self._tell(jsonrpc.members(result.raw))
