"""Dispatches the notifications from all connections of one upstream to their recipients."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, Final

from msgspec import Raw

from gateway_core.concealing import HeldSecrets
from gateway_core.exchange.exchange import Agent, Exchange
from gateway_core.limits.accounts import UNCOUNTED, Account
from gateway_core.mcp.names import ELICITED, LOG_MESSAGE, UPDATED
from gateway_core.upstream.base import ClientContext, Connection
from gateway_core.upstream.notifications.follows import Follows
from gateway_core.upstream.notifications.logs import Logs
from gateway_core.upstream.notifications.watches import Watches


class Announcements:
    """Passes list changes to the upstream, resource updates to subscribers and log messages to agents."""

    def __init__(
        self,
        upstream: str,
        held: HeldSecrets,
        connect: Callable[[Agent | None], Awaitable[Connection]],
        on_list_changed: Callable[[], None],
        account: Account = UNCOUNTED,
        *,
        also: Callable[[bytes], bytes] | None = None,
    ) -> None:
        """`held`: the secrets to hide in messages of the server.

        `connect` opens or returns the connection of one agent; None means the shared connection. See `Watches`.
        `account` counts large messages. `also` hides further secrets in a message.
        """
        self.watches = Watches(upstream, connect)
        self.follows = Follows(upstream, lambda: connect(None))
        self.logs = Logs(upstream)
        self._on_list_changed = on_list_changed
        self.held: Final = held
        self.account: Final = account
        clean: Final = held.cleaner(upstream)
        self._clean: Final = clean if also is None else lambda data: also(clean(data))

    def shared(self, capabilities: Mapping[str, Any]) -> ClientContext:
        """The `ClientContext` for a connection that agents share."""
        return ClientContext(partial(self._on_notification, "", None), capabilities, None, self._clean, self.account)

    def own(self, capabilities: Mapping[str, Any], agent: Agent | None) -> ClientContext:
        """The `ClientContext` for a connection of one agent, or for a pooled one if `agent` is None."""
        conversation = agent.session_id if agent is not None else None
        on_notification = partial(self._on_notification, conversation, agent)
        return ClientContext(on_notification, capabilities, agent, self._clean, self.account)

    def connected(self, shared: Connection) -> None:
        """Called when the shared connection was opened."""
        self.watches.reconnected()
        self.follows.reconnected()
        self.logs.connected(shared)

    def session_ended(self, session_id: str, shared: Connection | None) -> None:
        """Called when a legacy session ended; `shared`: the connection that other agents still use."""
        self.watches.end(session_id)
        self.logs.forget(session_id, shared)

    @property
    def active(self) -> bool:
        """Whether an agent has subscribed to a resource or follows a task."""
        return self.watches.active or self.follows.active

    def close(self) -> None:
        """Stop all subscriptions; called when the upstream is closed."""
        self.watches.close()
        self.follows.close()
        self.logs.close()

    def _on_notification(
        self, conversation: str | None, owner: Agent | None, method: str, params: Raw, exchange: Exchange | None
    ) -> None:
        """`conversation`: the key in `Watches` (None: a connection leased per call); `owner`: the only agent on the
        connection, if there is one."""
        if method.endswith("/list_changed"):
            self._on_list_changed()
        elif method == UPDATED:
            self.watches.updated(conversation, params)
        elif method in {LOG_MESSAGE, ELICITED}:
            self.logs.on_notification(method, params, exchange, owner)
