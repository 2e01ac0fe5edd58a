"""Sends one request to one upstream and handles the questions in between."""

from __future__ import annotations

from typing import Any, Final

from msgspec import Raw

from gateway_core.api import Call
from gateway_core.config import ProxyConfig
from gateway_core.errors import CANCELLED, URL_ELICITATION_REQUIRED, RpcError
from gateway_core.exchange.exchange import Exchange
from gateway_core.exchange.naming import naming
from gateway_core.mcp import jsonrpc
from gateway_core.mcp.names import MAY_ASK, REQUESTS, RESPONSES, STATE
from gateway_core.pipeline.input_required.login_questions import LoginQuestions
from gateway_core.pipeline.input_required.parking import ParkedCall, Parking, answers_in
from gateway_core.pipeline.input_required.plugin_questions import PluginQuestions
from gateway_core.pipeline.input_required.question_pages import QuestionPages
from gateway_core.pipeline.input_required.relay import (
    ask_and_repeat,
    check_questions,
    first_round,
    input_required,
    invalid,
    may_ask,
    with_params,
)
from gateway_core.pipeline.input_required.request_states import State, States, refused
from gateway_core.sealing import MAX_SEALED, Seal
from gateway_core.upstream.capabilities import ELICIT, can_be_asked, check
from gateway_core.upstream.requests import Reply, Request
from gateway_core.upstream.upstream import Upstream
from gateway_core.upstream.user_logins.attempts import NO_ATTEMPTS, LoginAttempts


class InputRequired:
    """Sends the rounds of calls, and owns the parked calls and the request states between rounds."""

    def __init__(
        self,
        config: ProxyConfig,
        seal: Seal,
        before: InputRequired | None = None,
        attempts: LoginAttempts | None = None,
    ) -> None:
        """`before`: the object of an earlier configuration, whose parked calls and request states this one shares.

        `attempts`: the logins of principals in progress.
        """
        limits, wait = config.limits, config.question_timeout
        self._wait = wait
        self.parking: Final[Parking] = (
            Parking(limits.parked_calls, limits.parked_per_principal, wait) if before is None else before.parking
        )
        self.pages: Final[QuestionPages] = QuestionPages(limits.parked_calls) if before is None else before.pages
        self.parking.when_cancelled(self.pages.abandon_of)
        self._states: States = States(seal, wait, None if before is None else before._states)
        self._longest_state = min(MAX_SEALED, limits.request_body // 2)
        """Maximum characters of a request state: the next request needs room for arguments and answers, too."""
        self.of_plugins: Final = PluginQuestions(self._states, self.parking, self.pages, wait, self._longest_state)
        self.logins: Final = LoginQuestions(NO_ATTEMPTS if attempts is None else attempts, self.of_plugins, wait)

    async def send(self, upstream: Upstream, exchange: Exchange, request: Request) -> Reply:
        """Send a round to an upstream and handle the server's questions.

        Raises as `Upstream.request` does, and `RpcError` if the agent cannot be asked.
        """
        agent, may = exchange.agent, request.method in MAY_ASK
        if may and (agent.era == "legacy" or upstream.facts.era == "legacy"):
            if request.templates is None:
                request = first_round(request)  # a legacy side has no request state
            if agent.era == "modern" and can_be_asked(agent):
                outcome = await self.parking.send(upstream, exchange, request)
                return self._parked_or_not(upstream, exchange, outcome)
        reply = await upstream.request(exchange, request)
        if reply.plain or not may:
            return reply
        if upstream.facts.era != "modern":
            return self._url_first(upstream, exchange, reply)
        if reply.error is not None or not may_ask(reply):
            return reply
        if agent.era == "legacy":
            return await ask_and_repeat(upstream, exchange, request, reply)
        return self._passed_on(upstream, exchange, reply)

    def use(self, state: State, exchange: Exchange) -> None:
        """Mark a state as used, because its round is sent now. Raises `RpcError(INVALID_PARAMS)` if it is already."""
        self._states.use(state, exchange.agent.principal)

    async def resume(self, upstream: Upstream, exchange: Exchange, request: Request, state: State) -> Reply:
        """Send a later round to the upstream that asked.

        Raises as `send` does, and `RpcError` if the agent declined a URL or the parked call has ended.
        """
        answers = answers_in(request.params.get(RESPONSES, Raw(b"{}")))
        if state.kind == "again":
            if any(bytes(jsonrpc.members(answer).get("action", Raw())) != b'"accept"' for answer in answers.values()):
                raise RpcError.of_gateway(
                    CANCELLED, "the URL that the server needs was not opened; nothing was executed"
                )
            return await self.send(upstream, exchange, first_round(request))
        if state.kind == "parked":
            outcome = await self.parking.rejoin(state.inner or "", exchange, answers)
            if outcome is None:
                raise refused()
            return self._parked_or_not(upstream, exchange, outcome)
        params = dict(request.params)
        if state.inner is not None:
            params[STATE] = state.inner
        return await self.send(upstream, exchange, with_params(request, params))

    def give_back(self, state: State, exchange: Exchange) -> None:
        """Make a state valid again, because its round was not sent."""
        self._states.give_back(state, exchange.agent.principal)

    def _parked_or_not(self, upstream: Upstream, exchange: Exchange, outcome: Reply | ParkedCall) -> Reply:
        """The reply of a call, or the questions of a call that is parked now."""
        if isinstance(outcome, Reply):
            return self._url_first(upstream, exchange, outcome)
        asked = {
            name: {"method": question.method, "params": Raw(question.params)}
            for name, question in outcome.open_questions().items()
        }
        key = self.parking.park(outcome)
        return _asking(asked, self._states.seal(_origin(exchange), State("parked", outcome.upstream.name, key)))

    def _passed_on(self, upstream: Upstream, exchange: Exchange, reply: Reply) -> Reply:
        """Pass a modern upstream's result on to a modern agent; a question gets a sealed request state."""
        asked = None if reply.error is not None else input_required(reply.result)
        if asked is None:
            return reply
        check_questions(exchange.agent, asked)
        upstream.connections.demand.hold(self._wait)
        members: dict[str, Any] = dict(asked.members)
        if asked.questions:
            members[REQUESTS] = {
                name: _question(upstream, question.method, bytes(question.params))
                for name, question in asked.questions.items()
            }
        state = self._states.seal(_origin(exchange), State("relay", upstream.name, asked.state))
        if len(state) > self._longest_state:
            raise invalid(
                f"its requestState has {len(asked.state or '')} characters, which no request could bring back"
            )
        members[STATE] = state
        return Reply(result=jsonrpc.encode(members), era="modern")

    def _url_first(self, upstream: Upstream, exchange: Exchange, reply: Reply) -> Reply:
        """For a modern agent, turn a legacy server's `URL_ELICITATION_REQUIRED` error into a question."""
        error = reply.error
        if error is None or error.code != URL_ELICITATION_REQUIRED or exchange.agent.era == "legacy":
            return reply
        wanted = error.data.get("elicitations") if isinstance(error.data, dict) else None
        if not isinstance(wanted, list) or not wanted or not all(isinstance(params, dict) for params in wanted):
            return reply
        asked = {
            f"url-{number}": _question(upstream, ELICIT, jsonrpc.encode(params))
            for number, params in enumerate(wanted, start=1)
        }
        try:
            for question in asked.values():
                check(exchange.agent, ELICIT, bytes(question["params"]))
        except RpcError:
            return reply
        upstream.connections.demand.hold(self._wait)
        return _asking(asked, self._states.seal(_origin(exchange), State("again", upstream.name)))


def _origin(exchange: Exchange) -> Call:
    """The call as the agent sent it, before any plugin; its retry looks the same."""
    assert exchange.origin is not None, "set before anything is sent"
    return exchange.origin


def _question(upstream: Upstream, method: str, params: bytes) -> dict[str, Any]:
    return {"method": method, "params": Raw(naming(upstream.name, params))}


def _asking(asked: dict[str, Any], state: str) -> Reply:
    content = {"resultType": "input_required", REQUESTS: asked, STATE: state}
    return Reply(result=jsonrpc.encode(content), era="modern")
