"""Inline calls over event streams, in sessions of legacy servers, over stdio and with servers of the official SDK."""

from __future__ import annotations

import asyncio
import gc
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from gateway_core.api import CallResult, Outcome
from gateway_core.exchange.exchange import Exchange
from gateway_core.http1.client import connection as wire
from gateway_core.http1.client import response as responses
from gateway_core.inline.driver import Running, task_of
from gateway_core.mcp import jsonrpc
from gateway_core.upstream.connections import sessions
from tests.upstream.inline_kit import GOOD, Start, World, ended, http, promoted, response

STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
END = b"0\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def event(data: bytes, eol: bytes = b"\r\n", before: bytes = b"event: message") -> bytes:
    return eol.join((before, b"data: " + data, b"", b""))


def progress(seen: Any, value: float) -> bytes:
    params = {"progressToken": seen.message["params"]["_meta"]["progressToken"], "progress": value}
    return json.dumps({"jsonrpc": "2.0", "method": "notifications/progress", "params": params}).encode()


def in_pieces(*pieces: Callable[[Any], bytes]) -> Any:
    """A script that writes these one by one."""

    async def script(seen: Any, writer: asyncio.StreamWriter) -> None:
        for piece in pieces:
            writer.write(piece(seen))
            await writer.drain()
            await asyncio.sleep(0.01)

    return script


def said(data: bytes) -> Callable[[Any], bytes]:
    return lambda _: data


def answer(eol: bytes = b"\r\n", before: bytes = b"event: message") -> Callable[[Any], bytes]:
    return lambda seen: chunk(event(response(seen), eol, before))


USUAL = {
    "python": (said(STREAM), answer(), said(END)),
    "typescript": (said(STREAM), answer(b"\n"), said(END)),
    "with an id": (said(STREAM), answer(b"\n", b"event: message\nid: 7"), said(END)),
    "without a type": (said(STREAM), answer(b"\n", b": hello"), said(END)),
    "primed": (said(STREAM + chunk(b"id: 1\nretry: 500\ndata: \n\n")), answer(), said(END)),
    "all at once": (lambda seen: STREAM + answer()(seen) + END,),
    "of known length": (lambda seen: http(event(response(seen)), "text/event-stream"),),
    "head and answer, then the end": (lambda seen: STREAM + answer()(seen), said(END)),
    "in two": (
        said(STREAM),
        lambda seen: chunk(event(response(seen))[:30]),
        lambda seen: chunk(event(response(seen))[30:]),
        said(END),
    ),
    "with progress": (said(STREAM), lambda seen: chunk(event(progress(seen, 1))), answer(), said(END)),
    "with something else": (
        said(STREAM),
        said(chunk(event(b'{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":1}}'))),
        answer(),
        said(END),
    ),
    "with another's answer": (
        said(STREAM),
        said(chunk(event(b'{"jsonrpc":"2.0","id":987654,"result":{"content":[]}}'))),
        answer(),
        said(END),
    ),
    "twice": (said(STREAM), lambda seen: answer()(seen) + answer()(seen), said(END)),
}


@pytest.mark.parametrize("what", USUAL)
async def test_a_stream_with_the_answer_in_it_promotes_nothing(world: Start, what: str) -> None:
    made = await world(in_pieces(*USUAL[what]))
    before = made.server.connections
    for _ in range(3):
        running = made.begin(value=1)
        result = await ended(running)
        assert not promoted(running)
        await asyncio.sleep(0.25)  # the end of the stream comes after the answer
        assert (json.loads(result.raw)["content"], result.outcome) == (GOOD["content"], Outcome.OK)
    assert made.server.connections == before, "its connection is used again"
    assert made.at_rest()


BROKEN = {
    "an error": (
        said(STREAM),
        lambda seen: chunk(
            event(b'{"jsonrpc":"2.0","id":%d,"error":{"code":-32000,"message":"no"}}' % seen.message["id"])
        ),
        said(END),
    ),
    "no object": (
        said(STREAM),
        lambda seen: chunk(event(b'{"jsonrpc":"2.0","id":%d,"result":[]}' % seen.message["id"])),
        said(END),
    ),
    "an unknown type": (
        said(STREAM),
        lambda seen: chunk(event(response(seen).replace(b'"complete"', b'"task"'))),
        said(END),
    ),
    "no answer": (said(STREAM), said(END)),
    "nonsense": (said(STREAM), said(chunk(event(b"hello"))), said(END)),
    "no HTTP": (said(STREAM), said(b"nonsense\r\n"), said(END)),
    "a broken end": (said(STREAM + b"1000\r\ndata: "), lambda _: b""),
    "too large": (said(STREAM), said(chunk(b"data: " + b"x" * 20_000)), answer(), said(END)),
    "compressed": (said(STREAM.replace(b"\r\n\r\n", b"\r\nContent-Encoding: gzip\r\n\r\n")), answer(), said(END)),
    "another status": (said(STREAM.replace(b"200 OK", b"503 X")), answer(), said(END)),
}

BROKEN_ENDS = {"an error": Outcome.ERROR, "an unknown type": Outcome.ERROR}
"""How these calls end; the outcome of the others is unknown."""


@pytest.mark.parametrize("what", BROKEN)
async def test_a_stream_without_a_good_answer_ends_its_call(world: Start, what: str) -> None:
    async def script(seen: Any, writer: asyncio.StreamWriter) -> None:
        await in_pieces(*BROKEN[what])(seen, writer)
        if what == "a broken end":
            writer.close()

    made = await world(script, limits={"response_body": 16_000})
    running = made.begin(value=1)
    result = await ended(running)
    assert result.outcome is BROKEN_ENDS.get(what, Outcome.UNKNOWN)
    assert len(made.server.of("tools/call")) == 3, "two to begin with; then it went out once"
    assert made.at_rest()


async def test_a_call_that_is_promoted_in_the_middle_of_its_stream_loses_nothing(world: Start) -> None:
    released = asyncio.Event()

    async def script(seen: Any, writer: asyncio.StreamWriter) -> None:
        data = event(response(seen))
        writer.write(STREAM + chunk(event(progress(seen, 1))) + chunk(data[:40]))
        await released.wait()
        writer.write(chunk(event(b"")[:0] + data[40:]) + END)

    made = await world(script)
    told: list[str] = []

    class Back:
        def notify(self, method: str, params: bytes) -> None:
            told.append(method)

    exchange = Exchange(made.agents["modern"], "tools/call", back=Back(), progress_token=b"5")  # type: ignore[arg-type]
    running = made.pipeline.begin(
        exchange, jsonrpc.members(jsonrpc.encode({"name": "echo", "arguments": {"value": 1}}))
    )
    assert not promoted(running)
    await made.server.until("tools/call", 3)
    async with asyncio.timeout(5):
        while not told:
            await asyncio.sleep(0.005)
    assert not promoted(running)
    task_of(running)
    await asyncio.sleep(0.01)
    released.set()
    assert (await ended(running)).outcome is Outcome.OK
    assert told == ["notifications/progress"]
    assert made.at_rest()


@pytest.mark.parametrize("what", ["slow", "long"])
async def test_an_answer_is_not_kept_waiting_by_what_comes_after_it(
    world: Start, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire, "LINGER", 0.1)
    monkeypatch.setattr(responses, "MAX_SPENT", 1000)
    gone = asyncio.Event()

    async def script(seen: Any, writer: asyncio.StreamWriter) -> None:
        writer.write(STREAM + answer()(seen))
        if what == "long":
            writer.write(chunk(b": " + b"x" * 2000 + b"\n\n"))
        await seen.hang_up()
        gone.set()

    made = await world(script)
    running = made.begin(value=1)
    assert (await ended(running)).outcome is Outcome.OK
    assert not promoted(running)
    await asyncio.wait_for(gone.wait(), 3)
    assert (await ended(made.begin())).outcome is Outcome.OK
    assert made.at_rest()


async def test_a_call_cancelled_in_the_middle_of_its_stream_hangs_up(world: Start) -> None:
    gone = asyncio.Event()

    async def script(seen: Any, writer: asyncio.StreamWriter) -> None:
        writer.write(STREAM + chunk(b": wait\n\n"))
        await seen.hang_up()
        gone.set()

    made = await world(script)
    running = made.begin(value=1)
    await made.server.until("tools/call", 3)
    await asyncio.sleep(0.02)
    assert not promoted(running)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await ended(running)
    await asyncio.wait_for(gone.wait(), 3)
    assert made.at_rest()


@pytest.mark.parametrize("what", ["JSON", "stream", "promoted", "stdio"])
async def test_a_call_leaves_nothing_for_the_garbage_collector(world: Start, what: str) -> None:
    async def script(seen: Any, writer: asyncio.StreamWriter) -> None:
        writer.write(STREAM + answer()(seen) + END if what == "stream" else http(response(seen)))

    made = await world(None if what == "stdio" else script)
    while made.upstream.connections.main is None:
        await asyncio.sleep(0.01)

    async def calls(count: int) -> None:
        for _ in range(count):
            running = made.begin("up:echo", value=1)
            if what == "promoted":
                task_of(running)
            assert (await ended(running)).outcome is Outcome.OK

    await calls(5)
    gc.collect()
    gc.disable()
    try:
        await calls(50)
        await asyncio.sleep(0.05)
        assert gc.collect() < 50
    finally:
        gc.enable()


async def test_a_late_cancellation_leaves_the_connection_to_the_call_that_has_it_now(world: Start) -> None:
    async def script(seen: Any, writer: asyncio.StreamWriter) -> None:
        if seen.message["params"]["arguments"]["value"] != "never":
            await asyncio.sleep(0.05)
            writer.write(http(response(seen)))

    made = await world(script)
    task = task_of(made.begin(value="never"))
    seen = await made.server.until("tools/call", 3)
    (wire,) = [
        one
        for one in made.upstream.connections.http.connections._open
        if one._answer is not None and one not in listeners(made)
    ]
    task.cancel()
    wire.data_received(http(response(seen)))  # the answer comes before the task has noticed
    other = made.begin(value=1)
    assert not promoted(other), "the connection is free"
    assert (await ended(other)).outcome is Outcome.OK
    assert [it.connection for it in made.server.of("tools/call")[-2:]] == [seen.connection] * 2
    with pytest.raises(asyncio.CancelledError):
        await task
    assert made.at_rest()


def listeners(made: World) -> set[Any]:
    """The connections that streams stay open on."""
    return {one for one in made.upstream.connections.http.connections._open if one._response is not None}


async def test_nothing_is_sent_on_the_connection_of_a_cancellation(world: Start) -> None:
    async def script(seen: Any, writer: asyncio.StreamWriter) -> None:
        if seen.message["params"]["arguments"]["value"] == "long":
            await seen.hang_up()
        else:
            writer.write(legacy_answer(seen))

    made = await world(script, era="legacy")
    running = made.begin(value="long")
    await made.server.until("tools/call", 3)
    running.cancel()
    notice = await made.server.until("notifications/cancelled")
    with pytest.raises(asyncio.CancelledError):
        await ended(running)
    await asyncio.sleep(0.05)
    assert (await ended(made.begin(value=1))).outcome is Outcome.OK
    assert notice.headers["connection"] == "close"
    assert [seen for seen in made.server.seen if seen.connection == notice.connection][-1] is notice


# Sessions of legacy servers


def legacy_answer(seen: Any, value: Any = GOOD) -> bytes:
    return http(response(seen, value, "legacy"))


async def well(seen: Any, writer: asyncio.StreamWriter) -> None:
    writer.write(legacy_answer(seen))


def leases(made: World) -> dict[str, Any]:
    return {key: task.result() for key, task in made.upstream.connections.sessions._sessions.items()}


async def test_an_agents_own_connection_carries_inline_calls_once_it_is_open(world: Start) -> None:
    made = await world(well, era="legacy", session="abc", warm=False)
    first = made.begin(era="legacy", value=1)
    assert promoted(first), "it opens the session"
    assert (await ended(first)).outcome is Outcome.OK
    second = made.begin(era="legacy", value=2)
    assert leases(made)["s"].users == 1
    result = await ended(second)
    assert not promoted(second)
    assert result.outcome is Outcome.OK
    (lease,) = leases(made).values()
    assert lease.users == 0
    assert len(made.server.of("initialize")) == 2, "the gateway's own, and the agent's"
    assert made.at_rest()


async def test_a_session_that_ends_with_calls_on_it_is_closed_with_the_last_one(world: Start) -> None:
    released = asyncio.Event()

    async def script(seen: Any, writer: asyncio.StreamWriter) -> None:
        if seen.message["params"]["arguments"]["value"] > 1:
            await released.wait()
        writer.write(legacy_answer(seen))

    made = await world(script, era="legacy", session="abc", warm=False)
    await ended(made.begin(era="legacy", value=1))
    (lease,) = leases(made).values()
    running = [made.begin(era="legacy", value=2), made.begin(era="legacy", value=3)]
    task_of(running[1])
    await made.server.until("tools/call", 3)
    assert lease.users == 2
    made.upstream.end_session("s")
    assert not made.server.of("DELETE")
    released.set()
    assert [(await ended(one)).outcome for one in running] == [Outcome.OK, Outcome.OK]
    await made.server.until("DELETE")
    assert lease.users == 0
    again = made.begin(era="legacy", value=1)
    assert (await ended(again)).outcome is Outcome.OK
    assert promoted(again), "it has a new connection opened"
    assert made.at_rest()


async def test_a_session_that_the_server_has_forgotten_is_opened_again_for_the_next_call(world: Start) -> None:
    async def script(seen: Any, writer: asyncio.StreamWriter) -> None:
        lost = seen.message["params"]["arguments"]["value"] == 404
        writer.write(http(b"", "text/plain", 404) if lost else legacy_answer(seen))

    made = await world(script, era="legacy", session="abc", warm=False)
    await ended(made.begin(era="legacy", value=1))
    lost = made.begin(era="legacy", value=404)
    assert not promoted(lost)
    assert (await ended(lost)).outcome is Outcome.UNKNOWN
    assert (await ended(made.begin(era="legacy", value=1))).outcome is Outcome.OK
    assert len(made.server.of("initialize")) == 3
    assert [lease.users for lease in leases(made).values()] == [0]
    assert made.at_rest()


async def test_the_session_that_was_used_least_recently_makes_room(
    world: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "MAX_SESSIONS", 2)
    made = await world(well, era="legacy", session="abc", warm=False)
    agent = made.agents["legacy"]

    async def call(session: str) -> Running[CallResult]:
        made.agents.setdefault(session, replace(agent, session_id=session, plans={}))
        running = made.begin(era=session, value=1)  # type: ignore[arg-type]
        assert (await ended(running)).outcome is Outcome.OK
        return running

    await call("one")
    await call("two")
    assert not promoted(await call("one"))
    await call("three")
    assert set(leases(made)) == {"one", "three"}
    assert not promoted(await call("one"))


# stdio


@pytest.fixture
async def faulty(world: Start) -> World:
    made = await world(None)
    async with asyncio.timeout(20):
        while made.upstream.connections.main is None:
            await asyncio.sleep(0.01)
    return made


async def test_a_usual_call_of_a_child_has_no_task(faulty: World) -> None:
    running = faulty.begin("up:echo", text="ä\n")
    result = await ended(running)
    assert not promoted(running)
    assert json.loads(result.raw)["arguments"] == {"text": "ä\n"}
    assert faulty.at_rest()


async def test_calls_of_a_child_keep_their_answers_apart(faulty: World) -> None:
    running = [faulty.begin("up:echo", value=number + 1) for number in range(30)]
    results = [await ended(one) for one in running]
    assert [json.loads(result.raw)["arguments"]["value"] for result in results] == list(range(1, 31))
    assert not any(map(promoted, running))
    assert faulty.at_rest()


@pytest.mark.parametrize(
    ("tool", "arguments", "outcome"),
    [
        ("die", {}, Outcome.UNKNOWN),
        ("answer_and_exit", {}, Outcome.OK),
        ("malformed", {}, None),
        ("too_deep", {}, Outcome.UNKNOWN),
        ("not_utf8", {}, Outcome.UNKNOWN),
        ("no_object", {}, Outcome.UNKNOWN),
        ("null_error", {}, Outcome.OK),
        ("cut_emoji", {}, Outcome.OK),
        ("wrong_ids", {}, Outcome.OK),
        ("cancel_me", {}, Outcome.OK),
        ("twice", {}, Outcome.OK),
        ("guess", {}, Outcome.OK),
        ("progress", {}, Outcome.OK),
        ("notify", {}, Outcome.OK),
        ("error", {}, Outcome.ERROR),
        ("long", {"bytes": 100, "id_first": False}, Outcome.OK),
        ("long", {"bytes": 50_000, "id_first": True}, Outcome.UNKNOWN),
        ("question", {"method": "roots/list"}, Outcome.OK),
    ],
)
async def test_what_a_child_does_ends_a_call(
    world: Start, tool: str, arguments: dict[str, Any], outcome: Outcome | None
) -> None:
    made = await world(None, limits={"response_body": 16_000})
    async with asyncio.timeout(20):
        while made.upstream.connections.main is None:
            await asyncio.sleep(0.01)
    before = made.upstream.connections.main
    running = made.begin(f"up:{tool}", **arguments)
    assert not promoted(running)
    if outcome is None:
        await asyncio.sleep(0.2)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await ended(running)
    else:
        assert (await ended(running)).outcome is outcome
    if tool in {"die", "answer_and_exit"}:
        async with asyncio.timeout(20):
            while made.upstream.connections.main in {None, before}:
                await asyncio.sleep(0.05)  # until the next child is there: a start takes time to give up
    else:
        assert made.at_rest()


async def test_a_child_that_dies_ends_every_call_that_it_has_and_is_released(faulty: World) -> None:
    connection: Any = faulty.upstream.connections.main
    running = [faulty.begin("up:silent") for _ in range(5)]
    dying = faulty.begin("up:die")
    results = [await ended(one) for one in (*running, dying)]
    assert {result.outcome for result in results} == {Outcome.UNKNOWN}
    await connection.close()
    assert connection._child._lifeline._socket.fileno() == -1, "nothing of it is left open"


async def test_a_child_is_told_of_a_cancelled_call(faulty: World) -> None:
    running = faulty.begin("up:silent")
    await asyncio.sleep(0.05)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await ended(running)
    received = json.loads((await ended(faulty.begin("up:received"))).raw)["messages"]
    (call,) = [it for it in received if it.get("params", {}).get("name") == "silent"]
    (notice,) = [it for it in received if it["method"] == "notifications/cancelled"]
    assert notice["params"]["requestId"] == call["id"]
    assert faulty.at_rest()


async def test_a_child_that_does_not_read_promotes_its_calls(faulty: World) -> None:
    stuck = faulty.begin("up:read_some", bytes=10)
    filling = [faulty.begin("up:echo", text="x" * 60_000) for _ in range(4)]
    assert any(map(promoted, filling)), "the pipe is full"
    for one in (stuck, *filling):
        one.cancel()
    for one in (stuck, *filling):
        with pytest.raises(asyncio.CancelledError):
            await ended(one)
    assert faulty.pipeline.in_flight == 0


# Servers of the official SDK


@dataclass
class At:
    """The address of a server that the test does not script."""

    url: str


SDK_STDIO = Path(__file__).parent / "servers" / "sdk_stdio.py"


@pytest.mark.parametrize("agent", ["modern", "legacy"])
@pytest.mark.parametrize(
    "flags", [(), ("--json",), ("--legacy-only",), ("--legacy-only", "--json"), ("--legacy-only", "--stateless")]
)
async def test_calls_of_an_official_server_over_http_are_inline(
    sdk_server: Any, world: Start, flags: tuple[str, ...], agent: Any
) -> None:
    made = await world(None, server=At(sdk_server(*flags)))
    await ended(made.begin("add", era=agent, a=1, b=1))
    for number in range(3):
        await asyncio.sleep(0.25)  # a stream ends a little after the answer in it; only then its connection is free
        running = made.begin("add", era=agent, a=1, b=number)
        result = await ended(running)
        assert result.content["content"][0]["text"] == str(1 + number)
        assert not promoted(running)
    await asyncio.sleep(0.05)
    stepping = made.begin("steps", era=agent, count=3)
    assert (await ended(stepping)).content["content"][0]["text"] == "done"
    assert not promoted(stepping)
    assert made.at_rest()


@pytest.mark.parametrize("agent", ["modern", "legacy"])
async def test_calls_of_an_official_server_on_stdio_are_inline(world: Start, agent: Any) -> None:
    made = await world(None, upstream={"args": (str(SDK_STDIO),)})
    await ended(made.begin("add", era=agent, a=1, b=1))  # its lists are private: the first call asks for the agent's
    for number in range(3):
        running = made.begin("add", era=agent, a=1, b=number)
        result = await ended(running)
        assert result.content["content"][0]["text"] == str(1 + number)
        assert not promoted(running)
    assert made.at_rest()
