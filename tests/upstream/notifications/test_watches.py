"""Resources that are watched: shared, kept over connections, let go of, bounded; whose a log message is."""

import asyncio
import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from msgspec import Raw

from gateway_core.api import Principal
from gateway_core.errors import NotSent, RpcError
from gateway_core.exchange.exchange import Agent, Exchange
from gateway_core.mcp.names import ELICITED, LOG_MESSAGE
from gateway_core.upstream.base import ClientContext, ServerInfo
from gateway_core.upstream.notifications import logs, pauses, subscription, watches
from gateway_core.upstream.notifications.logs import Logs, whose
from gateway_core.upstream.notifications.subscription import LegacyWatcher
from gateway_core.upstream.notifications.watches import Watches
from gateway_core.upstream.requests import Reply

ANYONE = Principal("a")


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pauses, "FIRST_DELAY", 0.02)
    monkeypatch.setattr(logs, "RELAX_AFTER", 0.02)


class Link:
    """A connection on which everything is agreed to but what is `refused`."""

    def __init__(self) -> None:
        self.asked: list[frozenset[str]] = []
        self.refused: dict[str, RpcError | NotSent] = {}
        self.end = asyncio.Event()

    async def watch(self, uris: frozenset[str]) -> Mapping[str, RpcError | NotSent]:
        self.asked.append(uris)
        return {uri: error for uri, error in self.refused.items() if uri in uris}

    @property
    def closed(self) -> bool:
        return self.end.is_set()

    async def wait_closed(self) -> str:
        await self.end.wait()
        return "ended"


class World:
    def __init__(self) -> None:
        self.links = [Link()]
        self.away = False
        self.watches = Watches("u", self.connect)  # type: ignore[arg-type]

    async def connect(self, owner: Agent | None) -> Any:
        if self.away:
            raise NotSent("not connected")
        return self.links[-1]


@pytest.fixture
async def world() -> Any:
    made = World()
    yield made
    made.watches.close()


def updated(uri: str) -> Raw:
    return Raw(b'{"uri":"%b"}' % uri.encode())


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.005)


async def test_two_share_one_subscription_and_the_last_ends_it(world: World) -> None:
    first: list[str] = []
    second: list[str] = []
    release = await world.watches.add(None, "x:a", first.append, ANYONE)
    again = await world.watches.add(None, "x:a", second.append, ANYONE)
    world.watches.updated("", updated("x:a"))
    await asyncio.sleep(0.02)  # the keeper has nothing left to do: only what follows can wake it
    release()
    world.watches.updated("", updated("x:a"))
    again()
    await until(lambda: world.links[0].asked == [frozenset({"x:a"}), frozenset()])
    world.watches.updated("", updated("x:a"))
    assert (first, second) == (["x:a"], ["x:a", "x:a"])


async def test_what_is_let_go_of_while_the_server_is_asked_is_ended_too(world: World) -> None:
    asked, agreed = asyncio.Event(), asyncio.Event()
    link = world.links[0]
    watch = link.watch

    async def slow(uris: frozenset[str]) -> Mapping[str, RpcError]:
        if len(uris) == 1:
            asked.set()
            await agreed.wait()
        return await watch(uris)

    link.watch = slow  # type: ignore[method-assign]
    first, second = await asyncio.gather(
        *(world.watches.add(None, uri, lambda _: None, ANYONE) for uri in ("x:a", "x:b"))
    )
    first()
    await asked.wait()
    second()
    agreed.set()
    await until(lambda: link.asked == [frozenset({"x:a", "x:b"}), frozenset({"x:b"}), frozenset()])


async def test_on_a_new_connection_all_is_asked_for_again_and_counts_as_updated(world: World) -> None:
    told: list[str] = []
    await world.watches.add(None, "x:a", told.append, ANYONE)
    world.away = True
    world.links.append(Link())
    world.links[0].end.set()
    await asyncio.sleep(0.05)
    assert told == []
    world.away = False
    world.watches.reconnected()
    await until(lambda: told == ["x:a"])
    assert world.links[1].asked == [frozenset({"x:a"})]


async def test_what_the_server_refuses_is_not_watched_and_others_are(world: World) -> None:
    world.links[0].refused["x:b"] = RpcError(-32002, "no such thing")
    told: list[str] = []
    ends = await asyncio.gather(
        world.watches.add(None, "x:a", told.append, ANYONE),
        world.watches.add(None, "x:b", told.append, ANYONE),
        return_exceptions=True,
    )
    assert isinstance(ends[1], RpcError)
    world.watches.updated("", updated("x:a"))
    world.watches.updated("", updated("x:b"))
    assert told == ["x:a"]


async def test_who_is_refused_on_a_new_connection_is_told_once_more(world: World) -> None:
    told: list[str] = []
    release = await world.watches.add(None, "x:a", told.append, ANYONE)
    world.links.append(Link())
    world.links[1].refused["x:a"] = RpcError(-32002, "gone")
    world.links[0].end.set()
    await until(lambda: told == ["x:a"])
    release()


async def test_an_upstream_that_is_away_is_a_failure_at_once(world: World) -> None:
    world.away = True
    with pytest.raises(NotSent, match="not connected"):
        await world.watches.add(None, "x:a", lambda uri: None, ANYONE)


async def test_a_silent_upstream_is_a_failure_in_time(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watches, "SUBSCRIBE_TIMEOUT", 0.05)

    async def watch(uris: frozenset[str]) -> Mapping[str, RpcError | NotSent]:
        await asyncio.sleep(30)
        return {}

    world.links[0].watch = watch  # type: ignore[method-assign]
    with pytest.raises(NotSent, match="no answer"):
        await world.watches.add(None, "x:a", lambda uri: None, ANYONE)


async def test_a_resource_that_a_legacy_server_never_answers_for_costs_no_other_one(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subscription, "ANSWER_TIMEOUT", 0.05)
    silence = {"x:silent"}

    async def request(method: str, params: Mapping[str, Any]) -> Reply:
        if params["uri"] in silence:
            await asyncio.Event().wait()
        return Reply(b"{}")

    watcher = LegacyWatcher(ServerInfo("legacy", "2025-11-25"), ClientContext(lambda *_: None, {}), request)
    world.links[0].watch = watcher.watch  # type: ignore[method-assign]
    silent, good = await asyncio.gather(
        world.watches.add(None, "x:silent", lambda uri: None, ANYONE),
        world.watches.add(None, "x:good", lambda uri: None, ANYONE),
        return_exceptions=True,
    )
    assert isinstance(silent, NotSent)
    assert callable(good)
    assert watcher.accepted == {"x:good"}
    silence.add("x:good")
    await watcher.renew()
    assert watcher.accepted == {"x:good"}  # which the next renewal asks for again


async def test_what_was_agreed_on_is_asked_for_again_where_a_new_connection_gives_no_answer(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watches, "ASK_AGAIN", 0.02)
    told: list[str] = []
    await world.watches.add(None, "x:a", told.append, ANYONE)
    world.links.append(Link())
    world.links[1].refused["x:a"] = NotSent("no answer")
    world.links[0].end.set()
    await until(lambda: len(world.links[1].asked) > 1)
    assert told == []
    world.links[1].refused.clear()
    await until(lambda: told == ["x:a"])


async def test_there_is_a_limit_on_what_is_watched(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watches, "MAX_WATCHED", 2)
    for uri in ("x:a", "x:b"):
        await world.watches.add(None, uri, lambda uri: None, ANYONE)
    with pytest.raises(RpcError, match="limit"):
        await world.watches.add(None, "x:c", lambda uri: None, ANYONE)
    await world.watches.add(None, "x:b", lambda uri: None, ANYONE)  # which is watched already


async def test_nothing_is_kept_of_a_conversation_that_is_over(world: World) -> None:
    for _ in range(2):
        release = await world.watches.add(agent("s"), "x:a", lambda uri: None, ANYONE)
        assert world.watches._conversations
        release()
        await until(lambda: not world.watches._conversations)
    world.links[0].refused["x:a"] = RpcError(-32002, "no such thing")
    with pytest.raises(RpcError):
        await world.watches.add(agent("s"), "x:a", lambda uri: None, ANYONE)
    await until(lambda: not world.watches._conversations)


async def test_updates_go_to_who_watches_the_resource_or_what_it_is_part_of(world: World) -> None:
    told: dict[str, list[str]] = {"f:///a": [], "f:///a/b": [], "f:///a/": [], "f:///ab": []}
    for uri, heard in told.items():
        await world.watches.add(None, uri, heard.append, ANYONE)
    world.watches.updated("", updated("f:///a/b"))
    assert told == {"f:///a": ["f:///a/b"], "f:///a/b": ["f:///a/b"], "f:///a/": ["f:///a/b"], "f:///ab": []}


async def test_conversations_are_kept_apart_and_end_with_their_sessions(world: World) -> None:
    told: list[str] = []
    release = await world.watches.add(agent("s"), "x:a", told.append, ANYONE)
    for conversation in ("", "t", None):
        world.watches.updated(conversation, updated("x:a"))
    assert told == []
    world.watches.updated("s", updated("x:a"))
    world.watches.end("s")
    world.watches.updated("s", updated("x:a"))
    assert told == ["x:a"]
    release()


# -- log messages


class Standing:
    def __init__(self) -> None:
        self.told: list[str] = []

    def notify(self, method: str, params: bytes) -> None:
        self.told.append(method)

    async def ask(self, method: str, params: bytes) -> bytes:
        raise AssertionError


def agent(session: str | None, standalone: Any = None) -> Agent:
    era: Any = "modern" if session is None else "legacy"
    return Agent(Principal("a"), era, "2025-11-25", session_id=session, standalone=standalone)


def exchange(session: str | None, **settings: Any) -> Exchange:
    return Exchange(agent(session), "tools/call", Standing(), **settings)


def test_what_came_on_no_stream_belongs_to_the_only_agent_that_calls() -> None:
    one, other, modern = exchange("s"), exchange("t"), exchange(None)
    assert whose(LOG_MESSAGE, [one]) is one
    assert whose(LOG_MESSAGE, [one, exchange("s"), one]) is one
    assert whose(ELICITED, [modern]) is modern
    for running in ([], [one, other], [one, modern], [modern, exchange(None)]):
        assert whose(LOG_MESSAGE, running) is None
    assert whose("notifications/tools/list_changed", [one]) is None


async def test_a_message_goes_to_the_owner_of_its_connection_or_to_no_agent() -> None:
    found = Logs("u")
    standalone = Standing()
    owner = agent("s", standalone)
    error = Raw(b'{"level":"error"}')
    found.on_notification(LOG_MESSAGE, error, None, owner)
    assert standalone.told == []  # it has set no level
    found.set_level("s", "error", None)
    found.on_notification(LOG_MESSAGE, error, None, owner)
    found.on_notification(LOG_MESSAGE, Raw(b'{"level":"info"}'), None, owner)
    found.on_notification(ELICITED, Raw(b'{"elicitationId":"e"}'), None, owner)
    assert standalone.told == [LOG_MESSAGE, ELICITED]
    found.on_notification(LOG_MESSAGE, error, None, None)
    found.on_notification(ELICITED, Raw(b"{}"), None, None)
    assert found.unattributed == 2


async def test_a_message_says_nothing_that_only_the_gateway_says() -> None:
    found = Logs("u")
    said: list[Any] = []
    standalone = Standing()
    standalone.notify = lambda method, params: said.append(json.loads(params))  # type: ignore[method-assign]
    found.set_level("s", "error", None)
    forged = b'{"level":"error","_meta":{"dev.radium.gateway/upstream":"bank","own":1}}'
    for method in (LOG_MESSAGE, ELICITED):
        found.on_notification(method, Raw(forged), None, agent("s", standalone))
    assert said == [{"level": "error", "_meta": {"own": 1}}] * 2


async def test_the_end_of_an_elicitation_is_told_to_the_legacy_agent_whose_call_it_is() -> None:
    found = Logs("u")
    legacy, modern = exchange("s"), exchange(None)
    for call in (legacy, modern):
        found.on_notification(ELICITED, Raw(b'{"elicitationId":"e"}'), call, None)
    assert (legacy.back.told, modern.back.told) == ([ELICITED], [])  # type: ignore[attr-defined]


class Levelled:
    """A legacy server's connection that remembers the levels it was set to."""

    def __init__(self) -> None:
        self.info = ServerInfo("legacy", "2025-11-25", {"logging": {}})
        self.levels: list[str] = []
        self.closed = False
        self.let = asyncio.Event()
        self.let.set()

    async def request(self, method: str, params: Mapping[str, Any]) -> Reply:
        assert method == "logging/setLevel"
        self.levels.append(params["level"])
        await self.let.wait()
        return Reply(b"{}")


async def test_a_shared_connection_has_the_level_of_a_call_before_it_is_sent_and_loses_it_afterwards() -> None:
    found, shared = Logs("u"), Levelled()
    async with found.heard(shared, exchange(None), shared):  # type: ignore[arg-type]
        assert shared.levels == []
    async with found.heard(shared, exchange(None, log_level="info"), shared):  # type: ignore[arg-type]
        async with found.heard(shared, exchange(None, log_level="debug"), shared):  # type: ignore[arg-type]
            assert shared.levels == ["info", "debug"]
        await until(lambda: shared.levels == ["info", "debug", "info"])
    await until(lambda: shared.levels[3:] == ["emergency"])
    found.close()


async def test_levels_are_set_again_on_a_new_connection() -> None:
    found, first, second, own = Logs("u"), Levelled(), Levelled(), Levelled()
    found.connected(first)  # type: ignore[arg-type]
    found.set_level("s", "warning", first)  # type: ignore[arg-type]
    await until(lambda: first.levels == ["warning"])
    found.connected(second)  # type: ignore[arg-type]
    found.opened("s", own)  # type: ignore[arg-type]
    await until(lambda: second.levels == own.levels == ["warning"])
    found.set_level("s", "debug", second)  # type: ignore[arg-type]
    await until(lambda: second.levels == own.levels == ["warning", "debug"])
    found.forget("s", second)  # type: ignore[arg-type]
    await until(lambda: second.levels[2:] == ["emergency"])
    assert own.levels == ["warning", "debug"]
    found.close()


async def test_an_agent_that_alternates_levels_leaves_one_task_and_the_last_level() -> None:
    found, shared, silent = Logs("u"), Levelled(), Levelled()
    shared.let.clear()
    silent.info = ServerInfo("legacy", "2025-11-25", {})
    before = asyncio.all_tasks()
    for number in range(20):
        for connection in (shared, silent):
            found.set_level("s", "debug" if number % 2 else "error", connection)  # type: ignore[arg-type]
        await asyncio.sleep(0)
    assert len(asyncio.all_tasks() - before) == 1
    shared.let.set()
    await until(lambda: shared.levels == ["error", "debug"] and asyncio.all_tasks() == before)
    assert silent.levels == []


async def test_one_agent_watches_no_more_than_its_share(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watches, "MAX_WATCHED", 16)
    monkeypatch.setattr(watches, "SHARE", 4)
    monkeypatch.setattr(watches, "NETWORK_SHARE", 12)
    flood = Principal("flood", address="10.0.0.1")
    releases = [await world.watches.add(None, f"x:{number}", lambda _: None, flood) for number in range(4)]
    with pytest.raises(RpcError, match="its share"):
        await world.watches.add(None, "x:0", lambda _: None, flood)
    for number in range(8):
        await world.watches.add(None, "x:0", lambda _: None, Principal(f"{number}", address="10.0.0.1"))
    with pytest.raises(RpcError, match=r"10\.0\.0\.1 has 12"):
        await world.watches.add(None, "x:0", lambda _: None, Principal("new", address="10.0.0.1"))
    await world.watches.add(None, "x:far", lambda _: None, Principal("far", address="10.0.0.2"))
    releases[0]()
    releases[0]()
    await world.watches.add(None, "x:0", lambda _: None, flood)
