"""The requests of agents that the pipeline serves: their beginning, their end, and their responses."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Collection, Coroutine, Mapping
from functools import partial
from typing import Any

from loguru import logger
from msgspec import Raw

from gateway_core.api import CallResult
from gateway_core.downstream.calls.gate import Gate
from gateway_core.downstream.sessions.live import LiveSession, RequestKey
from gateway_core.errors import RpcError
from gateway_core.exchange.exchange import Agent, Exchange
from gateway_core.http1.application import Deferred
from gateway_core.inline.deadlines import Deadline
from gateway_core.inline.driver import Running
from gateway_core.internal_errors import internal_error, where
from gateway_core.mcp import jsonrpc
from gateway_core.mcp.jsonrpc import Message
from gateway_core.pipeline.params import Supplied
from gateway_core.pipeline.pipeline import Pipeline


class Calls:
    """Runs requests in the background, each of which the gate has admitted."""

    def __init__(self, pipeline: Pipeline, gate: Gate) -> None:
        self._pipeline = pipeline
        self._gate = gate
        self._earlier: tuple[Pipeline, ...] = ()
        """Pipelines of earlier configurations, which may still serve requests."""

    def use(self, pipeline: Pipeline) -> None:
        """Begin requests in `pipeline` from now on. Those in flight end in the pipeline that they began in."""
        self._earlier, self._pipeline = (*self._earlier, self._pipeline), pipeline

    def retire(self, pipeline: Pipeline) -> None:
        """Forget an earlier pipeline, which serves no request any more."""
        self._earlier = tuple(it for it in self._earlier if it is not pipeline)

    def running(self) -> Collection[Deadline]:
        """The calls in flight, in all pipelines."""
        if not self._earlier:
            return self._pipeline.deadlines.running
        return [it for pipeline in (*self._earlier, self._pipeline) for it in pipeline.deadlines.running]

    def begin(self, exchange: Exchange, message: Message, session: LiveSession | None = None) -> Running[CallResult]:
        """Begin a request in the pipeline. The loss of its connection does not cancel it; the caller may.

        `session`: the session that the request belongs to, whose end cancels it; None for a modern agent over HTTP.
        Raises `RpcError` if the gateway is full or stopping, or if the session has a request with this id in flight
        (basic/index, Requests).
        """
        ended: Callable[[Running[CallResult]], None] = self._ended
        if session is not None:
            key = session.new_key(message.id)
            ended = partial(self._ended_in, session, key)
        self._gate.enter(message, exchange.agent.principal)
        try:
            running = self._pipeline.begin(exchange, message.members)
        except BaseException:
            self._gate.leave()
            raise
        if session is not None:
            session.began(key, running)
        running.add_done_callback(ended)
        return running

    def begin_task(
        self, session: LiveSession, agent: Agent, message: Message, serve: Coroutine[Any, Any, CallResult]
    ) -> Running[CallResult]:
        """Run `serve`, which returns the result of a request of `session`, in a task that outlives the connection.

        `agent`: the agent of the session.

        Raises `RpcError` as `begin`.
        """
        try:
            key = session.new_key(message.id)
            self._gate.enter(message, agent.principal)
        except (RpcError, Deferred):
            serve.close()
            raise
        task = asyncio.get_running_loop().create_task(serve)
        session.began(key, task)
        task.add_done_callback(partial(self._ended_in, session, key))
        return task

    def _ended_in(self, session: LiveSession, key: RequestKey, running: Running[CallResult]) -> None:
        """As `_ended`, for a request of `session`, where it has the key `key`."""
        self._ended(running)
        session.ended(key)

    def _ended(self, running: Running[CallResult]) -> None:
        """Count a request as ended, and free the exception of a cancelled one."""
        self._gate.leave()
        if running.cancelled():
            with contextlib.suppress(asyncio.CancelledError):
                running.result()  # a task keeps the exception that cancelled it until it is read

    async def call(self, exchange: Exchange, params: Mapping[str, Raw], answer: Supplied | None = None) -> CallResult:
        """Run a request of the gateway itself, which the gate does not count. Raises only `CancelledError`.

        `answer`: see `Pipeline.begin`. A bug becomes an internal error.
        """
        try:
            return await self._pipeline.call(exchange, params, answer)
        except Exception as error:  # noqa: BLE001 - after a bug the agent still needs a response
            logger.bind(**exchange.log_fields).error(
                "exchange {}: {} in the pipeline\n{}", exchange.id, type(error).__name__, where(error)
            )
            return CallResult.failed(internal_error())


def response_to(message: Message, running: Running[CallResult]) -> tuple[bytes, RpcError | None]:
    """The JSON-RPC response to a request that ended without being cancelled, and the error in it.

    Never raises: after a bug the response is an internal error.
    """
    try:
        result = running.result()
        error = result.error
        if error is None:
            return jsonrpc.result(message.id, result.raw), None
        return jsonrpc.error(message.id, error), error
    except Exception as bug:  # noqa: BLE001 - encoding the `data` of an error can fail, too
        logger.error("{} in a request\n{}", type(bug).__name__, where(bug))
        error = internal_error()
        return jsonrpc.error(message.id, error), error
