"""Asks the agent's user to log in at an upstream, and lets the call go on after the login.

The user gets the address of a page of the gateway (client/elicitation, URL Mode). A legacy agent is asked during its
request, which goes on as soon as the login is complete. A modern agent gets `input_required`; its retry waits for the
login. An agent that cannot be asked gets an error with the address, for its user to open.

If the browser did not prove to be that of the agent's principal, the user also has to enter the code that the browser
shows, in a form; see `upstream/user_logins/attempts.py`.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any, Final, TypeAlias

import msgspec

from gateway_core.api import Call, CallResult, Outcome
from gateway_core.api.call import answers_of
from gateway_core.errors import REJECTED, URL_ELICITATION_REQUIRED, RpcError, UserLoginNeeded
from gateway_core.exchange.exchange import Exchange
from gateway_core.exchange.no_answer import CannotBeAsked, NoAnswer
from gateway_core.hooks.forms import read_answer
from gateway_core.inline.driver import in_task
from gateway_core.mcp import jsonrpc
from gateway_core.mcp.names import ELICITED, MAY_ASK, TOOLS_CALL, UPSTREAM_KEY
from gateway_core.pipeline.input_required.plugin_questions import (
    GATEWAY_ITSELF,
    PluginQuestions,
    Round,
    declined,
    log_answer,
)
from gateway_core.pipeline.input_required.request_states import Pending
from gateway_core.upstream.capabilities import ELICIT, MissingCapability
from gateway_core.upstream.requests import Reply
from gateway_core.upstream.user_logins.attempt import LoginAttempt
from gateway_core.upstream.user_logins.attempts import LoginAttempts
from gateway_core.upstream.user_logins.login_tool import CODE, login_tool_name

MAX_LOGINS: Final = 2
"""Logins that one call may need: an upstream may ask for more scopes after the first."""
WHO: Final = "the gateway"
"""Who asks, for messages."""
LOGIN: Final = "login"
_CODE_FORM: Final[Mapping[str, Any]] = {
    "type": "object",
    "properties": {CODE: {"type": "string", "title": "Code", "maxLength": 32}},
    "required": [CODE],
}
_ACCEPTED: Final = b'{"action":"accept"}'

Delivered: TypeAlias = tuple[CallResult, Reply | None]


class _Refused(Exception):
    """The call ends here, with this result."""

    def __init__(self, result: CallResult) -> None:
        super().__init__()
        self.result = result


class _Login(msgspec.Struct, frozen=True):
    """A login that a call waits for: its questions, and the results without it."""

    exchange: Exchange
    call: Call
    needed: UserLoginNeeded
    attempt: LoginAttempt

    @property
    def name(self) -> str:
        """The name of the upstream."""
        return self.needed.upstream

    def url_question(self, elicitation: str = "") -> bytes:
        """The params of `elicitation/create` with the address. 2025-11-25 requires an `elicitationId`."""
        members: dict[str, Any] = {
            "mode": "url",
            "url": self.attempt.url,
            "message": f"Log in at {self.name}, so that your agent can use it as you. Then its call goes on.",
            "_meta": {UPSTREAM_KEY: None},
        }
        if elicitation:
            members["elicitationId"] = elicitation
        return jsonrpc.encode(members)

    def code_question(self, *, was_wrong: bool) -> bytes:
        """The params of `elicitation/create` with the form for the code."""
        wrong = "That was not the code. " if was_wrong else ""
        text = f"{wrong}Enter the code that your browser shows after the login at {self.name}."
        return jsonrpc.encode({"message": text, "requestedSchema": _CODE_FORM, "_meta": {UPSTREAM_KEY: None}})

    def refused(self, why: str) -> _Refused:
        """The end of the call, with the reason."""
        return _Refused(_refusal(self.exchange.method, why))

    def url_required(self, elicitation: str) -> _Refused:
        """The error for a legacy agent that can open addresses, for a request that cannot carry a question."""
        wanted = [jsonrpc.value(self.url_question(elicitation))]
        message = f"{self.needed.reason}; the call was not executed"
        error = RpcError.of_gateway(URL_ELICITATION_REQUIRED, message, elicitations=wanted)
        return _Refused(CallResult.failed(error, Outcome.REFUSED))

    def in_words(self, why: str = "") -> _Refused:
        """The refusal for a user who cannot be asked, with what the user can do."""
        reason = f"{self.needed.reason}{f' ({why})' if why else ''}"
        use = f"call the tool {login_tool_name(self.name)} with that code"
        if self.attempt.at("unconfirmed"):
            return self.refused(f"{reason}; the user has to give you the code that the browser shows; {use}")
        to_do = f"the user opens {self.attempt.url} in a browser and logs in; then call again"
        return self.refused(f"{reason}; {to_do}. If the browser shows a code, first {use}")


class LoginQuestions:
    """Asks users to log in."""

    def __init__(self, attempts: LoginAttempts, questions: PluginQuestions, wait: float) -> None:
        """`wait`: seconds that a user has, at most."""
        self._attempts = attempts
        self._questions = questions
        self._wait = wait

    async def log_in(
        self,
        exchange: Exchange,
        call: Call,
        needed: UserLoginNeeded,
        round_: Round | None,
        deliver: Callable[[], Awaitable[Delivered]],
    ) -> Delivered:
        """Ask the user to log in, and deliver the call with `deliver` after the login.

        Returns the result of the call, or the question for a modern agent. `round_`: see `PluginQuestions.put`. Raises
        `RpcError` as `deliver` does, and if the user declines.
        """
        await in_task()
        earlier = _number_in(round_)
        if failure := self._attempts.failure(earlier):
            return _refusal(exchange.method, f"the login at upstream {needed.upstream} failed: {failure}"), None
        for _ in range(MAX_LOGINS):
            attempt = self._attempts.of(exchange.agent.principal, needed.upstream)
            try:
                await self._ask(_Login(exchange, call, needed, attempt), round_)
            except _Refused as end:
                return end.result, None
            try:
                return await deliver()
            except UserLoginNeeded as again:
                needed = again
        return _refusal(exchange.method, f"{needed.reason}, although the user has just logged in"), None

    async def _ask(self, login: _Login, round_: Round | None) -> None:
        """Wait until the user has logged in. Raises `_Refused` with the result of the call if it does not go on."""
        if await self._brings_code(login):
            return
        if login.exchange.method not in MAY_ASK:
            raise login.in_words()
        if login.exchange.agent.era == "legacy":
            await self._ask_legacy(login)
        else:
            await self._ask_modern(login, round_)
        if login.attempt.at("failed"):
            raise login.refused(f"the login at upstream {login.name} failed: {login.attempt.reason}")

    async def _brings_code(self, login: _Login) -> bool:
        """Whether the call is one of the login tool that brings the code, and the login is then complete.

        Raises `_Refused` if the code is wrong.
        """
        call, attempt = login.call, login.attempt
        if not attempt.at("unconfirmed") or call.original_name != login_tool_name(login.name):
            return False
        code = call.arguments.get(CODE) if call.raw_arguments else None
        if not isinstance(code, str):
            return False
        if not await self._attempts.confirm(attempt, code):
            raise login.refused(f"the code is wrong, and the user is not logged in at {login.name}")
        return True

    # -- legacy agents --------------------------------------------------------------------------------------------

    async def _ask_legacy(self, login: _Login) -> None:
        attempt, back = login.attempt, login.exchange.back
        if attempt.at("open"):
            elicitation = secrets.token_urlsafe(16)
            params = login.url_question(elicitation)
            key = self._place(login, params)
            try:
                await self._answer(login, _until_logged_in(back.ask(ELICIT, params), attempt), elicitation)
            finally:
                self._questions.leave_place(key)
            if attempt.at("complete"):
                back.notify(ELICITED, jsonrpc.encode({"elicitationId": elicitation}))
        was_wrong = False
        while attempt.at("unconfirmed"):
            params = login.code_question(was_wrong=was_wrong)
            key = self._place(login, params)
            try:
                content = await self._answer(login, back.ask(ELICIT, params), form=_CODE_FORM)
            finally:
                self._questions.leave_place(key)
            was_wrong = not await self._attempts.confirm(attempt, _code_in(content))

    async def _answer(
        self,
        login: _Login,
        asking: Coroutine[Any, Any, bytes],
        elicitation: str = "",
        form: Mapping[str, Any] | None = None,
    ) -> bytes:
        """The values of a form that the user accepted; empty without a form.

        Raises `_Refused` if there is no answer, and `RpcError` if the user declines.
        """
        exchange = login.exchange
        try:
            raw = await exchange.ask_before_sending(WHO, ELICIT, asking, self._wait, self._questions.limiter)
            action, content = read_answer(raw, form, "its answer")
        except CannotBeAsked:
            raise (login.in_words() if form is not None else login.url_required(elicitation)) from None
        except NoAnswer:
            log_answer(exchange.id, exchange.generation, GATEWAY_ITSELF, "no answer in time")
            raise login.in_words(f"nothing happened within {self._wait:g} s") from None
        except RpcError as problem:
            log_answer(exchange.id, exchange.generation, GATEWAY_ITSELF, "no answer")
            raise login.in_words(f"the client did not get an answer: {problem.message[:200]}") from None
        log_answer(exchange.id, exchange.generation, GATEWAY_ITSELF, action)
        if action != "accept":
            raise declined(action)
        return content

    # -- modern agents --------------------------------------------------------------------------------------------

    async def _ask_modern(self, login: _Login, round_: Round | None) -> None:
        exchange, attempt = login.exchange, login.attempt
        answered, was_wrong = "" if round_ is None else round_.answered, False
        if answered == CODE:
            content = answers_of(login.call).given[-1].content
            was_wrong = not await self._attempts.confirm(attempt, _code_in(content))
        elif _number_in(round_) == attempt.number and attempt.at("open"):
            await self._questions.wait_on_page(exchange, WHO, LOGIN, _waited(attempt))
        if attempt.at("complete", "failed"):
            return
        is_open = attempt.at("open")
        params = login.url_question() if is_open else login.code_question(was_wrong=was_wrong)
        key = self._place(login, params)
        name, schema = (f"{LOGIN}-{attempt.number}", b"") if is_open else (CODE, jsonrpc.encode(_CODE_FORM))
        pending = Pending(GATEWAY_ITSELF, name, login.call.subject(), schema, key)
        raise _Refused(self._questions.input_required(exchange, pending, params, round_, self._wait))

    def _place(self, login: _Login, params: bytes) -> str:
        """The key of a place for the call. Raises `_Refused` if its agent cannot be asked, `RpcError` at a limit."""
        try:
            return self._questions.take_place(login.exchange, login.call, params, self._wait, login.name)
        except MissingCapability:
            raise login.in_words() from None


async def _until_logged_in(asking: Coroutine[Any, Any, bytes], attempt: LoginAttempt) -> bytes:
    """The user's answer; if it is yes, after the login. A login makes the answer unnecessary."""
    answer, login = asyncio.ensure_future(asking), asyncio.ensure_future(attempt.leave("open"))
    try:
        await asyncio.wait([answer, login], return_when=asyncio.FIRST_COMPLETED)
        if not login.done():
            raw = answer.result()
            if read_answer(raw, None, "its answer")[0] != "accept":
                return raw
            await login
        return _ACCEPTED
    finally:
        for task in (answer, login):
            task.cancel()
        await asyncio.wait([answer, login])
        if not answer.cancelled():
            answer.exception()  # retrieved, so that asyncio does not report it


async def _waited(attempt: LoginAttempt) -> bytes:
    await attempt.leave("open")
    return _ACCEPTED


def _number_in(round_: Round | None) -> int:
    """The number of the attempt that the user was sent to; 0 if this round is no answer to that."""
    number = "" if round_ is None else round_.answered.removeprefix(f"{LOGIN}-")
    return int(number) if number.isdecimal() else 0


def _code_in(content: bytes) -> str:
    values = jsonrpc.value(content) if content else {}
    return str(values.get(CODE, ""))


def _refusal(method: str, why: str) -> CallResult:
    """A refusal. For a tool it is a result, because agents show such results to their model, which tells the user."""
    message = f"Not executed: {why}"
    if method != TOOLS_CALL:
        return CallResult.failed(RpcError.of_gateway(REJECTED, message), Outcome.REFUSED)
    content = {"content": [{"type": "text", "text": message}], "isError": True}
    return CallResult(raw=jsonrpc.encode(content), outcome=Outcome.REFUSED)
