"""One agent on one two-way channel (HTTP+SSE, stdio): dispatches its messages and answers through a mailbox."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Final

from loguru import logger
from msgspec import Raw

from gateway_core.api import CallResult
from gateway_core.catalog.current import CurrentCatalog
from gateway_core.downstream.agents import exchange_for, meta_of
from gateway_core.downstream.calls.calls import Calls, response_to
from gateway_core.downstream.calls.gate import restarting
from gateway_core.downstream.legacy import Legacy, cancelled_key
from gateway_core.downstream.modern import admit, discover, is_modern
from gateway_core.downstream.sessions.live import LiveSession, SessionBack
from gateway_core.downstream.streams.stream import Keep
from gateway_core.downstream.subscriptions.subscription import Subscriptions
from gateway_core.errors import INVALID_REQUEST, RpcError, overloaded
from gateway_core.exchange.exchange import Agent
from gateway_core.http1.application import Deferred
from gateway_core.inline.driver import Running
from gateway_core.internal_errors import internal_error, where
from gateway_core.mcp import jsonrpc
from gateway_core.mcp.jsonrpc import Message
from gateway_core.mcp.names import CANCELLED_NOTICE, DISCOVER, INITIALIZE, LISTEN

MAX_SUBSCRIPTIONS: Final = 64
"""Listen requests that may be open on one channel."""


class ModernRequests:
    """Serves the modern requests on a two-way channel."""

    def __init__(self, catalog: CurrentCatalog, calls: Calls, subscriptions: Subscriptions) -> None:
        self._catalog = catalog
        self._calls = calls
        self._subscriptions = subscriptions

    def request(
        self, session: LiveSession, message: Message, meta: Mapping[str, Raw]
    ) -> bytes | Running[CallResult] | None:
        """The response to a request, the call in flight that serves it, or None for a subscription. Raises `RpcError`.

        `session`: the session of the channel.
        """
        params = message.members
        agent, log_level = admit(message, params, meta, session.record.caller)
        if message.method == DISCOVER:
            return jsonrpc.result(message.id, discover(self._catalog, agent))
        if message.method == LISTEN:
            self._listen(session, agent, message)
            return None
        back = SessionBack(session, can_ask=False)
        exchange = exchange_for(agent, message, meta, back, log_level=log_level)
        return self._calls.begin(exchange, message, session)

    def _listen(self, session: LiveSession, agent: Agent, message: Message) -> None:
        key, opened = session.new_key(message.id), session.subscriptions
        if len(opened) >= MAX_SUBSCRIPTIONS:
            raise overloaded(f"the limit of {MAX_SUBSCRIPTIONS} open subscriptions is reached")

        def ended() -> None:
            opened.pop(key, None)

        opened[key] = self._subscriptions.open(agent, message, session.mailbox, ended)


class Duplex:
    """Dispatches an agent's messages; all messages to it go into its session's mailbox."""

    def __init__(self, session: LiveSession, legacy: Legacy, modern: ModernRequests | None = None) -> None:
        """`modern`: None to serve a legacy conversation only."""
        self.session: Final = session
        self._legacy = legacy
        self._modern = modern
        self._subscriptions = session.subscriptions

    def receive(self, message: Message) -> None:
        """Dispatch one message. Does not wait for the calls that it starts, and never raises."""
        try:
            self._act_on(message)
        except Exception as error:  # noqa: BLE001 - a bug must not end the channel or leave a request unanswered
            self._failed(message, error)

    def _act_on(self, message: Message) -> None:
        self.session.touch()
        if message.is_response:
            self.session.questions.answer(message)
        elif message.is_notification:
            self._notification(message)
        else:
            try:
                answer = self._request(message)
            except RpcError as error:
                answer = jsonrpc.error(message.id, error)
            except Deferred:  # the channel ends with this process
                answer = jsonrpc.error(message.id, restarting())
            if isinstance(answer, bytes):
                self.send(answer)
            elif answer is not None:
                answer.add_done_callback(partial(self._answered, message))

    def send(self, message: bytes) -> None:
        self.session.mailbox.put(message, Keep.ALWAYS)

    def close(self) -> None:
        """Close the subscriptions without a final response, after the channel has closed."""
        for subscription in self._subscriptions.values():
            subscription.close()
        self._subscriptions.clear()

    def end_subscriptions(self) -> None:
        """End the subscriptions, each with its final response."""
        for subscription in list(self._subscriptions.values()):
            subscription.end()

    def _answered(self, message: Message, running: Running[CallResult]) -> None:
        if running.cancelled():
            return  # a cancelled request is not answered (basic/patterns/cancellation)
        self.send(response_to(message, running)[0])

    def _failed(self, message: Message, error: BaseException) -> None:
        logger.error("{} while answering an agent\n{}", type(error).__name__, where(error))
        if message.is_request:
            self.send(jsonrpc.error(message.id, internal_error()))

    def _notification(self, message: Message) -> None:
        if message.method == CANCELLED_NOTICE:
            key = cancelled_key(message)
            subscription = self._subscriptions.pop(key, None) if key is not None else None
            if subscription is not None:
                subscription.close()
                return
        self._legacy.notification(self.session, message)

    def _request(self, message: Message) -> bytes | Running[CallResult] | None:
        params = message.members
        if message.method == INITIALIZE:
            return self._initialize(message, params)
        meta = meta_of(params)
        if self._modern is not None and (is_modern(meta) or message.method == DISCOVER):
            return self._modern.request(self.session, message, meta)
        return self._legacy.request(self.session, message, meta, SessionBack(self.session))

    def _initialize(self, message: Message, params: dict[str, Raw]) -> bytes:
        if self.session.agent is not None:
            raise RpcError.of_gateway(INVALID_REQUEST, "this session is initialized already")
        agent = self._legacy.introduce(params, self.session.record.caller)
        return self._legacy.initialize(self.session, message, agent)
