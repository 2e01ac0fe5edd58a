"""The connections of one identity: opened on first use, and again after a loss, without a watch."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from gateway_core.config import LimitsConfig, UpstreamConfig
from gateway_core.errors import DeliveryError, NotSent, RefusedUpstream, RpcError
from gateway_core.exchange.exchange import Agent
from gateway_core.inline.driver import in_task
from gateway_core.upstream.base import Connection, ServerInfo
from gateway_core.upstream.concealing import Concealer
from gateway_core.upstream.connection_manager import ConnectionManager
from gateway_core.upstream.connections.await_shared import await_shared
from gateway_core.upstream.identities.identity import Identity
from gateway_core.upstream.notifications.announcements import Announcements
from gateway_core.upstream.status import UpstreamStatus
from gateway_core.upstream.transports.client import HttpClient


class IdentityConnections(ConnectionManager):
    """All connections of one identity. Its main connection is for this identity what the upstream's is for all."""

    def __init__(
        self,
        identity: Identity,
        config: UpstreamConfig,
        limits: LimitsConfig,
        status: UpstreamStatus,
        announced: Announcements,
        *,
        http: HttpClient,
        on_info: Callable[[ServerInfo], None],
    ) -> None:
        """`status`: that of the upstream. `on_info`: called with what the server says of itself to this identity."""
        super().__init__(config, limits, status, announced, http=http)
        self.identity: Final = identity
        self.users = 0
        """Requests that use it."""
        self.used = 0.0
        """Time of the last use."""
        self.retired = False
        """Whether it gets no more requests."""
        self.closes = False
        """Whether `close` was called."""
        self._on_info = on_info
        self._concealer = Concealer(identity.secrets)
        self._opening: asyncio.Task[Connection] | None = None

    @property
    def busy(self) -> bool:
        """Whether it must stay open: it has requests in flight, or subscriptions."""
        return self.users > 0 or self.announced.active

    def begin(self, agent: Agent, now: float) -> None:
        """Count a request; the caller must call `end`."""
        self.users += 1
        self.used = now

    def end(self, now: float) -> None:
        """Record the end of a request."""
        self.users -= 1
        self.used = now

    def hide(self, text: str) -> str:
        """`text` without the secrets of the identity, which servers quote."""
        tokens = self.http.tokens if self.http is not None else None
        text = self._concealer.hide(text)
        return text if tokens is None else tokens.hide(text)

    def retire(self) -> None:
        """Give it no more requests, and end its subscriptions."""
        self.retired = True
        self.announced.close()

    async def usable_main(self) -> Connection:
        """The main connection, which is opened if there is none. Raises `NotSent` or `RefusedUpstream`."""
        main = self.main
        if main is not None and not main.closed:
            return main
        await in_task()
        if self._opening is None:
            self._opening = asyncio.create_task(self._connected(), name="open the connection of an identity")
            self._opening.add_done_callback(self._end_opening)
        return await await_shared(self._opening, "its connection was closed while it was being opened")

    def _end_opening(self, task: asyncio.Task[Connection]) -> None:
        self._opening = None
        if not task.cancelled():
            task.exception()  # the waiting calls may have been cancelled

    async def _connected(self) -> Connection:
        try:
            connection = await self.open()
        except (NotSent, RefusedUpstream):
            raise
        except (DeliveryError, RpcError) as problem:
            raise NotSent(f"no connection in the name of its user: {problem}") from None
        self.adopt(connection)
        self.announced.connected(connection)
        assert connection.info is not None
        self._on_info(connection.info)
        return connection

    def restarted(self) -> None:
        """Use new connections from now on: the server was reached again, and may have lost its sessions."""
        if self.main is not None and not self.main.in_flight():
            self.abandon()
        else:
            self.sessions.retire_all()

    async def close(self) -> None:
        """Close all of it, and its HTTP client; bounded in time."""
        self.closes = True
        if self._opening is not None:
            self._opening.cancel()
            await asyncio.wait([self._opening])
        self.announced.close()
        await super().close()
