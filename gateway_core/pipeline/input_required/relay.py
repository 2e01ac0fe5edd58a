"""Reads `input_required` results of modern upstreams, and puts their questions to legacy agents."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping
from typing import Any, Final

import msgspec
from msgspec import Raw
from msgspec.structs import replace

from gateway_core.errors import UPSTREAM_FAILED, NotSent, OutcomeUnknown, RpcError
from gateway_core.exchange.exchange import Agent, Exchange
from gateway_core.mcp import jsonrpc
from gateway_core.mcp.names import REQUESTS, RESPONSES, STATE
from gateway_core.upstream import capabilities
from gateway_core.upstream.requests import Reply, Request
from gateway_core.upstream.upstream import Upstream

_COMPLETE: Final = Raw(b'"complete"')
MAX_ROUNDS: Final = 16
"""Maximum rounds of questions to a legacy agent within one call."""
MAX_REQUESTS: Final = 32
"""Maximum questions in one result."""


class _Question(msgspec.Struct):
    method: str
    params: Raw = Raw(b"{}")


class InputRequiredResult(msgspec.Struct, frozen=True):
    """An `input_required` result."""

    members: Mapping[str, Raw]
    questions: Mapping[str, _Question]
    state: str | None


def may_ask(reply: Reply) -> bool:
    """A cheap test whether a result may be `input_required`; few are."""
    if reply.members is not None:
        return reply.members.get("resultType", _COMPLETE) != _COMPLETE
    return jsonrpc.has(reply.result, b"input_required")


def input_required(raw: bytes) -> InputRequiredResult | None:
    """The questions of a modern server's result; None if it is not `input_required`.

    Raises `RpcError(UPSTREAM_FAILED)` if it is malformed (basic/patterns/mrtr, InputRequiredResult).
    """
    members = jsonrpc.members(raw)
    try:
        if msgspec.json.decode(members.get("resultType", Raw(b"null"))) != "input_required":
            return None
        questions = msgspec.json.decode(members.get(REQUESTS, Raw(b"{}")), type=dict[str, _Question])
        state = msgspec.json.decode(members.get(STATE, Raw(b"null")), type=str | None)
    except (msgspec.DecodeError, RecursionError):
        raise invalid("it asks for input in a form that is none") from None
    if state is None and not questions:
        raise invalid("it asks for input and does not say for what")
    if len(questions) > MAX_REQUESTS:
        raise invalid(f"it asks more than {MAX_REQUESTS} questions at once")
    return InputRequiredResult(members, questions, state)


def check_questions(agent: Agent, asked: InputRequiredResult) -> None:
    """Raise `RpcError(UPSTREAM_FAILED)` if a question needs a capability that the agent did not declare."""
    for question in asked.questions.values():
        try:
            capabilities.check(agent, question.method, bytes(question.params))
        except RpcError as error:
            raise invalid(f"it asks for {question.method[:100]}, but {error.message}") from None


def first_round(request: Request) -> Request:
    """The request without the members of later rounds: answers and request state."""
    if RESPONSES not in request.params and STATE not in request.params:
        return request
    return with_params(request, {key: it for key, it in request.params.items() if key not in (RESPONSES, STATE)})


def with_params(request: Request, params: Mapping[str, Any]) -> Request:
    """The request with other `params`, and without its plan's prepared bytes, which no longer match."""
    return replace(request, params=params, templates=None)


async def ask_and_repeat(upstream: Upstream, exchange: Exchange, request: Request, first: Reply) -> Reply:
    """Ask a legacy agent a modern upstream's questions, and repeat the request with its answers.

    Raises as `Upstream.request` does, but `OutcomeUnknown` instead of `NotSent`, because a first round has run. Raises
    `RpcError` if the agent gives no answer, or if the server asks more than `MAX_ROUNDS` times.
    """
    reply, plain = first, first_round(request)
    for _ in range(MAX_ROUNDS):
        asked = input_required(reply.result) if reply.error is None and may_ask(reply) else None
        if asked is None:
            return reply
        check_questions(exchange.agent, asked)
        params = dict(plain.params)
        if asked.questions:
            params[RESPONSES] = await _answers(upstream.name, exchange, asked)
        if asked.state is not None:
            params[STATE] = asked.state
        try:
            reply = await upstream.request(exchange, with_params(plain, params))
        except NotSent as problem:
            raise OutcomeUnknown(f"it went away between two rounds of the call: {problem.reason}") from None
    raise invalid(f"it asked for input {MAX_ROUNDS} times, which is the limit")


async def _answers(upstream: str, exchange: Exchange, asked: InputRequiredResult) -> dict[str, Raw]:
    keys = list(asked.questions)
    tasks = [asyncio.ensure_future(_answer(upstream, exchange, question)) for question in asked.questions.values()]
    try:
        answers = await asyncio.gather(*tasks)
    except BaseException:
        for task in tasks:
            task.cancel()  # withdraw the other questions
        await asyncio.wait(tasks)
        raise
    return dict(zip(keys, answers, strict=True))


async def _answer(upstream: str, exchange: Exchange, question: _Question) -> Raw:
    params = bytes(question.params)
    if question.method == capabilities.ELICIT:
        params = _with_elicitation_id(params)
    try:
        return Raw(await exchange.ask(upstream, question.method, params))
    except RpcError:
        if question.method != capabilities.ELICIT:
            raise
        return Raw(b'{"action":"cancel"}')  # a modern client's answer for a dismissed question


def _with_elicitation_id(params: bytes) -> bytes:
    """Add an `elicitationId` in URL mode: 2025-11-25 requires it, unlike 2026-07-28 (client/elicitation, URL Mode)."""
    members: dict[str, Any] = dict(jsonrpc.members(params))
    if "elicitationId" in members or jsonrpc.text(members.get("mode", Raw(b'"form"')), "mode") != "url":
        return params
    return jsonrpc.encode(members | {"elicitationId": secrets.token_urlsafe(16)})


def invalid(what: str) -> RpcError:
    return RpcError.of_gateway(UPSTREAM_FAILED, f"the upstream's answer is invalid: {what}")
