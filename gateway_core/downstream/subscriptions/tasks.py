"""The tasks whose status one subscription tells, by the ids that its agent knows.

What an upstream says by itself about a task is what it would have answered to `tasks/get`. So it takes the way of such
an answer: a `tasks/get` of the agent goes through the pipeline, with the answer in hand. Plugins see and change it,
and a status that is not of the agent's own task ends there. Only where something may have been missed, because
nobody listened to the upstream for a while, the upstream is asked.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, Final, Protocol

from loguru import logger
from msgspec import Raw

from gateway_core.api import CallResult
from gateway_core.catalog import Catalog
from gateway_core.errors import DeliveryError, RpcError
from gateway_core.exchange.exchange import Agent, Exchange
from gateway_core.mcp import jsonrpc
from gateway_core.mcp.names import TASK_ID
from gateway_core.upstream.notifications.follows import Follower
from gateway_core.upstream.upstream import Upstream

MAX_FOLLOWED: Final = 256
"""Tasks that one listen request may name."""
MAX_WAITING: Final = 256
MAX_BYTES: Final = 4 * 1024 * 1024
"""What may wait for the pipeline at a time; of more, the oldest is left out."""
_GET: Final = "tasks/get"


class Ask(Protocol):
    """`Services.call`."""

    def __call__(
        self, exchange: Exchange, params: Mapping[str, Raw], answer: CallResult | None = None
    ) -> Coroutine[Any, Any, CallResult]: ...


class Followed:
    """The tasks of one subscription; `close` is due."""

    def __init__(self, catalog: Catalog, agent: Agent, call: Ask, tell: Callable[[dict[str, Raw]], None]) -> None:
        """`tell` gets the members of a task, as `tasks/get` would have answered."""
        self._catalog = catalog
        self._agent = agent
        self._call = call
        self._tell = tell
        self._followers: list[Follower] = []
        self._waiting: deque[tuple[str, str, bytes]] = deque()
        """The agent's id of a task, the upstream, and what it says of the task; nothing: it is to be asked."""
        self._bytes = 0
        self._worker: asyncio.Task[None] | None = None
        self._begun = self._closed = False

    async def add(self, task_ids: Sequence[str]) -> list[str]:
        """Follow tasks; those of them that are followed then. Others are not the agent's, or their upstream is away or
        tells nothing of them."""
        wanted: dict[Upstream, dict[str, str]] = {}
        for task_id in task_ids:
            target = self._catalog.tasks.find(self._agent.principal, task_id)
            if target is not None:
                wanted.setdefault(target.upstreams[0], {}).setdefault(target.original, task_id)
        accepted = await asyncio.gather(*(self._follow(upstream, ids) for upstream, ids in wanted.items()))
        known = frozenset[str]().union(*accepted)
        return [task_id for task_id in task_ids if task_id in known]

    async def _follow(self, upstream: Upstream, ids: dict[str, str]) -> frozenset[str]:
        """Follow tasks of one upstream; `ids`: its own -> the agent's."""

        def told(own: str, status: Raw | None) -> None:
            self._put(ids[own], upstream.name, b"" if status is None else bytes(status))

        try:
            follower = await upstream.follow(self._agent, frozenset(ids), told)
        except (DeliveryError, RpcError) as problem:
            logger.bind(upstream=upstream.name).debug("tells nothing of tasks: {}", problem)
            return frozenset()
        if self._closed:
            follower.close()
        self._followers.append(follower)
        return frozenset(ids[own] for own in follower.accepted)

    def begin(self) -> None:
        """The agent has been told what is followed: pass on what has been said of it, and will be."""
        self._begun = True
        self._work()

    def close(self) -> None:
        """Follow nothing any more."""
        self._closed = True
        for follower in self._followers:
            follower.close()
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
        """One after the other, so that they arrive in order."""
        while self._waiting:
            task_id, upstream, status = self._waiting.popleft()
            self._bytes -= len(status)
            answer = CallResult(raw=status, upstream=upstream, era="modern") if status else None
            exchange = Exchange(self._agent, _GET)
            result = await self._call(exchange, {TASK_ID: Raw(jsonrpc.encode(task_id))}, answer)
            if result.error is None:
                self._tell(jsonrpc.members(result.raw))
