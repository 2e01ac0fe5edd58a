"""What every shared channel does with messages. The servers are real child processes."""

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from msgspec import Raw

from gateway_core.api import Principal
from gateway_core.config import LimitsConfig, UpstreamConfig
from gateway_core.errors import NotSent, OutcomeUnknown
from gateway_core.exchange.exchange import Agent, Exchange
from gateway_core.inline.deadlines import Deadlines
from gateway_core.inline.driver import InlineCall
from gateway_core.upstream.base import ClientContext
from gateway_core.upstream.pending import Pending
from gateway_core.upstream.requests import Reply
from gateway_core.upstream.transports.stdio import StdioConnection

SERVERS = Path(__file__).parents[1] / "servers"


class Agents:
    """A back channel that remembers."""

    def __init__(self) -> None:
        self.told: list[tuple[str, dict]] = []

    def notify(self, method: str, params: bytes) -> None:
        self.told.append((method, json.loads(params)))

    async def ask(self, method: str, params: bytes) -> bytes:
        raise AssertionError("nobody may be asked")


def an_exchange(**values: object) -> Exchange:
    agent = Agent(Principal("a"), "legacy", "2025-11-25")
    return Exchange(agent, "tools/call", back=Agents(), **values)


def make(script: str, *args: str, notified: list | None = None) -> StdioConnection:
    config = UpstreamConfig(
        name="server", transport="stdio", command=sys.executable, args=(str(SERVERS / script), *args)
    )
    seen = [] if notified is None else notified
    return StdioConnection(
        config, LimitsConfig(), ClientContext(lambda method, params, _: seen.append((method, bytes(params))))
    )


@pytest.fixture
async def faulty() -> AsyncIterator[StdioConnection]:
    connection = make("faulty.py")
    await connection.open("legacy")
    yield connection
    await connection.close()


@pytest.fixture
async def sdk() -> AsyncIterator[StdioConnection]:
    connection = make("sdk_stdio.py")
    await connection.open(None)
    yield connection
    await connection.close()


async def call(
    connection: StdioConnection, tool: str, /, exchange: Exchange | None = None, **arguments: object
) -> dict:
    reply = await connection.request("tools/call", {"name": tool, "arguments": arguments}, exchange=exchange)
    assert reply.error is None, reply.error
    return json.loads(reply.result)


async def test_era_of_a_modern_server_is_found(sdk: StdioConnection) -> None:
    assert sdk.info is not None
    assert (sdk.info.era, sdk.info.name, sdk.info.version) == ("modern", "sdk-stdio", "1.2.3")


async def test_a_server_that_only_knows_initialize_is_legacy() -> None:
    connection = make("faulty.py")
    info = await connection.open(None)
    assert (info.era, info.name) == ("legacy", "faulty")
    sent = (await call(connection, "received"))["messages"]
    assert [message["method"] for message in sent][:3] == [
        "server/discover",
        "initialize",
        "notifications/initialized",
    ]
    await connection.close()


async def test_raw_arguments_arrive_as_they_were_given(sdk: StdioConnection) -> None:
    big = 123456789012345678901234567890
    arguments = Raw(b'{"text": "line\\nline\xe2\x80\xa8%d"}' % big)
    reply = await sdk.request("tools/call", {"name": "echo", "arguments": arguments})
    assert json.loads(reply.result)["content"][0]["text"] == f"line\nline\u2028{big}"


async def test_a_line_break_between_tokens_does_not_break_the_line(faulty: StdioConnection) -> None:
    reply = await faulty.request("tools/call", {"name": "echo", "arguments": Raw(b'{"a":\r\n 1}')})
    assert json.loads(reply.result)["arguments"] == {"a": 1}


async def test_each_of_many_concurrent_calls_gets_its_own_answer(sdk: StdioConnection) -> None:
    answers = await asyncio.gather(*(call(sdk, "add", a=number, b=1000) for number in range(100)))
    assert [answer["structuredContent"]["result"] for answer in answers] == [1000 + n for n in range(100)]


async def test_the_servers_error_is_the_reply(faulty: StdioConnection) -> None:
    reply = await faulty.request("tools/call", {"name": "error"})
    assert reply.error is not None
    assert (reply.error.code, reply.error.message) == (-32602, "no such tool")


async def test_progress_reaches_the_exchange_that_asked(sdk: StdioConnection) -> None:
    asked, silent = an_exchange(progress_token=b'"mine"'), an_exchange()
    await asyncio.gather(call(sdk, "count", exchange=asked, to=3), call(sdk, "count", exchange=silent, to=3))
    assert [params["progress"] for _, params in asked.back.told] == [1, 2, 3]
    assert {params["progressToken"] for _, params in asked.back.told} == {"mine"}
    assert silent.back.told == []


async def test_progress_extends_the_deadline_of_an_exchange_that_did_not_ask(sdk: StdioConnection) -> None:
    exchange = an_exchange()
    before = asyncio.get_running_loop().time() + 5
    coroutine = call(sdk, "count", exchange=exchange, to=2)
    counting = InlineCall(Deadlines(), when=before, idle_limit=30, coroutine=coroutine)
    exchange.deadline = counting
    counting.step()
    await counting
    assert counting.when > before + 20


async def test_foreign_and_decreasing_progress_is_dropped(faulty: StdioConnection) -> None:
    exchange = an_exchange(progress_token=b"7")
    await call(faulty, "progress", exchange=exchange)
    assert [params["progress"] for _, params in exchange.back.told] == [1, 3, 4]
    assert faulty.unexpected.counts["progress of no request"] == 2


async def test_no_progress_token_without_an_exchange(faulty: StdioConnection) -> None:
    assert (await call(faulty, "echo"))["meta"] == {}


async def test_the_agents_meta_passes_without_its_reserved_keys(faulty: StdioConnection) -> None:
    meta = {"traceparent": "00-1", "progressToken": "agent's", "io.modelcontextprotocol/clientInfo": {"name": "agent"}}
    reply = await faulty.request("tools/call", {"name": "echo"}, meta=meta)
    assert json.loads(reply.result)["meta"] == {"traceparent": "00-1"}


async def test_the_exchange_is_marked_sent(faulty: StdioConnection) -> None:
    exchange = an_exchange()
    await call(faulty, "echo", exchange=exchange)
    assert exchange.sent


@pytest.mark.parametrize("tool", ["banner", "wrong_ids"])
async def test_noise_and_wrong_ids_are_skipped_and_counted(faulty: StdioConnection, tool: str) -> None:
    assert await call(faulty, tool) == {"tool": tool}
    assert faulty.unexpected.counts.total() == 3


@pytest.mark.parametrize(
    ("tool", "ending"), [("malformed", TimeoutError), ("not_utf8", OutcomeUnknown), ("too_deep", OutcomeUnknown)]
)
async def test_a_malformed_message_costs_only_the_call_it_answered(
    faulty: StdioConnection, tool: str, ending: type[Exception]
) -> None:
    """At once where its id can be read, and else when its time is up."""
    with pytest.raises(ending):
        async with asyncio.timeout(0.5):
            await call(faulty, tool)
    assert faulty.unexpected.counts["malformed message"] == 1
    assert await call(faulty, "echo", a=1) == {"tool": "echo", "arguments": {"a": 1}, "meta": {}}


UNREADABLE = {
    "method": '{"jsonrpc":"2.0","id":N,"method":"\xff"}',
    "notification": '{"jsonrpc":"2.0","method":"\xff"}',
    "version": '{"jsonrpc":"\xff","method":"ping"}',
    "id": '{"jsonrpc":"2.0","id":"\xff","method":"ping"}',
    "params": '{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":"\xff"}}',
    "name of a member": '{"jsonrpc":"2.0","method":"x","\xff":1}',
    "name in params": '{"jsonrpc":"2.0","method":"notifications/progress","params":{"\xff":1}}',
    "answer to nobody": '{"jsonrpc":"2.0","id":987,"result":{"\xff":1}}',
    "half a character": '{"jsonrpc":"2.0","method":"\xe2\x82"}',
    "half a surrogate pair": '{"jsonrpc":"2.0","method":"\\ud800"}',
    "surrogate in UTF-8": '{"jsonrpc":"2.0","method":"\xed\xa0\x80"}',
}


@pytest.mark.parametrize("what", UNREADABLE)
async def test_a_message_that_is_no_utf8_costs_no_answer_that_came_with_it(faulty: StdioConnection, what: str) -> None:
    assert (await call(faulty, "raw", text=UNREADABLE[what], answer=True))["tool"] == "raw"
    assert (await call(faulty, "echo"))["tool"] == "echo"


MALFORMED = {
    "result": '{"jsonrpc":"2.0","id":N,"result":{"text":"\xff"}}',
    "error": '{"jsonrpc":"2.0","id":N,"error":{"code":1,"message":"\xff"}}',
    "unknown member": '{"jsonrpc":"2.0","id":N,"result":{},"\xff":1}',
    "id twice": '{"jsonrpc":"2.0","id":N,"result":{},"id":N}',
    "other id first": '{"jsonrpc":"2.0","id":987,"result":{},"id":N}',
    "result twice": '{"jsonrpc":"2.0","id":N,"result":{},"result":{"a":1}}',
    "result twice, spaced": '{"jsonrpc": "2.0", "id": N, "result": {"a": [1, 2]}, "result": {"a": [1, 2]}}',
    "error twice": '{"jsonrpc":"2.0","id":N,"error":{"code":1,"message":""},"error":{"code":2,"message":""}}',
    "result and error": '{"jsonrpc":"2.0","id":N,"result":{},"error":{"code":2,"message":""}}',
    "twice behind escapes": '{"jsonrpc":"2.0","id":N,"result":{},"\\u0072esult":{"a":1}}',
}


@pytest.mark.parametrize("what", MALFORMED)
async def test_a_malformed_answer_ends_its_call_and_no_other(faulty: StdioConnection, what: str) -> None:
    other = asyncio.create_task(call(faulty, "echo", n=1))
    with pytest.raises(OutcomeUnknown, match="malformed"):
        await call(faulty, "raw", text=MALFORMED[what], answer=False)
    assert (await other)["arguments"] == {"n": 1}


WELL_FORMED = {
    "spaces": '{ "jsonrpc" : "2.0" , "id" : N , "result" : { "id": 1, "result": [1,  2] } }',
    "unknown member": '{"jsonrpc":"2.0","id":N,"result":{"id":1},"took":"15 ms, id: 1","\xc3\xa9": {"id": 1}}',
    "last": '{"result":{"id":1,"result":{"id":1}},"error":null,"id":N,"jsonrpc":"2.0"}',
}


@pytest.mark.parametrize("what", WELL_FORMED)
async def test_an_answer_is_read_however_it_is_written(faulty: StdioConnection, what: str) -> None:
    assert (await call(faulty, "raw", text=WELL_FORMED[what], answer=False))["id"] == 1


async def test_a_bug_at_one_message_costs_that_message_alone(
    faulty: StdioConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(method: str, in_flight: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("gateway_core.upstream.transports.duplex.whose", broken)
    text = '{"jsonrpc":"2.0","method":"notifications/message","params":{}}'
    assert (await call(faulty, "raw", text=text, answer=True))["tool"] == "raw"
    assert faulty.unexpected.counts["message that the gateway failed to read"] == 1


async def test_a_listener_that_fails_closes_its_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(watcher: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("gateway_core.upstream.notifications.subscription.ModernWatcher.run", broken)
    connection = make("faulty.py", "modern")
    await connection.open(None)
    async with asyncio.timeout(5):
        assert "failed to read" in await connection.wait_closed()
    await connection.close()


async def test_a_result_that_is_no_object_leaves_the_outcome_unknown(faulty: StdioConnection) -> None:
    with pytest.raises(OutcomeUnknown, match="not an object"):
        await call(faulty, "no_object")


async def test_an_error_that_is_null_is_none(faulty: StdioConnection) -> None:
    assert await call(faulty, "null_error") == {"tool": "null_error"}


async def test_a_text_cut_inside_an_emoji_arrives(faulty: StdioConnection) -> None:
    assert await call(faulty, "cut_emoji") == {"text": "so nice \ufffd"}
    listed = await faulty.request("tools/list", {})
    assert json.loads(listed.result)["tools"][0]["description"] == "so nice \ufffd"


async def test_the_first_of_two_answers_wins(faulty: StdioConnection) -> None:
    assert await call(faulty, "twice") == {"tool": "twice"}
    await call(faulty, "echo")
    assert faulty.unexpected.counts["late or repeated response"] == 1


async def test_an_answer_that_came_before_its_request_is_not_its_answer(faulty: StdioConnection) -> None:
    assert await call(faulty, "guess") == {"tool": "guess"}
    assert (await call(faulty, "echo"))["tool"] == "echo"
    assert faulty.unexpected.counts["response to no request"] == 1


async def test_a_request_that_still_waits_to_be_sent_cannot_be_answered(faulty: StdioConnection) -> None:
    busy = asyncio.create_task(call(faulty, "guess_while_busy"))
    await asyncio.sleep(0.05)
    filling = asyncio.create_task(call(faulty, "echo", text="z" * 1_000_000))
    await asyncio.sleep(0)
    assert (await call(faulty, "echo", text="real"))["arguments"] == {"text": "real"}
    await asyncio.gather(busy, filling)
    assert faulty.unexpected.counts["response to no request"] == 1


async def test_ping_is_answered_and_other_questions_are_refused(faulty: StdioConnection) -> None:
    pong = (await call(faulty, "question", method="ping"))["answer"]
    assert pong == {"jsonrpc": "2.0", "id": "q", "result": {}}
    refusal = (await call(faulty, "question", method="sampling/createMessage"))["answer"]
    assert (refusal["id"], refusal["error"]["code"]) == ("q", -32601)


async def test_what_the_server_says_by_itself_is_passed_on() -> None:
    notified: list = []
    connection = make("faulty.py", notified=notified)
    await connection.open("legacy")
    await call(connection, "notify")
    assert [method for method, _ in notified] == ["notifications/message", "notifications/tools/list_changed"]
    await connection.close()


async def test_cancelling_a_call_tells_a_legacy_server(faulty: StdioConnection) -> None:
    task = asyncio.create_task(call(faulty, "silent"))
    await call(faulty, "echo")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    heard = (await call(faulty, "received"))["messages"]
    silent = next(m["id"] for m in heard if m.get("params", {}).get("name") == "silent")
    cancelled = [m["params"]["requestId"] for m in heard if m["method"] == "notifications/cancelled"]
    assert cancelled == [silent]


async def test_cancelling_a_call_stops_it_in_a_modern_server(sdk: StdioConnection) -> None:
    task = asyncio.create_task(call(sdk, "sleep", seconds=30, tag="nap"))
    await call(sdk, "echo", text="x")
    task.cancel()
    async with asyncio.timeout(1):
        while (await call(sdk, "stopped_calls"))["structuredContent"]["result"] != "nap":
            await asyncio.sleep(0.02)


async def test_giving_up_the_handshake_is_not_told(faulty: StdioConnection) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await faulty.send("tools/call", {"name": "silent"})
    heard = (await call(faulty, "received"))["messages"]
    assert "notifications/cancelled" not in [message["method"] for message in heard]


async def test_an_unanswered_call_leaves_nothing_behind(faulty: StdioConnection) -> None:
    for _ in range(3):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await call(faulty, "silent")
    assert faulty._pending == {}


async def test_closing_ends_every_pending_call_and_says_why(faulty: StdioConnection) -> None:
    tasks = [asyncio.create_task(call(faulty, "silent")) for _ in range(5)]
    await call(faulty, "echo")
    await faulty.close()
    ends = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(end, OutcomeUnknown) and "closed by the gateway" in end.reason for end in ends)
    assert faulty.closed
    assert await faulty.wait_closed() == "was closed by the gateway"
    await faulty.close()


async def test_a_closed_connection_sends_nothing(faulty: StdioConnection) -> None:
    await faulty.close()
    exchange = an_exchange()
    with pytest.raises(NotSent, match="closed by the gateway"):
        await call(faulty, "echo", exchange=exchange)
    with pytest.raises(NotSent):
        await faulty.notify("notifications/cancelled")
    assert not exchange.sent


async def test_an_unopened_connection_sends_nothing_and_closes() -> None:
    connection = make("faulty.py")
    with pytest.raises(NotSent):
        await connection.request("ping", {})
    await connection.close()
    assert connection.closed


async def test_ids_are_never_reused(faulty: StdioConnection) -> None:
    replies: list[Reply] = [await faulty.request("ping", {}) for _ in range(3)]
    assert all(reply.error is not None for reply in replies)
    ids = [m["id"] for m in (await call(faulty, "received"))["messages"] if "id" in m]
    assert ids == sorted(set(ids))


async def test_a_modern_server_tells_of_changed_lists() -> None:
    notified: list = []
    connection = make("sdk_stdio.py", notified=notified)
    await connection.open(None)
    async with asyncio.timeout(5):
        while not notified:
            await call(connection, "change_tools")
            await asyncio.sleep(0.05)
    assert notified[0][0] == "notifications/tools/list_changed"
    await connection.close()


async def test_a_subscription_is_asked_for_again_when_the_server_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway_core.upstream.notifications.pauses.FIRST_DELAY", 0.05)
    notified: list = []
    connection = make("faulty.py", "modern", notified=notified)
    await connection.open(None)
    async with asyncio.timeout(5):
        while not notified:
            await asyncio.sleep(0.01)
    assert notified == [("notifications/tools/list_changed", b"{}")]
    heard = (await call(connection, "received"))["messages"]
    listens = [m for m in heard if m["method"] == "subscriptions/listen"]
    assert [m["params"]["notifications"] for m in listens] == [{"toolsListChanged": True}] * 2
    assert connection.unexpected.counts == {}
    await connection.close()


async def test_a_modern_servers_request_is_not_answered() -> None:
    connection = make("faulty.py", "modern")
    await connection.open(None)
    task = asyncio.create_task(call(connection, "question", method="ping"))
    async with asyncio.timeout(5):
        while not connection.unexpected.counts:
            await asyncio.sleep(0.01)
    # What the server reads next is the next request, not an answer.
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(0.2):
            await call(connection, "echo")
    assert "method" in (await task)["answer"]
    await connection.close()


async def test_a_server_is_told_of_a_cancelled_call_before_its_connection_is_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    connection = make("faulty.py")
    await connection.open("legacy")
    transmit, sent = connection._transmit, []

    async def slowly(data: bytes, pending: Pending | None = None) -> None:
        await asyncio.sleep(0.02)
        await transmit(data, pending)
        sent.append(json.loads(data))

    monkeypatch.setattr(connection, "_transmit", slowly)
    calling = asyncio.create_task(call(connection, "silent"))
    async with asyncio.timeout(5):
        while not sent:
            await asyncio.sleep(0.005)
    calling.cancel()
    await asyncio.wait([calling])
    await connection.close()
    assert [message["method"] for message in sent] == ["tools/call", "notifications/cancelled"]


async def test_a_server_is_told_of_each_of_many_calls_cancelled_at_once(faulty: StdioConnection) -> None:
    tasks = [asyncio.ensure_future(call(faulty, "silent", an_exchange())) for _ in range(200)]
    await call(faulty, "echo")
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    heard: list[dict] = []
    async with asyncio.timeout(10):
        while [message["method"] for message in heard].count("notifications/cancelled") < 200:
            heard = (await call(faulty, "received"))["messages"]


async def test_no_server_can_cancel_a_call(faulty: StdioConnection) -> None:
    assert await call(faulty, "cancel_me") == {"tool": "cancel_me"}
    assert faulty.unexpected.counts.total() == 1
