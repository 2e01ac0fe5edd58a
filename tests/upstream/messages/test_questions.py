"""How much a server may ask at a time: each call has its own share, and refusals are bounded too."""

import asyncio
import json
from typing import Any

import pytest
from loguru import logger

from gateway_core.api import Principal
from gateway_core.exchange.exchange import Agent, Exchange
from gateway_core.mcp import jsonrpc
from gateway_core.mcp.decoder import decode_response
from gateway_core.upstream.base import ClientContext
from gateway_core.upstream.messages import questions as module
from gateway_core.upstream.messages.questions import ServerQuestions


class Silent:
    """An agent that is asked and does not answer."""

    def __init__(self) -> None:
        self.asked = 0

    def notify(self, method: str, params: bytes) -> None:
        raise AssertionError

    async def ask(self, method: str, params: bytes) -> bytes:
        self.asked += 1
        return await asyncio.get_running_loop().create_future()


def question(number: int) -> jsonrpc.Message:
    return decode_response(b'{"jsonrpc":"2.0","id":%d,"method":"roots/list"}' % number)


def call() -> tuple[Exchange, Silent]:
    back = Silent()
    return Exchange(
        Agent(Principal("a"), "legacy", "2025-11-25", capabilities=b'{"roots":{}}'), "tools/call", back
    ), back


async def settled() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_of_many_questions_at_once_as_many_are_asked_as_may_be_open_and_the_others_are_refused() -> None:
    sent: list[bytes] = []

    async def send(data: bytes) -> None:
        sent.append(data)
        await asyncio.get_running_loop().create_future()  # a server that does not take it in

    questions = ServerQuestions("u", ClientContext(lambda *_: None), list, send)
    exchange, agent = call()
    for number in range(1000):
        questions.take(question(number), exchange)
    await settled()
    assert agent.asked == module.MAX_QUESTIONS
    refused = [json.loads(data) for data in sent]
    assert len(refused) == module.MAX_REFUSALS
    assert {answer["error"]["code"] for answer in refused} == {-31005}
    questions.end()
    await settled()


async def test_what_one_call_asks_takes_nothing_from_the_others() -> None:
    async def send(data: bytes) -> None:
        raise AssertionError

    questions = ServerQuestions("u", ClientContext(lambda *_: None), list, send)
    (loud, _), (other, agent) = call(), call()
    for number in range(module.MAX_QUESTIONS):
        questions.take(question(number), loud)
    questions.take(question(1000), other)
    await settled()
    assert agent.asked == 1
    questions.end()
    await settled()


@pytest.mark.parametrize("fields", [{"generation": 3}, {}], ids=["begun by a pipeline", "sent by the gateway"])
@pytest.mark.parametrize("named", [True, False], ids=["on its own stream", "attributed"])
async def test_the_line_about_a_refused_question_names_its_call_and_the_generation(
    named: bool, fields: dict[str, int]
) -> None:
    sent: list[bytes] = []

    async def send(data: bytes) -> None:
        sent.append(data)

    exchange = Exchange(Agent(Principal("a"), "legacy", "2025-11-25"), "tools/call", **fields)
    questions = ServerQuestions("u", ClientContext(lambda *_: None), lambda: [exchange], send)
    lines: list[dict[str, Any]] = []
    sink = logger.add(lambda line: lines.append(dict(line.record["extra"])), level="INFO")
    questions.take(question(1), exchange if named else None)
    async with asyncio.timeout(30):
        while not sent:
            await asyncio.sleep(0)
    logger.remove(sink)
    assert lines == [{"upstream": "u", "exchange": exchange.id, **fields, "question": "roots/list"}]
