"""Messages that are almost right: understood where the SDK clients understand them, and else an error at once."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from msgspec import Raw

from gateway_core.api import Outcome, UpstreamState
from gateway_core.config import LimitsConfig, UpstreamConfig
from gateway_core.errors import UnusableAnswer
from gateway_core.exchange.exchange import Exchange
from gateway_core.upstream.base import ClientContext, NoMcpAnswer
from gateway_core.upstream.messages.malformed import request_answered, tolerated
from gateway_core.upstream.transports.stdio import StdioConnection
from tests.upstream.inline_kit import ended

FAULTY = str(Path(__file__).parents[1] / "servers" / "faulty.py")
CALL = ("tools/call", {"name": "t", "arguments": {}})

TEXT_IDS = {
    "text": '{"jsonrpc":"2.0","id":"N","result":{"a":1}}',
    "spaced": '{ "jsonrpc": "2.0", "id": "N", "result": { "a": 1 } }',
    "last": '{"result":{"a":1},"jsonrpc":"2.0","id":"N"}',
}
"""Responses whose id is the text of the request's."""

ALMOST_JSON = {
    "NaN": ('{"jsonrpc":"2.0","id":N,"result":{"a":NaN}}', "NaN is not a JSON value"),
    "spaced NaN": ('{"jsonrpc": "2.0", "id": N, "result": {"a": NaN}}', "NaN is not a JSON value"),
    "Infinity": ('{"jsonrpc":"2.0","id":N,"result":{"a":Infinity}}', "Infinity is not a JSON value"),
    "-Infinity": ('{"jsonrpc":"2.0","id":N,"result":{"a":-Infinity}}', "-Infinity is not a JSON value"),
    "True": ('{"jsonrpc":"2.0","id":N,"result":{"a":True}}', "True is not a JSON value"),
    "undefined": ('{"jsonrpc":"2.0","id":N,"result":{"a":undefined}}', "undefined is not a JSON value"),
    "control character": ('{"jsonrpc":"2.0","id":N,"result":{"a":"x\x01y"}}', "a control character"),
    "tab": ('{"jsonrpc":"2.0","id":N,"result":{"a":"x\ty"}}', "a control character"),
    "comma in an array": ('{"jsonrpc":"2.0","id":N,"result":{"a":[1,2,]}}', "trailing comma in array"),
    "comma in an object": ('{"jsonrpc":"2.0","id":N,"result":{"a":1,}}', "trailing comma in object"),
    "comma at the end": ('{"result":{},"jsonrpc":"2.0","id":N,}', "trailing comma in object"),
    "behind": ('{"result":{"a":NaN},"jsonrpc":"2.0","id":N}', "NaN is not a JSON value"),
    "behind, other order": ('{"result":{"a":NaN},"id":N,"jsonrpc":"2.0"}', "NaN is not a JSON value"),
    "id first": ('{"id":N,"jsonrpc":"2.0","result":{"a":NaN}}', "NaN is not a JSON value"),
    "id as text": ('{"jsonrpc":"2.0","id":"N","result":{"a":NaN}}', "NaN is not a JSON value"),
    "error": ('{"jsonrpc":"2.0","id":N,"error":{"code":1,"message":"a\tb"}}', "a control character"),
    "escape": ('{"jsonrpc":"2.0","id":N,"result":{"a":"\\x41"}}', "invalid escaped character"),
    "two values": ('{"jsonrpc":"2.0","id":N,"result":{}} {}', "trailing characters"),
    "cut": ('{"jsonrpc":"2.0","id":N,"result":{"a":"b', "truncated"),
    "leading zero": ('{"jsonrpc":"2.0","id":N,"result":{"a":01}}', "invalid number"),
}
"""Responses that are almost JSON, and what the error says."""


@pytest.fixture
async def faulty() -> AsyncIterator[StdioConnection]:
    """A connection to `faulty.py`."""
    heard: list[tuple[str, bytes]] = []

    def on_notification(method: str, params: Raw, exchange: Exchange | None) -> None:
        heard.append((method, bytes(params)))

    config = UpstreamConfig(name="faulty", transport="stdio", command=sys.executable, args=(FAULTY,))
    connection = StdioConnection(config, LimitsConfig(), ClientContext(on_notification))
    await connection.open("legacy")
    connection.heard = heard  # type: ignore[attr-defined]
    yield connection
    await connection.close()


async def say(connection: StdioConnection, text: str, *, answer: bool = True) -> Any:
    """Call the tool that writes `text`, with the id of the call in place of N."""
    reply = await connection.request("tools/call", {"name": "raw", "arguments": {"text": text, "answer": answer}})
    assert reply.error is None
    return json.loads(reply.result)


def over_http(text: str, *, streamed: bool = False) -> Any:
    """A script that answers each call with `text`, with the id of the call in place of ID."""

    async def script(seen: Any, writer: Any) -> None:
        body = text.replace("ID", str(seen.message["id"]))
        kind = "text/event-stream" if streamed else "application/json"
        data = f"data: {body}\n\n" if streamed else body
        head = f"HTTP/1.1 200 X\r\nContent-Type: {kind}\r\n"
        if streamed:
            writer.write(f"{head}\r\n{data}".encode())
            await seen.hang_up()  # the stream stays open
        else:
            writer.write(f"{head}Content-Length: {len(data.encode())}\r\n\r\n{data}".encode())

    return script


def with_id(text: str) -> str:
    """`text` with ID in place of N."""
    return text.replace('"id":N', '"id":ID').replace('"id": N', '"id": ID').replace('"N"', '"ID"')


# -- ids -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", TEXT_IDS)
async def test_an_id_that_comes_back_as_text_is_the_id(faulty: StdioConnection, what: str) -> None:
    assert await say(faulty, TEXT_IDS[what], answer=False) == {"a": 1}
    assert faulty.unexpected.counts.total() == 0


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("what", TEXT_IDS)
async def test_an_id_that_comes_back_as_text_over_http_is_the_id(
    scripted: Any, connect: Any, what: str, streamed: bool
) -> None:
    script = over_http(with_id(TEXT_IDS[what]), streamed=streamed)
    link = await connect((await scripted(script)).url)
    assert json.loads((await link.connection.request(*CALL)).result) == {"a": 1}


@pytest.mark.parametrize("wrong", ["0N", " N", "N ", "+N", "N.0", "Nx", "x"])
async def test_another_text_is_not_the_id(faulty: StdioConnection, wrong: str) -> None:
    reply = await say(faulty, f'{{"jsonrpc":"2.0","id":"{wrong}","result":{{}}}}')
    assert reply["tool"] == "raw"
    assert faulty.unexpected.counts.total() == 1


# -- almost JSON ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ALMOST_JSON)
async def test_almost_json_is_an_error_of_its_call_at_once(faulty: StdioConnection, what: str) -> None:
    text, reason = ALMOST_JSON[what]
    other = asyncio.create_task(say(faulty, ""))
    with pytest.raises(UnusableAnswer, match=reason):
        await say(faulty, text, answer=False)
    assert (await other)["tool"] == "raw"


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("what", [name for name, (text, _) in ALMOST_JSON.items()])
async def test_almost_json_over_http_is_an_error_of_its_call(
    scripted: Any, connect: Any, what: str, streamed: bool
) -> None:
    text, reason = ALMOST_JSON[what]
    link = await connect((await scripted(over_http(with_id(text), streamed=streamed))).url)
    with pytest.raises(UnusableAnswer, match=reason):
        await link.connection.request(*CALL)


async def test_an_error_quotes_nothing_of_the_payload(faulty: StdioConnection) -> None:
    with pytest.raises(UnusableAnswer) as caught:
        await say(faulty, '{"jsonrpc":"2.0","id":N,"result":{"password":"hunter2","a":NaN}}', answer=False)
    assert "hunter2" not in caught.value.reason


async def test_no_malformed_answer_ejects_an_upstream(world: Any) -> None:
    made = await world(None, upstream={"transport": "stdio"})
    for _ in range(12):
        found = await ended(made.begin("up:raw", text=ALMOST_JSON["NaN"][0], answer=False))
        assert found.outcome is Outcome.UNKNOWN
        assert b"NaN is not a JSON value" in found.raw
    assert made.upstream.facts.state is UpstreamState.HEALTHY
    assert made.upstream.errors == 12
    assert (await ended(made.begin("up:echo", n=1))).outcome is Outcome.OK


@pytest.mark.parametrize(
    "body", ["{oops", "[1]", "", "<html>", '{"a": NaN}', '{"jsonrpc":"2.0","id":9,"result":{"a":,}}']
)
async def test_what_answers_no_request_is_no_answer_over_http(scripted: Any, connect: Any, body: str) -> None:
    async def script(seen: Any, writer: Any) -> None:
        head = f"HTTP/1.1 200 X\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(f"{head}{body}".encode())

    link = await connect((await scripted(script)).url)
    with pytest.raises(NoMcpAnswer):
        await link.connection.request(*CALL)


@pytest.mark.parametrize(
    "data",
    [
        b'{"jsonrpc":"2.0","id":7,"method":"ping","params":{"a":NaN}}',
        b'{"jsonrpc":"2.0","method":"x","params":{"a":NaN,"id":7}}',
        b'{"jsonrpc":"2.0","method":"x","params":{"result":{},"jsonrpc":"2.0","id":7},}',
        b'{"a":NaN,"id":7}',
        b'{"result":{"a":NaN,"id":7}}',
        b"{oops",
        b"",
    ],
)
def test_no_id_is_guessed(data: bytes) -> None:
    assert request_answered(data) == 0


# -- empty members -------------------------------------------------------------------------------------------------

EMPTY = {
    "params null": '{"jsonrpc":"2.0","method":"notifications/tools/list_changed","params":null}',
    "params list": '{"jsonrpc":"2.0","method":"notifications/tools/list_changed","params":[]}',
    "id null": '{"jsonrpc":"2.0","id":null,"method":"notifications/tools/list_changed"}',
    "both null": '{ "jsonrpc": "2.0", "id": null, "method": "notifications/tools/list_changed", "params": null }',
    "id null, params": '{"jsonrpc":"2.0","id":null,"method":"notifications/tools/list_changed","params":{}}',
}


@pytest.mark.parametrize("what", EMPTY)
async def test_a_notification_with_empty_members_is_heard(faulty: StdioConnection, what: str) -> None:
    assert (await say(faulty, EMPTY[what]))["tool"] == "raw"
    heard: list[tuple[str, bytes]] = faulty.heard  # type: ignore[attr-defined]
    assert [method for method, _ in heard] == ["notifications/tools/list_changed"]
    assert faulty.unexpected.counts.total() == 0


@pytest.mark.parametrize("what", EMPTY)
async def test_a_notification_with_empty_members_is_heard_over_http(scripted: Any, connect: Any, what: str) -> None:
    async def script(seen: Any, writer: Any) -> None:
        reply = json.dumps({"jsonrpc": "2.0", "id": seen.message["id"], "result": {}})
        writer.write(b"HTTP/1.1 200 X\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n")
        writer.write(f"data: {EMPTY[what]}\n\ndata: {reply}\n\n".encode())
        writer.close()

    link = await connect((await scripted(script)).url)
    await link.connection.request(*CALL)
    assert link.notifications == ["notifications/tools/list_changed"]


async def test_a_message_to_the_log_with_a_null_id_keeps_its_params(faulty: StdioConnection) -> None:
    text = '{"jsonrpc":"2.0","id":null,"method":"notifications/message","params":{"level":"info","data":[null, 1]}}'
    await say(faulty, text)
    [(method, params)] = faulty.heard  # type: ignore[attr-defined]
    assert (method, json.loads(params)) == ("notifications/message", {"level": "info", "data": [None, 1]})


async def test_a_request_with_null_params_is_answered(faulty: StdioConnection) -> None:
    await say(faulty, '{"jsonrpc":"2.0","id":"q1","method":"ping","params":null}')
    async with asyncio.timeout(5):
        while {"jsonrpc": "2.0", "id": "q1", "result": {}} not in (await say_received(faulty)):
            await asyncio.sleep(0.01)


async def say_received(connection: StdioConnection) -> list[Any]:
    reply = await connection.request("tools/call", {"name": "received", "arguments": {}})
    found: list[Any] = json.loads(reply.result)["messages"]
    return found


@pytest.mark.parametrize(
    "data",
    [
        b'{"jsonrpc":"2.0","method":"x","params":{}}',
        b'{"jsonrpc":"2.0","method":"x","params":null,"params":{"a":1}}',
        b'{"jsonrpc":"2.0","method":"x","id":null,"id":7}',
        b'{"jsonrpc":"2.0","id":null,"result":{}}',
        b'{"jsonrpc":"2.0","id":[],"method":"x"}',
        b'{"jsonrpc":"2.0","params":null}',
        b"[]",
        b"{oops",
    ],
)
def test_other_messages_are_not_rewritten(data: bytes) -> None:
    assert tolerated(data) is None
