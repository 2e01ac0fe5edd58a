"""What the server behind one upstream says by itself, on whichever of its connections, and who is to know."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any

from msgspec import Raw

from gateway_core.exchange.exchange import Agent, Exchange
from gateway_core.mcp.names import ELICITED, LOG_MESSAGE, UPDATED
from gateway_core.upstream.base import Connection, Host
from gateway_core.upstream.notifications.follows import Follows
from gateway_core.upstream.notifications.logs import Logs
from gateway_core.upstream.notifications.watches import Watches


class Announcements:
    """Takes changes of lists to the upstream, updates to who watches a resource, log messages to who asked for them."""

    def __init__(
        self,
        upstream: str,
        connect: Callable[[Agent | None], Awaitable[Connection]],
        on_list_changed: Callable[[], None],
    ) -> None:
        """`connect`: see `Watches`."""
        self.watches = Watches(upstream, connect)
        self.follows = Follows(upstream, lambda: connect(None))
        self.logs = Logs(upstream)
        self._on_list_changed = on_list_changed

    def shared(self, capabilities: Mapping[str, Any]) -> Host:
        """The host of a connection that agents share."""
        return Host(partial(self._told, "", None), capabilities)

    def own(self, capabilities: Mapping[str, Any], agent: Agent | None) -> Host:
        """The host of a connection that one agent has for itself, or, where None is named, of one that is lent."""
        conversation = agent.session_id if agent is not None else None
        return Host(partial(self._told, conversation, agent), capabilities, agent)

    def connected(self, shared: Connection) -> None:
        """The shared connection was opened."""
        self.watches.reconnected()
        self.follows.reconnected()
        self.logs.connected(shared)

    def session_ended(self, session_id: str, shared: Connection | None) -> None:
        """A legacy agent has gone; `shared`: the connection that others still use."""
        self.watches.end(session_id)
        self.logs.forget(session_id, shared)

    def close(self) -> None:
        """The upstream is given up."""
        self.watches.close()
        self.follows.close()
        self.logs.close()

    def _told(
        self, conversation: str | None, owner: Agent | None, method: str, params: Raw, exchange: Exchange | None
    ) -> None:
        """`conversation`: the connection, as `Watches` names it (None: one that is lent to a call); `owner`: whose it
        is alone."""
        if method.endswith("/list_changed"):
            self._on_list_changed()
        elif method == UPDATED:
            self.watches.updated(conversation, params)
        elif method in {LOG_MESSAGE, ELICITED}:
            self.logs.told(method, params, exchange, owner)
