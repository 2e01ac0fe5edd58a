"""Questions to an agent: bounded, answered once, over with the session."""

import asyncio

import pytest

from gateway_core.downstream.streams.questions import AgentQuestions
from gateway_core.errors import RpcError
from gateway_core.mcp.decoder import decode_request


async def test_questions_are_bounded_and_end_with_the_session() -> None:
    questions = AgentQuestions()
    sent: list[bytes] = []
    asked = [asyncio.ensure_future(questions.ask(sent.append, "roots/list", b"")) for _ in range(64)]
    await asyncio.sleep(0)
    with pytest.raises(RpcError):
        await questions.ask(sent.append, "roots/list", b"")
    questions.answer(decode_request(b'{"jsonrpc":"2.0","id":1,"result":{"roots":[]}}'))
    questions.answer(decode_request(b'{"jsonrpc":"2.0","id":2,"result":[]}'))
    questions.end()
    outcomes = await asyncio.gather(*asked, return_exceptions=True)
    assert outcomes[0] == b'{"roots":[]}'
    assert all(isinstance(outcome, RpcError) for outcome in outcomes[1:])
    assert len(sent) == 64
    with pytest.raises(RpcError):
        await questions.ask(sent.append, "roots/list", b"")


async def test_an_error_of_null_beside_a_result_is_no_error() -> None:
    questions = AgentQuestions()
    asked = asyncio.ensure_future(questions.ask(lambda message: None, "roots/list", b""))
    await asyncio.sleep(0)
    questions.answer(decode_request(b'{"jsonrpc":"2.0","id":1,"result":{"roots":[]},"error":null}'))
    assert await asyncio.wait_for(asked, 5) == b'{"roots":[]}'
