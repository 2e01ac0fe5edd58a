"""Task status subscriptions of agents at one upstream (SEP-2663, Task Status Notifications).

A **follower** is one agent's `subscriptions/listen` for its own tasks, separate from the connection's own request
(`subscription.py`). It declares the agent's capabilities, and its notifications go to that agent only. It reopens when
its stream or its connection ends. Servers do not repeat notifications, so agents must then ask for the status.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Final

from loguru import logger
from msgspec import Raw

from gateway_core.errors import METHOD_NOT_FOUND, DeliveryError, NotSent, RpcError, overloaded
from gateway_core.exchange.exchange import Agent
from gateway_core.internal_errors import where
from gateway_core.mcp import jsonrpc
from gateway_core.mcp.names import TASK_ID, TASK_IDS, TASK_STATUS
from gateway_core.upstream.base import Connection
from gateway_core.upstream.capabilities import for_modern
from gateway_core.upstream.notifications.pauses import Pauses, agreement
from gateway_core.upstream.notifications.subscription import ACKNOWLEDGED, acknowledged
from gateway_core.upstream.request_body import with_meta

FOLLOW_TIMEOUT: Final = 5.0
"""Seconds that an agent waits for the acknowledgement from the upstream."""
MAX_FOLLOWED: Final = 4096
"""Maximum number of followed tasks of one upstream; a task counts once for each agent."""
MAX_FOLLOWERS: Final = 256
"""Maximum number of open listen requests of followers at one upstream; over HTTP each takes a connection."""

Status = Callable[[str, Raw | None], None]
"""Called with the upstream's task id and the params of `notifications/tasks`; None: the status may have changed."""


class Follower:
    """Keeps one agent's listen request to one upstream open until `close`."""

    def __init__(
        self,
        upstream: str,
        agent: Agent,
        task_ids: frozenset[str],
        on_status: Status,
        connect: Callable[[], Awaitable[Connection]],
    ) -> None:
        """`on_status` is called only for those of `task_ids` that the upstream has `accepted`."""
        self.accepted = task_ids
        self.agreed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done at the first acknowledgement; an exception gives the reason if none came."""
        self.wake = asyncio.Event()
        """Set to end the pause before the next attempt."""
        self.task = asyncio.get_running_loop().create_task(self._keep(), name=f"follow tasks of {upstream}")
        self._agent = agent
        self._on_status = on_status
        self._connect = connect

    def close(self) -> None:
        """Cancel the listen request without waiting for the upstream."""
        self.task.cancel()

    async def _keep(self) -> None:
        pauses = Pauses()
        while self.accepted:
            pauses.begin()
            self.wake.clear()
            problem: DeliveryError | RpcError = NotSent("it ended the subscription without an acknowledgement")
            try:
                await self._listen_on(await self._connect())
            except (DeliveryError, RpcError) as failure:
                problem = failure
            if not self.agreed.done():
                self.agreed.set_exception(problem)
                self.agreed.exception()  # the waiting call may have been cancelled; avoids a warning
                return
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pauses.next()):
                    await self.wake.wait()

    async def _listen_on(self, connection: Connection) -> None:
        """Listen until the server ends the subscription or the connection closes."""
        if connection.info is None or connection.info.era != "modern":
            raise RpcError.of_gateway(METHOD_NOT_FOUND, "a server of its era tells nothing of tasks")
        notifications = {"notifications": {TASK_IDS: sorted(self.accepted)}}
        params = with_meta(notifications, connection.info, for_modern(self._agent))
        listening = asyncio.ensure_future(connection.listen(params, self._take))
        closed = asyncio.ensure_future(connection.wait_closed())
        try:
            await asyncio.wait([listening, closed], return_when=asyncio.FIRST_COMPLETED)
            if listening.done():
                listening.result()
        finally:
            closed.cancel()
            listening.cancel()

    def _take(self, method: str, params: Raw) -> None:
        if method == ACKNOWLEDGED:
            self._acknowledged(acknowledged(params, TASK_IDS))
        elif method == TASK_STATUS and self.agreed.done():
            with contextlib.suppress(RpcError):
                own = jsonrpc.text(jsonrpc.members(params).get(TASK_ID, Raw()), TASK_ID)
                if own in self.accepted:
                    self._on_status(own, params)

    def _acknowledged(self, task_ids: frozenset[str]) -> None:
        if not self.agreed.done():
            self.accepted &= task_ids
            self.agreed.set_result(None)
            return
        for own in sorted(self.accepted):
            self._on_status(own, None)


class Follows:
    """All followers of one upstream."""

    def __init__(self, upstream: str, connect: Callable[[], Awaitable[Connection]]) -> None:
        """`connect` returns the connection that agents share; raises `DeliveryError`."""
        self._upstream = upstream
        self._connect = connect
        self._followers: set[Follower] = set()

    async def add(self, agent: Agent, task_ids: frozenset[str], on_status: Status) -> Follower:
        """Call `on_status` when the status of a task changes.

        The follower's `accepted` names the tasks that the upstream reports on; the caller must call its `close`. Raises
        `RpcError` if the upstream refuses or a limit is reached, `DeliveryError` if it cannot be reached in time.
        """
        followed = sum(len(follower.accepted) for follower in self._followers)
        if len(self._followers) >= MAX_FOLLOWERS or followed + len(task_ids) > MAX_FOLLOWED:
            raise overloaded(f"too many tasks of upstream {self._upstream} are followed")
        follower = Follower(self._upstream, agent, task_ids, on_status, self._connect)
        self._followers.add(follower)
        follower.task.add_done_callback(lambda task: self._over(follower))
        try:
            await agreement(follower.agreed, FOLLOW_TIMEOUT)
        except BaseException:
            follower.close()
            raise
        if not follower.accepted:
            follower.close()
        return follower

    def _over(self, follower: Follower) -> None:
        self._followers.discard(follower)
        error = None if follower.task.cancelled() else follower.task.exception()
        if error is not None:
            logger.error("{} while following tasks of {}\n{}", type(error).__name__, self._upstream, where(error))
        follower.agreed.cancel()

    @property
    def active(self) -> bool:
        """Whether an agent follows a task."""
        return bool(self._followers)

    def reconnected(self) -> None:
        """Retry at once; called when the upstream was reached."""
        for follower in self._followers:
            follower.wake.set()

    def close(self) -> None:
        """Close all followers; called when the upstream is closed."""
        for follower in list(self._followers):
            follower.close()
