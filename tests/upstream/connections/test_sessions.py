"""Extra connections of one upstream: shared by a session's calls, leased one by one, retired without cutting calls."""

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest
from loguru import logger

from gateway_core.api import Era, Principal
from gateway_core.errors import Busy, NotSent
from gateway_core.exchange.exchange import Agent, Exchange
from gateway_core.upstream.base import Connection, ServerInfo
from gateway_core.upstream.connections import sessions
from gateway_core.upstream.connections.sessions import SessionConnections
from gateway_core.upstream.requests import Reply, Request
from tests.upstream.watch_kit import HandClock, Longest


class Plain(Connection):
    """A connection that carries nothing: what is tested is who gets it, and when it ends."""

    def __init__(self) -> None:
        self.ended = False
        self.told: list[str] = []
        self.let = asyncio.Event()
        self.let.set()

    async def open(self, known_era: Era | None) -> ServerInfo:
        return ServerInfo("legacy", "2025-11-25")

    async def deliver(
        self, request: Request, exchange: Exchange | None = None, headers: Mapping[str, str] | None = None
    ) -> Reply:
        return Reply(result=b"{}")

    async def notify(self, method: str, params: Mapping[str, Any] | None = None) -> None:
        self.told.append(method)
        await self.let.wait()

    async def close(self) -> None:
        self.ended = self.closed = True

    async def wait_closed(self) -> str:
        return "closed"


class Maker:
    """Opens connections, after a pause, and remembers them."""

    def __init__(self, pause: float = 0.0) -> None:
        self.made: list[Plain] = []
        self.declared: list[Mapping[str, Any]] = []
        self.agents: list[Agent | None] = []
        self.pause = pause
        self.failure: Exception | None = None

    async def __call__(self, declared: Mapping[str, Any], agent: Agent | None) -> Connection:
        self.declared.append(declared)
        self.agents.append(agent)
        await asyncio.sleep(self.pause)
        if self.failure is not None:
            raise self.failure
        self.made.append(Plain())
        return self.made[-1]


ANYONE = Principal("a")


def agent(session: str | None = None, capabilities: bytes = b"{}", principal: Principal = ANYONE) -> Agent:
    era: Era = "modern" if session is None else "legacy"
    return Agent(principal, era, "2025-11-25", capabilities=capabilities, session_id=session)


def an_exchange(capabilities: bytes = b"{}") -> Exchange:
    return Exchange(agent(capabilities=capabilities), "tools/call")


async def test_the_calls_of_one_session_share_one_opening() -> None:
    maker = Maker(0.02)
    own = SessionConnections(maker)

    async def use(session: str) -> Connection:
        async with own.of_session(agent(session)) as connection:
            return connection

    a, b, c = await asyncio.gather(use("s"), use("s"), use("t"))
    assert a is b is not c
    assert len(maker.made) == 2


async def test_an_opening_survives_the_call_that_began_it() -> None:
    maker = Maker(0.05)
    own = SessionConnections(maker)

    async def use() -> Connection:
        async with own.of_session(agent("s")) as connection:
            return connection

    first, second = asyncio.create_task(use()), asyncio.create_task(use())
    await asyncio.sleep(0.01)
    first.cancel()
    assert await second is maker.made[0]


async def test_a_failed_opening_is_tried_again_by_the_next_call() -> None:
    maker = Maker()
    own = SessionConnections(maker)
    maker.failure = NotSent("refused")
    with pytest.raises(NotSent):
        async with own.of_session(agent("s")):
            pass
    maker.failure = None
    async with own.of_session(agent("s")) as connection:
        assert connection is maker.made[0]


async def test_retiring_cuts_no_call_and_gives_the_connection_to_no_other() -> None:
    maker = Maker()
    own = SessionConnections(maker)
    async with own.of_session(agent("s")) as used:
        own.retire_all()
        async with own.of_session(agent("s")) as fresh:
            assert fresh is not used
        await asyncio.sleep(0)
        assert not used.closed
    await own.closed()
    assert used.closed
    assert not fresh.closed


async def test_an_unused_connection_is_closed_when_its_session_ends() -> None:
    maker = Maker()
    own = SessionConnections(maker)
    async with own.of_session(agent("s")):
        pass
    own.retire("s")
    own.retire("unknown")
    await own.closed()
    assert maker.made[0].closed


@pytest.mark.parametrize(
    ("failure", "lines"),
    [(NotSent("gone"), 0), (TimeoutError(), 0), (ConnectionResetError(), 0), (ValueError("secret"), 1)],
)
async def test_only_a_bug_in_the_close_of_a_connection_is_an_error(
    monkeypatch: pytest.MonkeyPatch, failure: Exception, lines: int
) -> None:
    async def close(connection: Plain) -> None:
        raise failure

    monkeypatch.setattr(Plain, "close", close)
    logged: list[str] = []
    sink = logger.add(lambda line: logged.append(line.record["message"]), level="ERROR")
    own = SessionConnections(Maker())
    own.discard(Plain())
    await own.closed()
    logger.remove(sink)
    assert len(logged) == lines
    assert not any("secret" in line for line in logged)


async def test_what_is_told_again_and_again_to_a_slow_server_is_told_twice() -> None:
    maker = Maker()
    own = SessionConnections(maker)
    async with own.of_session(agent("s")):
        pass
    [server] = maker.made
    server.let.clear()
    before = asyncio.all_tasks()
    for _ in range(20):
        own.notify("s", "changed")
        own.notify("unknown", "changed")
        await asyncio.sleep(0)
    assert len(asyncio.all_tasks() - before) == 1
    assert server.told == ["changed"]
    server.let.set()
    async with asyncio.timeout(5):
        while asyncio.all_tasks() != before:
            await asyncio.sleep(0)
    assert server.told == ["changed", "changed"]  # the second may be of what came after the first


async def test_a_session_that_ends_while_it_is_opened_was_not_sent() -> None:
    own = SessionConnections(Maker(5))

    async def use() -> None:
        async with own.of_session(agent("s")):
            pass

    task = asyncio.create_task(use())
    await asyncio.sleep(0.01)
    own.retire("s")
    with pytest.raises(NotSent):
        await task


async def test_too_many_sessions_retire_the_one_used_least_recently(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "MAX_SESSIONS", 2)
    maker = Maker()
    own = SessionConnections(maker)
    for session in ("a", "b", "a", "c"):
        async with own.of_session(agent(session)):
            pass
    await own.closed()
    assert [connection.closed for connection in maker.made] == [False, True, False]


async def test_a_leased_connection_serves_one_exchange_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "POOL_WAIT", 0.05)
    maker = Maker()
    own = SessionConnections(maker)

    async def hold(release: asyncio.Event) -> Connection:
        async with own.borrow(an_exchange()) as connection:
            await release.wait()
            return connection

    release = asyncio.Event()
    held = [asyncio.create_task(hold(release)) for _ in range(sessions.POOL_SIZE)]
    await asyncio.sleep(0.01)
    with pytest.raises(Busy):
        async with own.borrow(an_exchange()):
            pass
    release.set()
    assert len({id(connection) for connection in await asyncio.gather(*held)}) == sessions.POOL_SIZE
    async with own.borrow(an_exchange()):
        pass
    assert len(maker.made) == sessions.POOL_SIZE, "idle ones are used again"


async def test_a_failing_call_gives_its_place_back() -> None:
    maker = Maker()
    own = SessionConnections(maker)
    for _ in range(3 * sessions.POOL_SIZE):
        with pytest.raises(ZeroDivisionError):
            async with own.borrow(an_exchange()):
                raise ZeroDivisionError
    assert len(maker.made) == 1


async def test_a_retired_lease_is_closed_after_its_call_and_not_pooled() -> None:
    maker = Maker()
    own = SessionConnections(maker)
    async with own.borrow(an_exchange()) as used:
        own.retire_all()
        assert not used.closed
    await own.closed()
    assert used.closed
    async with own.borrow(an_exchange()) as fresh:
        assert fresh is not used


async def test_a_session_declares_its_agents_capabilities_and_is_that_agents_alone() -> None:
    maker = Maker()
    own = SessionConnections(maker)
    asker = agent("s", b'{"roots":{"listChanged":true},"tasks":{}}')
    async with own.of_session(asker):
        pass
    assert maker.declared == [{"roots": {"listChanged": True}}], "requests of legacy tasks are not passed on"
    assert maker.agents == [asker]


async def test_a_lease_is_used_again_only_for_the_capabilities_that_it_declares() -> None:
    maker = Maker()
    own = SessionConnections(maker)
    for capabilities in (b'{"roots":{}}', b'{"sampling":{}}', b'{"roots":{}}'):
        async with own.borrow(an_exchange(capabilities)):
            pass
    assert maker.declared == [{"roots": {}}, {"sampling": {}}]
    assert maker.agents == [None, None], "the next agent must not be taken for the first"


async def test_idle_leases_make_room_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "POOL_SIZE", 2)
    maker = Maker()
    own = SessionConnections(maker)
    for name in ("a", "b", "c"):
        async with own.borrow(an_exchange(b'{"%b":{}}' % name.encode())):
            pass
    await own.closed()
    assert [connection.closed for connection in maker.made] == [True, False, False]


async def test_connections_of_calls_whose_agents_are_away_are_kept_only_as_far_as_the_pool_goes() -> None:
    maker = Maker()
    own = SessionConnections(maker)
    over = asyncio.Event()

    async def call() -> None:
        exchange = an_exchange()
        async with own.borrow(exchange):
            exchange.leave()
            await over.wait()

    calls = [asyncio.create_task(call()) for _ in range(3 * sessions.POOL_SIZE)]
    async with asyncio.timeout(5):
        while len(maker.made) < len(calls):
            await asyncio.sleep(0)
    over.set()
    await asyncio.gather(*calls)
    await own.closed()
    assert len([connection for connection in maker.made if not connection.closed]) == sessions.POOL_SIZE


async def test_leases_above_the_pools_size_are_closed_when_they_come_back() -> None:
    maker = Maker()
    own = SessionConnections(maker)
    away = [an_exchange() for _ in range(3 * sessions.POOL_SIZE)]
    back = asyncio.Event()

    async def parked(exchange: Exchange) -> None:
        async with own.borrow(exchange):
            exchange.leave()
            await back.wait()

    calls = [asyncio.create_task(parked(exchange)) for exchange in away]
    async with asyncio.timeout(5):
        while len(maker.made) < len(away):
            await asyncio.sleep(0.01)
    back.set()
    await asyncio.gather(*calls)
    await own.closed()
    assert sum(not connection.closed for connection in maker.made) == sessions.POOL_SIZE


async def test_a_session_whose_process_does_not_start_is_tried_ever_more_rarely() -> None:
    maker, clock, one = Maker(), HandClock(), agent("s")
    own = SessionConnections(maker, clock, backoff=True, rng=Longest())
    maker.failure = NotSent("no session: the server exited with status 1")
    waits = []
    for _ in range(2):  # the first failure may have been an accident
        assert type(await failing(own, one)) is NotSent
    for _ in range(7):
        with pytest.raises(Busy, match="exited with status 1") as busy:
            await own.lease_of(one)
        waits.append(busy.value.retry_after or 0.0)
        clock.turn(waits[-1])
        assert type(await failing(own, one)) is NotSent
    assert waits == pytest.approx([2, 4, 8, 16, 32, 60, 60], abs=0.5)
    assert isinstance((await failing(own, agent("t"))), NotSent), "another session has its own attempts"
    maker.failure = None
    clock.turn(60)
    await own.lease_of(one)
    assert own._failed_openings.keys() == {"t"}
    own.retire("t")
    assert not own._failed_openings


async def test_a_session_over_http_is_tried_at_every_call() -> None:
    maker, one = Maker(), agent("s")
    own = SessionConnections(maker)
    maker.failure = NotSent("no session: HTTP 503")
    for _ in range(5):
        assert type(await failing(own, one)) is NotSent


async def failing(own: SessionConnections, one: Agent) -> Exception:
    with pytest.raises(NotSent) as failure:
        await own.lease_of(one)
    return failure.value


# -- shares -----------------------------------------------------------------------------------------------------


async def use(own: SessionConnections, session: str, principal: Principal = ANYONE) -> Plain:
    async with own.of_session(agent(session, principal=principal)) as connection:
        assert isinstance(connection, Plain)
        return connection


async def test_an_agent_with_many_sessions_gives_up_its_own_least_recently_used_child(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sessions, "MAX_CHILDREN", 32)
    monkeypatch.setattr(sessions, "CHILDREN_SHARE", 8)
    own = SessionConnections(Maker(), backoff=True)
    other = await use(own, "other", Principal("b"))
    first = await use(own, "0")
    rest = [await use(own, str(number)) for number in range(1, 8)]
    assert await use(own, "0") is first
    await use(own, "8")
    await own.closed()
    assert [it.ended for it in (other, first, *rest)] == [False, False, True] + [False] * 6


async def test_invented_names_start_no_more_children_than_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "MAX_CHILDREN", 32)
    monkeypatch.setattr(sessions, "CHILDREN_SHARE", 8)
    maker = Maker()
    own = SessionConnections(maker, backoff=True)
    honest = await use(own, "honest", Principal("h", address="10.0.0.2"))
    for name in range(20):
        for number in range(8):
            await use(own, f"{name}-{number}", Principal(f"{name}@1", address="10.0.0.1"))
    await own.closed()
    assert sum(not it.ended for it in maker.made) == 32
    assert not honest.ended, "the address with most gives way"


async def test_a_child_with_a_call_does_not_give_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "MAX_CHILDREN", 32)
    monkeypatch.setattr(sessions, "CHILDREN_SHARE", 8)
    own = SessionConnections(Maker(), backoff=True)
    leases = [await own.lease_of(agent(str(number))) for number in range(8)]
    with pytest.raises(Busy, match="in use"):
        await use(own, "8")
    own.left(leases[3])
    await use(own, "8")
    await own.closed()
    assert [lease.connection.closed for lease in leases] == [number == 3 for number in range(8)]
    own.retire("8")
    await use(own, "9")
