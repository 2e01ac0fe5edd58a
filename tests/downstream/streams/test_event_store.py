"""Streams that outlive their connections: ids, resumption, take-over, bounds."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from loguru import logger

from gateway_core.downstream.streams.event_store import EventStore
from gateway_core.downstream.streams.stream import Keep, Mailbox
from gateway_core.limits.accounts import Account
from gateway_core.limits.budget import MemoryBudget


class Wire:
    """What a response looks like to a stream; `broken` after so many writes."""

    def __init__(self, broken: int = 10**9) -> None:
        self.written: list[bytes] = []
        self.broken = broken

    async def write(self, data: bytes) -> None:
        if len(self.written) >= self.broken:
            raise ConnectionResetError
        self.written.append(data)

    @property
    def messages(self) -> list[bytes]:
        lines = [line for block in self.written for line in block.splitlines()]
        return [line.removeprefix(b"data: ") for line in lines if line.startswith(b"data: ")]


@pytest.fixture
def room(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Set the bounds of what is kept."""

    def bound(**limits: float) -> None:
        for name, limit in limits.items():
            monkeypatch.setattr(f"gateway_core.downstream.streams.event_store.{name.upper()}", limit)

    return bound


async def written(kept: EventStore, *messages: bytes, finish: bool = True) -> Any:
    """A stream that was written to its end."""
    mailbox = Mailbox()
    stream = kept.begin(mailbox)
    for message in messages:
        mailbox.put(message, Keep.ALWAYS)
    mailbox.close()
    if finish:
        stream.finish()
    await stream.serve(Wire())  # type: ignore[arg-type]
    return stream


async def resumed(kept: EventStore, stream: Any, after: int) -> list[bytes] | None:
    found = kept.find(f"{stream.name}-{after}")
    if found is None:
        return None
    wire = Wire()
    await found[0].serve(wire, found[1])  # type: ignore[arg-type]
    return wire.messages


async def drained(*streams: Any) -> None:
    """Wait until the readers of these streams have taken everything."""
    async with asyncio.timeout(5):
        while any(stream.mailbox.size for stream in streams):
            await asyncio.sleep(0)


async def test_what_came_after_an_event_is_told_again() -> None:
    kept = EventStore()
    stream = await written(kept, b"1", b"2", b"3")
    assert await resumed(kept, stream, 0) == [b"1", b"2", b"3"]
    assert await resumed(kept, stream, 2) == [b"3"]
    assert await resumed(kept, stream, 3) == []
    kept.close()


async def test_events_that_never_were_are_not_found() -> None:
    kept, other = EventStore(), EventStore()
    stream, foreign = await written(kept, b"1"), await written(other, b"1")
    for number in ("2", "", "-1", "x", "\uff11", "1" * 19, "1 "):
        assert kept.find(f"{stream.name}-{number}") is None
    assert kept.find(f"{foreign.name}-1") is None
    assert kept.find("") is None
    kept.close()
    other.close()


async def test_a_write_that_breaks_loses_nothing() -> None:
    kept = EventStore()
    mailbox = Mailbox()
    stream = kept.begin(mailbox)
    for number in range(4):
        mailbox.put(b"%d" % number)
    wire = Wire(broken=2)
    await stream.serve(wire)  # type: ignore[arg-type]
    assert wire.messages == [b"0", b"1"]
    mailbox.close()
    assert await resumed(kept, stream, 2) == [b"2", b"3"]
    kept.close()


async def test_a_bug_in_writing_is_told_at_once_and_costs_nothing() -> None:
    class Buggy(Wire):
        async def write(self, data: bytes) -> None:
            raise ZeroDivisionError(data)

    lines: list[str] = []
    sink = logger.add(lines.append, level="ERROR", diagnose=False)
    kept = EventStore()
    stream = kept.begin(Mailbox())
    stream.mailbox.put(b"secret")
    await asyncio.wait_for(stream.serve(Buggy()), 5)  # type: ignore[arg-type]
    logger.remove(sink)
    (line,) = lines
    assert "ZeroDivisionError while writing a stream" in line
    assert "in write" in line
    assert "secret" not in line
    stream.mailbox.close()
    assert await resumed(kept, stream, 0) == [b"secret"]
    kept.close()


async def test_a_new_connection_takes_the_stream_from_the_old_one() -> None:
    kept = EventStore()
    mailbox = Mailbox()
    stream = kept.begin(mailbox)
    old, new = Wire(), Wire()
    first = asyncio.ensure_future(stream.serve(old))  # type: ignore[arg-type]
    await asyncio.sleep(0)
    mailbox.put(b"1")
    await asyncio.sleep(0.01)
    second = asyncio.ensure_future(stream.serve(new, 0))  # type: ignore[arg-type]
    await asyncio.wait_for(first, 1)
    mailbox.put(b"2")
    mailbox.close()
    await asyncio.wait_for(second, 1)
    assert old.messages == [b"1"]
    assert new.messages == [b"1", b"2"]


async def test_of_one_stream_the_oldest_events_go_but_never_the_newest(room: Callable[..., None]) -> None:
    kept = EventStore()
    room(kept_events=2)
    stream = await written(kept, b"1", b"2", b"3")
    assert await resumed(kept, stream, 0) == [b"2", b"3"]
    room(kept_bytes=100)
    stream = await written(kept, b"a" * 90, b"b" * 20, b"c" * 500)
    assert await resumed(kept, stream, 0) == [b"c" * 500]
    kept.close()


async def told(kept: EventStore, *messages: bytes) -> Any:
    """A standalone GET stream whose connection broke after the last of these messages."""
    mailbox = Mailbox()
    stream = kept.begin(mailbox, standalone=True)
    for message in messages:
        mailbox.put(message)
    await stream.serve(Wire(broken=len(messages) - 1))  # type: ignore[arg-type]
    return stream


async def test_a_standing_stream_is_not_resumed_where_something_is_missing(room: Callable[..., None]) -> None:
    room(kept_events=2)
    kept = EventStore()
    stream = await told(kept, b"1", b"2", b"3", b"4")
    assert [number for number in range(6) if kept.find(f"{stream.name}-{number}") is not None] == [2, 3, 4]
    kept.close()


async def test_a_call_is_resumed_for_its_answer_though_something_is_missing(room: Callable[..., None]) -> None:
    room(kept_events=2)
    kept = EventStore()
    ended = await written(kept, b"1", b"2", b"3", b"answer")
    assert await resumed(kept, ended, 0) == [b"3", b"answer"]
    running = kept.begin(Mailbox())
    for number in range(4):
        running.mailbox.put(b"%d" % number)
    await running.serve(Wire(broken=3))  # type: ignore[arg-type]
    running.mailbox.put(b"answer", Keep.ALWAYS)
    running.mailbox.close()
    assert await resumed(kept, running, 1) == [b"2", b"3", b"answer"]
    kept.close()


async def test_of_the_streams_of_a_session_those_go_first_that_lose_least(room: Callable[..., None]) -> None:
    kept = EventStore()
    unanswered = kept.begin(Mailbox())
    shared = Mailbox()
    read = kept.begin(shared, standalone=True)
    reading = asyncio.ensure_future(read.serve(Wire()))  # type: ignore[arg-type]
    await asyncio.sleep(0)  # it has a connection
    ended = await written(kept, b"1")
    unread = await told(kept, b"1")
    empty = kept.begin(Mailbox(), standalone=True)
    room(kept_streams=5)
    streams = {"unanswered": unanswered, "read": read, "ended": ended, "unread": unread, "empty": empty}
    gone = []
    for _ in range(5):
        kept.begin(Mailbox())  # worth as much as the unanswered one, but newer
        gone += [name for name, stream in streams.items() if not kept.has(stream) and name not in gone]
    assert gone == ["empty", "ended", "unread", "read", "unanswered"]
    assert unanswered.mailbox.closed
    shared.close()
    await reading
    kept.close()


async def test_bytes_of_a_session_are_bounded(room: Callable[..., None]) -> None:
    room(kept_session_bytes=1000)
    kept = EventStore()
    first = await written(kept, b"x" * 600)
    second = await written(kept, b"x" * 600)
    huge = await written(kept, b"x" * 5000)
    assert [kept.has(stream) for stream in (first, second, huge)] == [False, False, True]
    kept.close()


@pytest.mark.parametrize("read", [True, False], ids=["with readers", "without readers"])
async def test_bytes_of_a_session_are_bounded_while_its_streams_grow(room: Callable[..., None], read: bool) -> None:
    room(kept_session_bytes=1000)
    kept = EventStore()
    streams = [kept.begin(Mailbox()) for _ in range(4)]
    readers = [asyncio.ensure_future(stream.serve(Wire())) for stream in streams if read]  # type: ignore[arg-type]
    for _ in range(5):
        for stream in streams:
            stream.mailbox.put(b"x" * 100)
        if read:
            await drained(*streams)
        assert sum(stream.size for stream in streams) <= 1000
    assert [kept.has(stream) for stream in streams] == [False, False, True, True]
    kept.close()
    for stream in streams:
        stream.mailbox.close()
    await asyncio.gather(*readers)


async def test_what_a_standing_stream_was_told_counts(room: Callable[..., None]) -> None:
    room(kept_session_bytes=1000)
    kept = EventStore()
    older = await written(kept, b"x" * 600)
    mailbox = Mailbox()
    standalone = kept.begin(mailbox, standalone=True)
    mailbox.put(b"x" * 600)
    assert kept.has(older)
    mailbox.close()
    await standalone.serve(Wire())  # type: ignore[arg-type]
    assert not kept.has(older)
    kept.close()


async def test_a_stream_that_is_not_kept_holds_nothing_once_its_connection_breaks(room: Callable[..., None]) -> None:
    kept = EventStore()
    stream = kept.begin(Mailbox())
    wire = Wire()
    reading = asyncio.ensure_future(stream.serve(wire))  # type: ignore[arg-type]
    await asyncio.sleep(0)
    kept.drop(stream)
    stream.mailbox.put(b"1")
    await drained(stream)
    assert wire.messages == [b"1"]
    wire.broken = 0
    stream.mailbox.put(b"2")
    stream.mailbox.put(b"3")
    await asyncio.wait_for(reading, 5)
    stream.mailbox.put(b"4")
    assert stream.size == 0


async def test_a_finished_stream_is_kept_for_some_time_only(room: Callable[..., None]) -> None:
    room(kept_for=0.05)
    kept = EventStore()
    open_stream, stream = await written(kept, b"1", finish=False), await written(kept, b"1")
    async with asyncio.timeout(5):
        while kept.has(stream):
            await asyncio.sleep(0.01)
    assert kept.has(open_stream)
    kept.close()


# -- over sockets -------------------------------------------------------------------------------------------------


def call(name: str, request_id: Any = 1, **arguments: Any) -> dict[str, Any]:
    params = {"name": name, "arguments": arguments, "_meta": {"progressToken": "t"}}
    return {"jsonrpc": "2.0", "id": request_id, "method": "tools/call", "params": params}


async def read_event(response: aiohttp.ClientResponse) -> dict[str, str]:
    """The fields of the next event."""
    found: dict[str, str] = {}
    async with asyncio.timeout(5):
        while line := (await response.content.readline()).decode():
            if line == "\n":
                if found:
                    return found
                continue
            name, _, value = line.rstrip("\n").partition(":")
            if name:
                found[name] = value.removeprefix(" ")
    raise AssertionError("the stream ended")


async def read_rest(response: aiohttp.ClientResponse) -> list[dict[str, str]]:
    events = []
    while True:
        try:
            events.append(await read_event(response))
        except AssertionError:
            return events


@asynccontextmanager
async def resume(world: Any, session: dict[str, str], event_id: str) -> AsyncIterator[aiohttp.ClientResponse]:
    async with world.http.get(world.url, headers={**session, "Last-Event-ID": event_id}) as response:
        yield response


async def broken_call(world: Any, session: dict[str, str], *events: int) -> list[dict[str, str]]:
    """Begin a call whose connection breaks after so many events, while it goes on."""
    async with world.http.post(world.url, json=call("announced", 7), headers=session) as response:
        found = [await read_event(response) for _ in range(*events)]
        response.close()
    return found


async def test_a_broken_stream_is_resumed_to_its_answer(world: Any) -> None:
    session = await world.initialize()
    priming, progress = await broken_call(world, session, 2)
    assert (priming["data"], priming["retry"]) == ("", "1000")
    assert json.loads(progress["data"])["params"]["progress"] == 1
    async with resume(world, session, progress["id"]) as response:
        assert (response.status, response.content_type) == (200, "text/event-stream")
        world.pipeline.released.set()
        later, answer = await read_rest(response)
    assert json.loads(later["data"])["params"]["progress"] == 2
    assert json.loads(answer["data"])["id"] == 7
    ids = [event["id"] for event in (priming, progress, later, answer)]
    assert len(set(ids)) == 4
    assert len({event_id.partition("-")[0] for event_id in ids}) == 1


async def test_an_answer_that_came_while_no_stream_was_open_is_kept(world: Any) -> None:
    session = await world.initialize()
    (priming,) = await broken_call(world, session, 1)
    world.pipeline.released.set()
    await world.downstream.gate.wait_empty(2)
    for _ in range(2):  # the connection of the resumption may break, too
        async with resume(world, session, priming["id"]) as response:
            events = await read_rest(response)
        assert [json.loads(event["data"]).get("id") for event in events] == [None, None, 7]
    async with resume(world, session, events[-1]["id"]) as response:
        assert (response.status, await read_rest(response)) == (200, [])


async def test_a_cancelled_call_ends_the_stream_that_was_left(world: Any) -> None:
    session = await world.initialize()
    (priming,) = await broken_call(world, session, 1)
    cancel = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 7}}
    await world.post(cancel, session)
    async with resume(world, session, priming["id"]) as response:
        events = await read_rest(response)
    assert json.loads(events[-1]["data"])["error"]["code"] == -31006


async def test_a_resumption_gets_nothing_of_other_streams(world: Any) -> None:
    session = await world.initialize()
    (priming,) = await broken_call(world, session, 1)
    other = await world.post(call("progress", 8), session)
    assert other.events[-1]["id"] == 8
    world.catalog.change("tools")
    world.pipeline.released.set()
    async with resume(world, session, priming["id"]) as response:
        events = await read_rest(response)
    assert [json.loads(event["data"]).get("id") for event in events] == [None, None, 7]
    async with world.http.get(world.url, headers=session) as standalone:
        assert (await read_event(standalone))["data"] == ""
        assert json.loads((await read_event(standalone))["data"])["method"] == "notifications/tools/list_changed"


async def test_foreign_and_forged_events_get_nothing(world: Any) -> None:
    session, other = await world.initialize("a"), await world.initialize("b")
    (priming,) = await broken_call(world, session, 1)
    name = priming["id"].partition("-")[0]
    attempts = [(other, priming["id"]), (session, f"{name}-99"), (session, "0123456789abcdef-0"), (session, "1")]
    for headers, event_id in attempts:
        async with resume(world, headers, event_id) as response:
            assert response.status == 400
            assert (await response.json())["error"]["code"] == -32600
    world.pipeline.released.set()
    async with resume(world, session, priming["id"]) as response:  # nothing of it was taken
        assert json.loads((await read_rest(response))[-1]["data"])["id"] == 7


async def test_what_is_kept_no_longer_is_a_bad_request(world: Any, room: Callable[..., None]) -> None:
    room(kept_for=0.05)
    session = await world.initialize()
    (priming,) = await broken_call(world, session, 1)
    world.pipeline.released.set()
    kept = next(iter(world.downstream.sessions)).kept
    async with asyncio.timeout(5):
        while kept.find(priming["id"]) is not None:
            await asyncio.sleep(0.01)
    async with resume(world, session, priming["id"]) as response:
        assert response.status == 400


async def test_a_standing_stream_is_resumed(world: Any) -> None:
    session = await world.initialize()
    async with world.http.get(world.url, headers=session) as first:
        priming = await read_event(first)
        world.catalog.change("tools")
        await read_event(first)
        first.close()
    async with resume(world, session, priming["id"]) as second:
        again = await read_event(second)
        assert json.loads(again["data"])["method"] == "notifications/tools/list_changed"
        world.catalog.change("prompts")
        live = await read_event(second)
        assert json.loads(live["data"])["method"] == "notifications/prompts/list_changed"
    assert [event["id"].partition("-")[2] for event in (priming, again, live)] == ["0", "1", "2"]


async def test_standing_streams_that_were_given_up_cost_no_call_its_answer(
    world: Any, room: Callable[..., None]
) -> None:
    room(kept_streams=4)
    session = await world.initialize()
    (priming,) = await broken_call(world, session, 1)
    for _ in range(6):
        async with world.http.get(world.url, headers=session) as standalone:
            await read_event(standalone)
            standalone.close()
    world.pipeline.released.set()
    async with resume(world, session, priming["id"]) as response:
        assert json.loads((await read_rest(response))[-1]["data"])["id"] == 7


async def test_agents_of_older_revisions_get_ids_but_no_empty_event(world: Any) -> None:
    session = await world.initialize(version="2025-06-18")
    (progress,) = await broken_call(world, session, 1)
    assert json.loads(progress["data"])["params"]["progress"] == 1
    world.pipeline.released.set()
    async with resume(world, session, progress["id"]) as response:
        assert [json.loads(event["data"]).get("id") for event in await read_rest(response)] == [None, 7]


async def test_an_answer_in_one_piece_keeps_nothing(world: Any) -> None:
    session = await world.initialize()
    answer = await world.post(call("echo"), session)
    assert answer.headers["Content-Type"] == "application/json"
    assert not next(iter(world.downstream.sessions)).kept._streams


async def test_a_call_that_takes_its_time_can_be_resumed(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway_core.downstream.streams.stream.QUIET", 0.05)
    session = {**await world.initialize(), "Accept": "application/json, text/event-stream"}
    async with world.http.post(world.url, json=call("nap", 7), headers=session) as response:
        priming = await read_event(response)
        assert (priming["data"], priming["retry"]) == ("", "1000")
        response.close()
    world.pipeline.released.set()
    async with resume(world, session, priming["id"]) as response:
        (answer,) = await read_rest(response)
    assert json.loads(answer["data"])["result"]["content"][0]["text"] == "woken"


async def test_a_question_that_was_not_read_is_asked_again(world: Any) -> None:
    session = await world.initialize()
    async with world.http.post(world.url, json=call("ask", 9), headers=session) as response:
        priming = await read_event(response)
        response.close()
    async with resume(world, session, priming["id"]) as response:
        question = json.loads((await read_event(response))["data"])
        await world.post({"jsonrpc": "2.0", "id": question["id"], "result": {"action": "accept"}}, session)
        assert json.loads((await read_event(response))["data"])["id"] == 9


async def test_the_end_of_the_session_ends_what_was_resumed(world: Any) -> None:
    session = await world.initialize()
    (priming,) = await broken_call(world, session, 1)
    async with resume(world, session, priming["id"]) as response:
        await read_event(response)
        async with world.http.delete(world.url, headers=session):
            pass
        events = await read_rest(response)
    assert json.loads(events[-1]["data"])["error"]["code"] == -31006
    async with resume(world, session, priming["id"]) as response:
        assert response.status == 404


@pytest.fixture
def budget(monkeypatch: pytest.MonkeyPatch) -> MemoryBudget:
    """A budget of which one network may have 2.5 MB."""
    monkeypatch.setattr("gateway_core.limits.budget.trim", lambda: None)
    return MemoryBudget(10_000_000, lambda: 0)


async def test_stored_events_count_until_the_end_of_the_session(budget: MemoryBudget) -> None:
    kept = EventStore(Account(budget, "one"))
    await written(kept, b"x" * 500_000)
    second = await written(kept, b"y" * 600_000)
    assert budget.held_by("one") == 1_100_000
    kept.drop(second)
    assert budget.held_by("one") == 500_000
    kept.close()
    assert budget.held_by("one") == 0


async def test_without_room_what_was_written_is_forgotten_and_no_answer_is(budget: MemoryBudget) -> None:
    others = [EventStore(Account(budget, "one")) for _ in range(2)]
    for other in others:
        await written(other, b"x" * 1_000_000)
    kept = EventStore(Account(budget, "one"))
    unread = Mailbox()
    answered = kept.begin(unread)
    unread.put(b"the answer", Keep.ALWAYS)
    old = await written(kept, b"1" * 300_000)
    new = await written(kept, b"2" * 300_000)
    assert budget.held_by("one") <= 2_500_000
    assert await resumed(kept, old, 0) == [], "a gap"
    assert await resumed(kept, new, 0) == [b"2" * 300_000]
    unread.close()
    assert await resumed(kept, answered, 0) == [b"the answer"]
    for store in (kept, *others):
        store.close()
    assert budget.held_by("one") == 0


async def test_a_standalone_stream_whose_events_were_forgotten_cannot_be_resumed_before_them(
    budget: MemoryBudget,
) -> None:
    other = EventStore(Account(budget, "one"))
    for _ in range(4):
        await written(other, b"x" * 600_000)
    kept = EventStore(Account(budget, "one"))
    mailbox = Mailbox()
    stream = kept.begin(mailbox, standalone=True)
    mailbox.put(b"y" * 300_000)
    mailbox.close()
    await stream.serve(Wire())  # type: ignore[arg-type]
    assert kept.find(f"{stream.name}-0") is None
    assert kept.find(f"{stream.name}-1") is not None
