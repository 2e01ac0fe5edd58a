"""Inline calls over a scripted server: what they wait for without a task, and what promotes them."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from gateway_core import Call, CallResult, Reject, hookimpl
from gateway_core.api import Era, Outcome
from gateway_core.downstream.agents import meta_of
from gateway_core.exchange.exchange import Exchange
from gateway_core.inline.driver import task_of
from gateway_core.mcp import jsonrpc
from gateway_core.upstream.lists.fetched_lists import FetchedLists
from tests.upstream.inline_kit import GOOD, Start, ended, http, promoted, response


async def well(seen: Any, writer: asyncio.StreamWriter) -> None:
    writer.write(http(response(seen, GOOD, "modern")))


@pytest.mark.parametrize("agent", ["modern", "legacy"])
@pytest.mark.parametrize("server", ["modern", "legacy"])
async def test_an_inline_call_ends_like_a_promoted_one(world: Start, agent: Era, server: Era) -> None:
    async def script(seen: Any, writer: asyncio.StreamWriter) -> None:
        writer.write(http(response(seen, GOOD, server)))

    made = await world(script, era=server)
    before = made.pipeline.calls
    running = made.begin(era=agent, text="ä")
    assert not promoted(running)
    inline = await ended(running)
    assert not promoted(running)
    in_task = await made.pipeline.call(
        Exchange(made.agents[agent], "tools/call"),
        jsonrpc.members(jsonrpc.encode({"name": "echo", "arguments": {"text": "ä"}})),
    )
    assert (inline.raw, inline.outcome, inline.upstream) == (in_task.raw, in_task.outcome, in_task.upstream)
    first, second = (json.loads(seen.body) for seen in made.server.of("tools/call")[-2:])
    for sent in (first, second):
        assert sent["params"]["_meta"].pop("progressToken") == sent.pop("id")
        assert sent["params"]["_meta"].pop("dev.radium.gateway/idempotencyKey")
    assert first == second
    heads = [dict(seen.headers) for seen in made.server.of("tools/call")[-2:]]
    for head in heads:
        del head["content-length"]
    assert heads[0] == heads[1]
    assert made.pipeline.calls == before + 2
    assert made.at_rest()


MODERN_META = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientInfo": {"name": "m", "version": "1"},
    "io.modelcontextprotocol/clientCapabilities": {},
}


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"arguments": {}},
        {"_meta": {}},
        {"_meta": {"progressToken": 7}},
        {"_meta": {"progressToken": "a", "vendor/tool-use": "x%d", "traceparent": "00-1"}, "arguments": {"a": "%b"}},
        {"_meta": {**MODERN_META, "vendor/größe": {"deep": [1, {"b": None}]}}},
        {"_meta": {"dev.radium.gateway/idempotencyKey": "mine", "a": 1}},
        {"_meta": 5},
    ],
    ids=str,
)
@pytest.mark.parametrize("server", ["modern", "legacy"])
async def test_what_an_agent_adds_goes_out_inline_and_promoted(
    world: Start, server: Era, params: dict[str, Any]
) -> None:
    made = await world(well, era=server, warm=False)
    members = jsonrpc.members(jsonrpc.encode({"name": "up:other", **params}))
    sent = []
    for way in ("inline", "promoted"):
        exchange = Exchange(made.agents["modern"], "tools/call", meta=meta_of(members))
        await ended(made.pipeline.begin(exchange, members))  # opens a connection
        exchange = Exchange(made.agents["modern"], "tools/call", meta=meta_of(members))
        running = made.pipeline.begin(exchange, members)
        assert not promoted(running)
        if way == "promoted":
            exchange = Exchange(made.agents["modern"], "tools/call", meta=meta_of(members))
            assert (await made.pipeline.call(exchange, members)).outcome is Outcome.OK
        assert (await ended(running)).outcome is Outcome.OK
        body = made.server.of("tools/call")[-1].body
        found = jsonrpc.members(jsonrpc.members(body)["params"])
        meta = {key: json.loads(bytes(value)) for key, value in jsonrpc.members(found["_meta"]).items()}
        assert body.count(b"idempotencyKey") == 1
        assert meta.pop("progressToken") == json.loads(body)["id"]
        assert meta.pop("dev.radium.gateway/idempotencyKey") == exchange.id
        sent.append((bytes(found["name"]), bytes(found.get("arguments", b"")), meta))
    assert sent[0] == sent[1]
    assert len(made.agents["modern"].plans) == 1
    assert made.at_rest()


UNUSUAL = {
    "an error": lambda seen: http(
        b'{"jsonrpc":"2.0","id":%d,"error":{"code":-32000,"message":"no"}}' % seen.message["id"]
    ),
    "a stream": lambda seen: http(b"data: " + response(seen) + b"\n\n", "text/event-stream"),
    "a status": lambda seen: http(b"busy", "text/plain", 503),
    "white space": lambda seen: http(json.dumps(json.loads(response(seen)), indent=1).encode()),
    "another id": lambda seen: http(response(seen).replace(b'"id":', b'"id":1')),
    "no object": lambda seen: http(b'{"jsonrpc":"2.0","id":%d,"result":[]}' % seen.message["id"]),
    "no JSON": lambda seen: http(b"{"),
    "no HTTP": lambda seen: b"nonsense\r\n\r\n",
    "escapes": lambda seen: http(response(seen).replace(b"good", b"\\u0067ood\\ud83d")),
    "an unknown type": lambda seen: http(response(seen).replace(b'"complete"', b'"task"')),
    "too deep": lambda seen: http(response(seen).replace(b'"good"', b"[" * 70 + b"]" * 70)),
}

ENDS = {
    "an error": Outcome.ERROR,
    "a stream": Outcome.OK,
    "white space": Outcome.OK,
    "escapes": Outcome.OK,
    "an unknown type": Outcome.ERROR,
}
"""How these calls end; the outcome of the others is unknown."""


@pytest.mark.parametrize("what", UNUSUAL)
async def test_an_unusual_answer_ends_its_call_and_is_sent_once(world: Start, what: str) -> None:
    async def script(seen: Any, writer: asyncio.StreamWriter) -> None:
        writer.write(UNUSUAL[what](seen))

    made = await world(script)
    result = await ended(made.inline(value=1))
    assert result.outcome is ENDS.get(what, Outcome.UNKNOWN)
    calls = [seen for seen in made.server.of("tools/call") if seen.message["params"]["arguments"]]
    assert len(calls) == 1
    assert made.at_rest()


async def test_an_answer_in_pieces_is_waited_for(world: Start) -> None:
    async def script(seen: Any, writer: asyncio.StreamWriter) -> None:
        answer = http(response(seen))
        for start in range(0, len(answer), 25):
            writer.write(answer[start : start + 25])
            await asyncio.sleep(0.002)

    made = await world(script)
    assert (await ended(made.inline(value=1))).outcome is Outcome.OK
    assert made.at_rest()


async def test_a_chunked_answer_that_comes_at_once_promotes_nothing(world: Start) -> None:
    async def script(seen: Any, writer: asyncio.StreamWriter) -> None:
        body = response(seen)
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
        writer.write(head + b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body))

    made = await world(script)
    running = made.inline(value=1)
    assert (await ended(running)).outcome is Outcome.OK
    assert not promoted(running)
    assert made.at_rest()


async def test_a_server_that_goes_away_leaves_the_outcome_unknown(world: Start) -> None:
    async def script(seen: Any, writer: asyncio.StreamWriter) -> None:
        writer.close()

    made = await world(script)
    result = await ended(made.inline(value=1))
    assert result.outcome is Outcome.UNKNOWN
    assert len([seen for seen in made.server.of("tools/call") if seen.message["params"]["arguments"]]) == 1
    assert made.at_rest()


async def forever(seen: Any, writer: asyncio.StreamWriter) -> None:
    await seen.hang_up()


async def test_a_cancelled_call_hangs_up_and_is_over(world: Start) -> None:
    made = await world(forever)
    running = made.inline(value=1)
    await made.server.until("tools/call", 3)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await ended(running)
    assert running.cancelled()
    assert made.at_rest()
    assert (await ended(made.begin())).outcome is Outcome.OK


async def test_a_cancelled_call_of_a_legacy_server_is_cancelled_there(world: Start) -> None:
    made = await world(forever, era="legacy")
    running = made.inline(value=1, era="legacy")
    seen = await made.server.until("tools/call", 3)
    running.cancel()
    notice = await made.server.until("notifications/cancelled")
    assert notice.message["params"]["requestId"] == seen.message["id"]
    with pytest.raises(asyncio.CancelledError):
        await ended(running)
    assert made.at_rest()


async def test_a_promoted_call_keeps_its_deadline(world: Start) -> None:
    made = await world(forever, timeout=5.0)
    running = made.inline(value=1)
    running.move(asyncio.get_running_loop().time() + 0.2)
    task_of(running)
    task_of(running)
    result = await ended(running)
    assert result.outcome is Outcome.UNKNOWN
    assert "timed out" in result.raw.decode()
    assert made.at_rest()


async def test_a_call_that_is_promoted_while_it_waits_gets_its_answer(world: Start) -> None:
    released = asyncio.Event()

    async def script(seen: Any, writer: asyncio.StreamWriter) -> None:
        await released.wait()
        writer.write(http(response(seen)))

    made = await world(script)
    running = made.inline(value=1)
    await made.server.until("tools/call", 3)
    task = task_of(running)
    await asyncio.sleep(0.01)
    assert made.pipeline.in_flight == made.upstream.facts.in_flight == 1
    released.set()
    assert (await ended(running)).outcome is Outcome.OK
    assert task.done()
    assert made.at_rest()


async def test_the_end_of_the_gateway_ends_it_with_the_truth(world: Start) -> None:
    made = await world(forever)
    running = made.inline(value=1)
    await made.server.until("tools/call", 3)
    made.pipeline.end_all("the gateway stopped")
    result = await ended(running)
    assert result.outcome is Outcome.UNKNOWN
    assert "the gateway stopped" in result.raw.decode()
    assert made.at_rest()


class Sneaky:
    """Hooks that are no coroutine functions and have to be waited for all the same."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    @hookimpl
    def before_call(self, call: Call) -> Any:
        async def later() -> Call:
            await asyncio.sleep(0)
            self.seen.append("before")
            return call.replace(arguments={**call.arguments, "added": 1})

        return later()

    @hookimpl
    def after_call(self, call: Call, result: CallResult) -> Any:
        async def later() -> None:
            await asyncio.sleep(0)
            self.seen.append(f"after {call.arguments.get('added')}")

        return later()


async def test_hooks_that_wait_are_waited_for_once(world: Start) -> None:
    sneaky = Sneaky()
    made = await world(well, sneaky)
    sneaky.seen.clear()
    assert (await ended(made.begin(value=1))).outcome is Outcome.OK
    assert sneaky.seen == ["before", "after 1"]
    assert made.server.of("tools/call")[-1].message["params"]["arguments"] == {"value": 1, "added": 1}
    assert made.at_rest()


async def test_an_after_call_that_waits_keeps_the_result(world: Start) -> None:
    class After:
        seen = 0

        @hookimpl
        async def after_call(self, call: Call, result: CallResult) -> CallResult:
            await asyncio.sleep(0)
            self.seen += 1
            return CallResult.text("instead")

    after = After()
    made = await world(well, after)
    after.seen = 0
    result = await ended(made.inline(value=1))
    assert (result.content["content"][0]["text"], after.seen) == ("instead", 1)
    assert made.at_rest()


async def test_a_call_that_is_cancelled_right_after_its_promotion_leaves_nothing(world: Start) -> None:
    class Slow:
        told: list[Outcome] = []  # noqa: RUF012

        @hookimpl
        async def before_call(self, call: Call) -> None:
            await asyncio.sleep(10)

        @hookimpl
        async def after_call(self, call: Call, result: CallResult) -> None:
            self.told.append(result.outcome)

    class Plain:
        told: list[Outcome] = []  # noqa: RUF012

        @hookimpl
        def before_call(self, call: Call) -> None:
            return None

        @hookimpl
        def after_call(self, call: Call, result: CallResult) -> None:
            self.told.append(result.outcome)

    made = await world(well, Plain(), Slow(), warm=False)
    running = made.begin(value=1)
    assert promoted(running)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await ended(running)
    await asyncio.sleep(0.02)
    assert Plain.told == [Outcome.CANCELLED]
    assert made.at_rest()


@pytest.mark.parametrize("verdict", ["reject", "answer", "raise", "rewrite"])
async def test_what_a_hook_decides_is_decided_once(world: Start, verdict: str) -> None:
    class Judge:
        asked = after = 0

        @hookimpl
        def before_call(self, call: Call) -> Any:
            if not call.arguments:
                return None
            self.asked += 1
            match verdict:
                case "reject":
                    return Reject("not today")
                case "answer":
                    return CallResult.text("mine")
                case "rewrite":
                    return call.replace(name="other")
            raise ValueError

        @hookimpl
        def after_call(self, call: Call, result: CallResult) -> None:
            self.after += bool(call.arguments)

    judge = Judge()
    made = await world(well, judge)
    result = await ended(made.begin(value=1))
    assert judge.asked == 1
    assert judge.after == (verdict != "raise")
    assert result.outcome is {"answer": Outcome.OK, "rewrite": Outcome.OK}.get(verdict, Outcome.REFUSED)
    if verdict == "rewrite":
        assert made.server.of("tools/call")[-1].message["params"]["name"] == "other"
    assert made.at_rest()


async def test_an_after_call_that_fails_withholds_the_result(world: Start) -> None:
    class Failing:
        @hookimpl
        def after_call(self, call: Call, result: CallResult) -> None:
            if call.arguments:
                raise ValueError

    made = await world(well, Failing())
    result = await ended(made.inline(value=1))
    assert result.error is not None
    assert "the call was executed and its result is withheld" in result.error.message
    assert made.at_rest()


async def test_a_full_upstream_makes_it_wait_for_a_place(world: Start) -> None:
    released = asyncio.Event()

    async def script(seen: Any, writer: asyncio.StreamWriter) -> None:
        await released.wait()
        writer.write(http(response(seen)))

    made = await world(script, upstream={"max_in_flight": 1})
    first, second = made.inline(value=1), made.begin(value=2)
    await made.server.until("tools/call", 3)
    await asyncio.sleep(0.02)
    assert len(made.server.of("tools/call")) == 3
    task_of(first)
    released.set()
    assert (await ended(first)).outcome is (await ended(second)).outcome is Outcome.OK
    assert made.at_rest()


async def test_many_at_once_keep_their_answers_apart(world: Start) -> None:
    async def script(seen: Any, writer: asyncio.StreamWriter) -> None:
        value = seen.message["params"]["arguments"]["value"]
        await asyncio.sleep(0.001 * (value % 7))
        writer.write(http(response(seen, {"content": [{"type": "text", "text": str(value)}]})))

    made = await world(script)
    running = [made.begin(value=number + 1) for number in range(60)]
    results = [await ended(one) for one in running]
    assert [int(result.content["content"][0]["text"]) for result in results] == list(range(1, 61))
    assert made.at_rest()


async def test_a_changed_catalog_is_looked_at_again(world: Start) -> None:
    made = await world(well)
    assert (await ended(made.inline(value=1))).outcome is Outcome.OK
    made.upstream.published.fetched = FetchedLists()
    made.catalog.rebuild()
    result = await ended(made.begin(value=1))
    assert result.error is not None
    assert "Unknown tool" in result.error.message
    assert made.at_rest()


async def test_a_percent_sign_in_a_name_goes_out_as_it_is(world: Start) -> None:
    made = await world(well)
    result = await ended(made.begin(name="up:100%d", value=1))
    assert result.outcome is Outcome.OK
    assert made.server.of("tools/call")[-1].message["params"]["name"] == "100%d"
    assert made.at_rest()
