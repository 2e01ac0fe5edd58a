"""Questions of plugins to the agent's user (`Ask`), before the call goes to an upstream.

A legacy agent is asked during its request, which then goes on. A modern agent gets `input_required`, and its retry is
a new request that brings the answer: the sealed request state holds everything else. Meanwhile the call counts among
the parked ones, and holds neither a slot nor a connection.
"""

from __future__ import annotations

import asyncio
import math
import secrets
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Final

import msgspec
from loguru import logger
from msgspec import Raw
from msgspec.structs import replace

from gateway_core.api import Action, Answers, Call, CallResult, GivenAnswer, Outcome
from gateway_core.api.call import answers_of
from gateway_core.errors import MISSING_CLIENT_CAPABILITY, OVERLOADED, REJECTED, RpcError
from gateway_core.exchange.exchange import Agent, Exchange, Limiter
from gateway_core.exchange.no_answer import CannotBeAsked, NoAnswer
from gateway_core.hooks import Question
from gateway_core.hooks.forms import read_answer
from gateway_core.inline.driver import in_task
from gateway_core.mcp import jsonrpc
from gateway_core.mcp.names import MAY_ASK, PLUGIN_KEY, REQUESTS, RESPONSES, STATE, UPSTREAM_KEY
from gateway_core.pipeline.input_required.parking import Parking, answers_in
from gateway_core.pipeline.input_required.places import NoLimiter, Place, Waiting
from gateway_core.pipeline.input_required.question_pages import QuestionPage, QuestionPages, decided, opened
from gateway_core.pipeline.input_required.request_states import Pending, State, States, refused
from gateway_core.upstream.capabilities import ELICIT, MissingCapability, check, opens_urls_only

GATEWAY_ITSELF: Final = ""
"""Stands for the plugin in questions of the gateway itself (`login_questions.py`)."""
MAX_QUESTIONS: Final = 16
"""Maximum questions of plugins about one call."""
PATIENCE: Final = 45.0
"""Seconds that the retry of a modern agent waits for what a person does on a page, before the agent is asked again.
Clients often give up after a minute."""
AGAIN: Final = 1.0
"""Seconds that must be left for that."""
_NO_FORM: Final[Mapping[str, Any]] = {"type": "object", "properties": {}}
_FIRST: Final = State("first")


class Round(msgspec.Struct, frozen=True, eq=False):
    """A request that continues a call, and what its request state says."""

    call: Call
    """The call as the agent sent it, with the answers to questions of plugins."""
    others: Mapping[str, Raw]
    """The members of its params, without those for the gateway."""
    state: State
    place: Place | None = None
    """The place that the call had while it waited for the answer to a plugin."""
    page: str = ""
    """The token of the page on which the question of a plugin is answered; empty if the client answers."""

    @property
    def upstream_state(self) -> State | None:
        """The state, if an upstream has asked before; None if this is the first round for it."""
        return None if self.state.kind == "first" else self.state

    @property
    def answered(self) -> str:
        """The name of the question of the gateway itself that this round answers; empty if there is none."""
        pending = self.state.pending
        return pending.name if pending is not None and pending.plugin == GATEWAY_ITSELF else ""


class PluginQuestions:
    """Puts the questions of plugins to agents, and takes the answers."""

    def __init__(self, states: States, parking: Parking, pages: QuestionPages, wait: float, longest_state: int) -> None:
        """`wait`: seconds for an answer, at most. `longest_state`: maximum characters of a request state."""
        self._states = states
        self._parking = parking
        self._pages = pages
        self._wait = wait
        self._longest_state = longest_state
        self.limiter: Limiter = NoLimiter()
        """Counts the requests of agents."""

    def counted_by(self, limiter: Limiter) -> None:
        """Release the slots of `limiter`, which counts the requests of agents, while their agents are asked."""
        self.limiter = limiter

    async def put(
        self, exchange: Exchange, call: Call, question: Question, round_: Round | None, clean: Callable[[bytes], bytes]
    ) -> Answers | CallResult:
        """Ask the agent's user. Returns all answers about the call so far, or the result of the request.

        `call`: as the plugin saw it. `round_`: None for a request without a state. `clean` hides secrets.
        """
        ask, agent, page, params = question.ask, exchange.agent, None, b""
        seconds = self._wait if ask.lifetime is None else min(ask.lifetime, self._wait)
        on_page = ask.url is None and ask.schema is None and (ask.on_page or opens_urls_only(agent))
        if on_page and round_ is not None:
            page = self._pages.about(round_.page, question, call)
            answered = None if page is None else await self._on_page(exchange, call, question, page)
            if answered is not None:
                return answered
        try:
            if page is not None:
                seconds = page.left
            elif on_page:
                page = self._pages.open(question, call, seconds, clean)
            params = _params(question, agent.era == "legacy", page, self._pages)
            key = self.take_place(exchange, call, params, seconds, question.plugin)
        except RpcError as error:
            self._pages.close(page)
            return _cannot_be_asked(question, agent, error)
        if agent.era == "legacy":
            asking = exchange.back.ask(ELICIT, clean(params))
            try:
                answer = asking if page is None else opened(exchange.back, asking, page)
                waiting = exchange.ask_before_sending(_who(question), ELICIT, answer, seconds, self.limiter)
                answered = await self._asked(exchange, call, question, waiting, seconds, page=page)
                assert answered is not None, "only a modern agent is asked again"
                return answered
            except asyncio.CancelledError:
                self._pages.abandon(page)
                raise
            finally:
                self.leave_place(key)
                self._pages.close(page)
        schema = b"" if ask.schema is None else jsonrpc.encode(ask.schema)
        token = "" if page is None else page.token
        pending = Pending(question.plugin, ask.name, call.subject(), schema, key, ask.approves, token)
        try:
            return self.input_required(exchange, pending, params, round_, seconds)
        except RpcError:
            self._pages.close(page)
            raise

    def input_required(
        self, exchange: Exchange, pending: Pending, params: bytes, round_: Round | None, seconds: float
    ) -> CallResult:
        """The result that puts the question `pending` to a modern agent. `params`: those of `elicitation/create`.

        Raises `RpcError` if its request state would be too long, or if the round's own state was used meanwhile. Then
        the place of the call is left.
        """
        try:
            sealed = self._sealed(exchange, pending, round_, seconds)
        except RpcError:
            self.leave_place(pending.key)
            raise
        asked = {pending.name: {"method": ELICIT, "params": Raw(params)}}
        content = {"resultType": "input_required", REQUESTS: asked, STATE: sealed}
        return CallResult(raw=jsonrpc.encode(content), outcome=Outcome.ASKED, era="modern")

    def leave_place(self, key: str) -> None:
        """Stop counting a call that waited for an answer."""
        self._parking.leave_place(key)

    def take_place(self, exchange: Exchange, call: Call, params: bytes, seconds: float, source: str) -> str:
        """The key of a place for the call. `source`: see `Waiting`.

        Raises `RpcError` if the agent cannot be asked about it.
        """
        if exchange.method not in MAY_ASK:
            raise RpcError.of_gateway(REJECTED, f"clients cannot be asked about {exchange.method}")
        if len(answers_of(call).given) >= MAX_QUESTIONS:
            raise RpcError.of_gateway(REJECTED, f"{MAX_QUESTIONS} questions were asked already, which is the limit")
        check(exchange.agent, ELICIT, params)
        principal = exchange.agent.principal
        waiting = Waiting(exchange.id, principal.id, exchange.method, call.name, source)
        return self._parking.take_place(principal, waiting, seconds)

    async def _on_page(
        self, exchange: Exchange, call: Call, question: Question, page: QuestionPage
    ) -> Answers | CallResult | None:
        """Wait for the answer on a page that a modern agent has opened; None if the agent has to be asked again."""
        page.continue_in(exchange)
        left = page.left
        waiting = self.wait_on_page(exchange, _who(question), ELICIT, decided(page), left)
        try:
            answers = await self._asked(exchange, call, question, waiting, left, page=page)
        except asyncio.CancelledError:
            self._pages.abandon(page)
            raise
        if answers is None:
            return None
        self._pages.close(page)
        if isinstance(answers, Answers) and exchange.origin is not None:  # later request states carry the answer
            exchange.identify(exchange.origin.with_answers(answers, continues=exchange.origin.continues))
        return answers

    async def wait_on_page(
        self, exchange: Exchange, who: str, method: str, doing: Coroutine[Any, Any, bytes], left: float = math.inf
    ) -> bytes | None:
        """What `doing` brings: what a person does on a page that a modern agent has opened.

        None if the agent has to be asked again. `left`: seconds until the page lapses. Raises as
        `Exchange.ask_before_sending`, which has the other parameters, too.
        """
        seconds = min(PATIENCE, left)
        try:
            return await exchange.ask_before_sending(who, method, doing, seconds, self.limiter)
        except NoAnswer:
            if left - seconds > AGAIN:
                return None
            raise

    async def _asked(
        self,
        exchange: Exchange,
        call: Call,
        question: Question,
        waiting: Coroutine[Any, Any, bytes | None],
        seconds: float,
        *,
        page: QuestionPage | None,
    ) -> Answers | CallResult | None:
        """Wait for the answer that `waiting` brings: of a legacy agent on the stream of its request, or of a page.

        None if it brings none, because the agent has to be asked again. `seconds`: the longest wait, for the error.
        """
        await in_task()
        try:
            raw = await waiting
            if raw is None:
                return None
            action, content = read_answer(raw, question.ask.schema, "its answer")
        except CannotBeAsked:
            missing = "a stream for the question: Accept: text/event-stream"
            return _refused(question, f"this request cannot carry it; what is missing is {missing}", missing=missing)
        except NoAnswer:
            log_answer(exchange.id, exchange.generation, question.plugin, "no answer in time")
            return _refused(question, f"there was no answer within {seconds:g} s")
        except RpcError as error:
            if error.code == OVERLOADED:
                return _refused(question, error.message, OVERLOADED, **error.data)
            return _refused(question, f"the client did not get an answer: {error.message[:200]}")
        log_answer(exchange.id, exchange.generation, question.plugin, action)
        ask = question.ask
        by = "" if page is None else page.answered_by
        given = GivenAnswer(question.plugin, ask.name, call.subject(), action, content, ask.approves, by)
        return answers_of(call).with_one(given)

    def _sealed(self, exchange: Exchange, pending: Pending, round_: Round | None, seconds: float) -> str:
        """The request state of a modern agent that is asked `pending`.

        Raises `RpcError` if it would be too long, or if the round's own state was used meanwhile.
        """
        assert exchange.origin is not None, "set before the plugins run"
        state, responses = _FIRST, b""
        if round_ is not None:
            state, responses = round_.state, bytes(round_.others.get(RESPONSES, b""))
        sealed = self._states.seal(exchange.origin, replace(state, pending=pending, responses=responses), seconds)
        if len(sealed) > self._longest_state:
            raise RpcError.of_gateway(REJECTED, "the request state would be too long for the next request")
        if round_ is not None and state.pending is None:
            self._states.use(state, exchange.agent.principal)  # the new state takes its place
        return sealed

    def resume(self, call: Call, others: Mapping[str, Raw]) -> Round:
        """The round that a modern agent's request with a request state is. `call`: as the agent sent it.

        An answer to a plugin is taken: the state is then used. Raises `RpcError(INVALID_PARAMS)` for an invalid state,
        and for an answer that is malformed, which leaves the state valid.
        """
        rest = {key: raw for key, raw in others.items() if key not in (STATE, RESPONSES)}
        responses = others.get(RESPONSES, Raw(b""))
        given = answers_in(responses)
        state = self._states.read(call, bytes(others[STATE]))
        answers = Answers(state.answers)
        pending, place, continues = state.pending, None, False
        if pending is not None:
            responses, answer = Raw(state.responses), given.get(pending.name)
            read = None if answer is None else _read(pending, bytes(answer))
            place = self._parking.leave_place(pending.key)
            if place is None:
                raise refused()
            if read is not None:
                if pending.plugin == GATEWAY_ITSELF and read[0] != "accept":
                    raise declined(read[0])
                continues = True
                if not pending.page or read[0] != "accept":  # who accepts the address of a page has not answered yet
                    given_answer = GivenAnswer(pending.plugin, pending.name, pending.subject, *read, pending.approves)
                    answers = answers.with_one(given_answer)
                    log_answer(call.exchange_id, call.generation, pending.plugin, read[0])
                    self._pages.close(self._pages.at(pending.page))
        if bytes(responses):
            rest[RESPONSES] = responses
        page = "" if pending is None else pending.page
        return Round(call.with_answers(answers, continues=continues), rest, state, place, page)

    def give_back(self, round_: Round) -> None:
        """Make the state of an answer to a plugin valid again, because its round was not sent."""
        if round_.place is not None and round_.state.pending is not None:
            self._parking.return_to_place(round_.state.pending.key, round_.place)


def _read(pending: Pending, raw: bytes) -> tuple[Action, bytes]:
    schema = jsonrpc.value(pending.schema) if pending.schema else None
    return read_answer(raw, schema, f"params.inputResponses.{pending.name}")


def _who(question: Question) -> str:
    return f"plugin {question.plugin}"


def _params(question: Question, legacy: bool, page: QuestionPage | None, pages: QuestionPages) -> bytes:
    """The params of `elicitation/create`."""
    ask = question.ask
    members: dict[str, Any] = {"message": ask.message}
    url = ask.url if page is None else pages.url(page)
    if url is None:
        members["requestedSchema"] = _NO_FORM if ask.schema is None else ask.schema
    else:
        members |= {"mode": "url", "url": url}
        if legacy:  # 2025-11-25 requires it, unlike 2026-07-28 (client/elicitation, URL Mode)
            members["elicitationId"] = secrets.token_urlsafe(16) if page is None else page.id
    members["_meta"] = {UPSTREAM_KEY: None, PLUGIN_KEY: question.plugin}
    return jsonrpc.encode(members)


def _cannot_be_asked(question: Question, agent: Agent, error: RpcError) -> CallResult:
    """The result of a call whose agent cannot be asked."""
    if isinstance(error, MissingCapability):
        code = MISSING_CLIENT_CAPABILITY if agent.era == "modern" else REJECTED
        return _refused(question, error.message, code, requiredCapabilities=error.required)
    return _refused(question, error.message, error.code, **error.data)


def _refused(question: Question, why: str, code: int = REJECTED, **data: Any) -> CallResult:
    data.pop("source", None)
    message = f"plugin {question.plugin} has to ask the user about this call, but {why}; the call was not executed"
    return CallResult.failed(RpcError.of_gateway(code, message, plugin=question.plugin, **data), Outcome.REFUSED)


def declined(action: Action) -> RpcError:
    """The error if the user does not do what the gateway itself asks for."""
    how = "the user declined" if action == "decline" else "the user dismissed the question"
    return RpcError.of_gateway(REJECTED, f"a login is needed, and {how}; the call was not executed")


def log_answer(exchange_id: str, generation: int, plugin: str, how: str) -> None:
    """Log how a question of a plugin about a call ended. `generation`: that of the call."""
    lines = logger.bind(exchange=exchange_id, generation=generation)
    if plugin == GATEWAY_ITSELF:
        lines.info("the user was asked to log in: {}", how)
        return
    lines.bind(plugin=plugin).info("the user was asked for plugin {}: {}", plugin, how)
