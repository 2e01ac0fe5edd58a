"""The sessions of a process, over stores that other processes share."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from loguru import logger

from gateway_core.downstream.auth.caller import Caller, caller_at
from gateway_core.downstream.sessions import sessions
from gateway_core.downstream.sessions.live import LiveSession
from gateway_core.downstream.sessions.record import SessionRecord
from gateway_core.downstream.sessions.store import InMemorySessions
from gateway_core.limits.slices import SLICE, finish
from tests.downstream.auth.keys import Keys, bearer

PING = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
SET_LEVEL = {"jsonrpc": "2.0", "id": 2, "method": "logging/setLevel", "params": {"level": "error"}}
INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 0,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-11-25",
        "capabilities": {},
        "clientInfo": {"name": "tester", "version": "1"},
    },
}
ECHO = {"jsonrpc": "2.0", "id": 3, "method": "tools/call", "params": {"name": "echo"}}


class RemoteSessions:
    """A store as another process would keep it: each record crosses the border as bytes, both ways."""

    def __init__(self, **limits: Any) -> None:
        self._stored = InMemorySessions(**{"limit": 10, "per_principal": 10, "idle": 60.0, **limits})
        self.clock = self._stored.clock

    def in_the_way(self, caller: Caller, owner: str) -> SessionRecord | None:
        return sent(self._stored.in_the_way(caller, owner))

    def create(self, caller: Caller, owner: str, *, on_channel: bool = False) -> SessionRecord:
        record = sent(self._stored.create(caller, owner, on_channel=on_channel))
        assert record is not None
        return record

    def adopt(self, record: SessionRecord) -> None:
        self._stored.adopt(sent(record) or record)

    def get(self, key: str, session_id: str) -> SessionRecord | None:
        return sent(self._stored.get(key, session_id))

    def save(self, record: SessionRecord) -> None:
        self._stored.save(sent(record) or record)

    def delete(self, record: SessionRecord) -> None:
        self._stored.delete(sent(record) or record)

    def expire(self, served: Callable[[], Iterable[SessionRecord]]) -> Iterator[list[SessionRecord]]:
        yield []  # the loop runs, as if the store was asked first
        records = [sent(record) or record for record in served()]
        for record in records:
            self._stored.save(record)
        list(self._stored.expire(list))
        yield [record for record in records if self._stored.get(record.caller.key, record.id) is None]


def sent(record: SessionRecord | None) -> SessionRecord | None:
    return None if record is None else msgspec.json.decode(msgspec.json.encode(record), type=SessionRecord)


class Watching:
    """The URIs that were subscribed to: every resource can be."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.added: list[str] = []

        async def watch(watched: Any, uri: str) -> Any:
            self.added.append(uri)
            return lambda: self.added.remove(uri)

        monkeypatch.setattr("gateway_core.downstream.subscriptions.resources.Watched._watch", watch)


@pytest.fixture
def watching(monkeypatch: pytest.MonkeyPatch) -> Watching:
    return Watching(monkeypatch)


@asynccontextmanager
async def patience() -> AsyncIterator[None]:
    async with asyncio.timeout(10):
        yield


async def test_a_session_goes_on_in_another_process(start: Any, watching: Watching) -> None:
    store = RemoteSessions()
    here, there = await start(store=store), await start(store=store)
    session = await here.initialize()
    subscribe = {"jsonrpc": "2.0", "id": 4, "method": "resources/subscribe", "params": {"uri": "test://a"}}
    for message in (SET_LEVEL, subscribe):
        assert "result" in (await here.post(message, session)).json
    assert watching.added == ["test://a"]
    assert "result" in (await there.post(ECHO, session)).json
    agent = there.pipeline.exchanges[-1].agent
    (opened,) = here.downstream.sessions
    assert agent == opened.agent
    assert there.pipeline.exchanges[-1].log_level == "error"
    async with patience():
        while watching.added != ["test://a", "test://a"]:
            await asyncio.sleep(0.01)
    (restored,) = there.downstream.sessions
    assert restored.record.ready
    assert restored.record.uris == ["test://a"]


async def test_a_session_whose_credentials_have_ended_watches_nothing_until_its_agent_is_back(
    start: Any, watching: Watching, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = Keys()
    keys.expires = time.time() + 600
    world = await start(authenticators=[keys])
    session = await world.initialize(**bearer("alice"))
    subscribe = {"jsonrpc": "2.0", "id": 4, "method": "resources/subscribe", "params": {"uri": "test://a"}}
    assert "result" in (await world.post(subscribe, session)).json
    assert watching.added == ["test://a"]
    with monkeypatch.context() as later:
        later.setattr(sessions, "time", SimpleNamespace(time=lambda: keys.expires))
        async with patience():
            while watching.added:
                await asyncio.sleep(0.02)
    (opened,) = world.downstream.sessions
    assert opened.record.uris == ["test://a"]
    assert (await world.post(PING, session)).status == 200
    async with patience():
        while watching.added != ["test://a"]:
            await asyncio.sleep(0.02)
    assert b"notifications/resources/updated" in (await opened.mailbox.get() or b""), "it may have changed meanwhile"


async def test_a_session_that_another_process_ended_ends_here_too(start: Any) -> None:
    store = RemoteSessions()
    here, there = await start(store=store), await start(store=store)
    session = await here.initialize()
    assert (await there.post(PING, session)).status == 200
    async with there.http.delete(there.url, headers=session) as response:
        assert response.status == 204
    async with patience():
        while not here.ended:
            await asyncio.sleep(0.05)
    assert here.ended == there.ended == [session["Mcp-Session-Id"]]
    assert [(await world.post(PING, session)).status for world in (here, there)] == [404, 404]


async def test_many_sessions_that_expire_together_end_in_slices(start: Any) -> None:
    store = InMemorySessions(1000, 1000, 60.0)
    world = await start(store=store)
    all_sessions = world.downstream.sessions
    for _ in range(SLICE + 20):
        all_sessions.open(caller_at("10.0.0.1"), "a@10.0.0.1")
    store.clock = lambda: time.monotonic() + 61.0
    work = all_sessions.end_expired()
    next(work)
    assert len(all_sessions) == 20
    finish(work)
    assert len(all_sessions) == len(store) == 0


async def test_sessions_of_a_shared_store_expire_although_others_begin_meanwhile(start: Any) -> None:
    store = RemoteSessions()
    world = await start(store=store)
    all_sessions = world.downstream.sessions
    old = all_sessions.open(caller_at("10.0.0.1"), "a@10.0.0.1")
    work = all_sessions.end_expired()
    next(work)
    new = all_sessions.open(caller_at("10.0.0.2"), "b@10.0.0.2")
    store.delete(old.record)
    next(work)
    assert list(all_sessions) == [new]
    finish(work)


def breaking(monkeypatch: pytest.MonkeyPatch, broken: LiveSession, step: str) -> None:
    """Let one step of one session fail."""
    work = getattr(LiveSession, step)

    def run(session: LiveSession, *args: Any) -> None:
        work(session, *args)
        if session is broken:
            raise ValueError("secret")

    monkeypatch.setattr(LiveSession, step, run)


async def test_a_session_that_fails_to_end_keeps_no_other_open(start: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    store = InMemorySessions(2000, 2000, 60.0)
    world = await start(store=store)
    all_sessions = world.downstream.sessions
    opened = [all_sessions.open(caller_at("10.0.0.1"), "a@10.0.0.1") for _ in range(SLICE + 20)]
    breaking(monkeypatch, opened[3], "end")
    store.clock = lambda: time.monotonic() + 61.0
    finish(all_sessions.end_expired())
    assert len(all_sessions) == len(store) == 0


@pytest.mark.parametrize("way", ["end_all", "end_idle"])
async def test_sessions_that_end_together_end_although_one_fails(
    start: Any, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    world = await start(store=InMemorySessions(100, 100, 60.0))
    all_sessions = world.downstream.sessions
    opened = [all_sessions.open(caller_at("10.0.0.1"), "a@10.0.0.1") for _ in range(20)]
    breaking(monkeypatch, opened[0], "end")
    getattr(all_sessions, way)()
    assert len(all_sessions) == {"end_all": 0, "end_idle": 18}[way]


@pytest.mark.parametrize("step", ["changed", "reconsider"])
async def test_all_sessions_learn_of_changes_although_one_fails(
    start: Any, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    world = await start(store=InMemorySessions(100, 100, 60.0))
    all_sessions = world.downstream.sessions
    opened = [all_sessions.open(caller_at("10.0.0.1"), "a@10.0.0.1") for _ in range(4)]
    heard: list[LiveSession] = []
    monkeypatch.setattr(LiveSession, step, lambda session, *_: heard.append(session))
    for broken in opened[:2]:
        breaking(monkeypatch, broken, step)
    lines: list[str] = []
    sink = logger.add(lambda line: lines.append(line.record["message"]), level="ERROR")
    if step == "changed":
        all_sessions.changed(frozenset({"tools"}))
    else:
        all_sessions.reconsider(())
    logger.remove(sink)
    assert heard == opened
    (line,) = lines
    assert line.startswith("ValueError while ")


async def test_all_sessions_without_credentials_are_suspended_although_one_fails(
    start: Any, watching: Watching, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = Keys()
    keys.expires = time.time() + 600
    world = await start(authenticators=[keys])
    for number in range(3):
        session = await world.initialize(**bearer("alice"))
        subscribe = {"jsonrpc": "2.0", "id": 4, "method": "resources/subscribe", "params": {"uri": f"test://{number}"}}
        assert "result" in (await world.post(subscribe, session)).json
    breaking(monkeypatch, next(iter(world.downstream.sessions)), "suspend_if_ended")
    monkeypatch.setattr(sessions, "time", SimpleNamespace(time=lambda: keys.expires))
    async with patience():
        while watching.added:
            await asyncio.sleep(0.02)
    assert all(session.suspended for session in world.downstream.sessions)


async def test_the_end_of_an_agent_on_stdio_does_not_end_what_others_watch_again(
    start: Any, watching: Watching, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "SUBSCRIBE_AGAIN", (0.3,))
    store = RemoteSessions()
    here, there = await start(store=store), await start(store=store)
    session = await here.initialize()
    subscribe = {"jsonrpc": "2.0", "id": 4, "method": "resources/subscribe", "params": {"uri": "test://a"}}
    assert "result" in (await here.post(subscribe, session)).json
    assert (await there.post(PING, session)).status == 200
    with open(os.devnull, "r+b") as nothing:
        async with patience():
            await there.downstream.stdio_server(nothing.fileno(), nothing.fileno()).run()
    async with patience():
        while watching.added != ["test://a", "test://a"]:
            await asyncio.sleep(0.01)


async def test_a_session_of_another_process_gives_way(start: Any) -> None:
    store = RemoteSessions(per_principal=1)
    here, there = await start(store=store), await start(store=store)
    session = await here.initialize()
    await there.initialize()
    async with patience():
        while not here.ended:
            await asyncio.sleep(0.05)
    assert (await here.post(PING, session)).status == 404


async def test_a_session_of_another_process_is_kept_while_it_is_in_use(start: Any) -> None:
    store = RemoteSessions(per_principal=1)
    here, there = await start(store=store), await start(store=store)
    session = await here.initialize()
    nap = asyncio.create_task(here.post({**ECHO, "params": {"name": "nap"}}, session))
    async with patience():
        while store.get("127.0.0.1", session["Mcp-Session-Id"]).busy_since is None:
            await asyncio.sleep(0.05)
    assert (await there.post(INITIALIZE)).status == 429
    here.pipeline.released.set()
    assert (await nap).status == 200


async def test_the_session_of_a_channel_is_no_session_of_streamable_http_anywhere(start: Any) -> None:
    store = RemoteSessions()
    here, there = await start(store=store, transport="sse"), await start(store=store, transport="sse")
    async with here.http.get(f"{here.base}/sse") as stream:
        while not (line := (await stream.content.readline()).decode()).startswith("data: "):
            pass
        session = {"Mcp-Session-Id": line.strip().partition("session_id=")[2]}
        for world in (here, there):
            assert (await world.post(PING, session)).status == 404
        assert not there.downstream.sessions, "it was not taken over"
        elsewhere = await there.post(PING, path=f"/messages?session_id={session['Mcp-Session-Id']}")
        assert elsewhere.status == 404
