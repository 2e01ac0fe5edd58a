"""Comparisons in threads: how many at once, in which order, and what is remembered."""

import asyncio
import threading

import pytest
from gateway_auth_apikey import verifier
from gateway_auth_apikey.keys import UNKNOWN, Key
from gateway_auth_apikey.records import new
from gateway_auth_apikey.verifier import Busy, Verifier

MANY = [Key.new() for _ in range(40)]


class Comparisons:
    """Stands for the slow comparison: each waits until the test lets it end."""

    def __init__(self, monkeypatch):
        self.began: list[str] = []
        self.most = self.running = 0
        self.on_loop = False
        self._gate = threading.Semaphore(0)
        self._lock = threading.Lock()
        monkeypatch.setattr(verifier, "matches", self.compare)

    def compare(self, secret, stored):
        with self._lock:
            self.began.append(secret)
            self.running += 1
            self.most = max(self.most, self.running)
            self.on_loop |= threading.current_thread() is threading.main_thread()
        assert self._gate.acquire(timeout=30)
        with self._lock:
            self.running -= 1
        return False

    def end(self, number):
        self._gate.release(number)


@pytest.fixture
def comparisons(monkeypatch):
    return Comparisons(monkeypatch)


@pytest.fixture
async def checker():
    made = Verifier()
    yield made
    made.close()


async def until(condition):
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 - a thread changes it
            await asyncio.sleep(0.005)


async def test_a_key_that_matched_is_remembered_for_its_hash_alone(checker):
    key, record = new("alice")
    assert not checker.remembers(key, record.hash)
    assert await checker.verify(key, record.hash, "127.0.0.1")
    assert checker.remembers(key, record.hash)
    assert not checker.remembers(key, UNKNOWN)
    assert not checker.remembers(Key(key.id, "x" * 43), record.hash)
    assert key.secret not in repr(vars(checker)), "a digest is kept, and not the key"


async def test_a_key_that_did_not_match_is_not_remembered(checker):
    _, record = new("alice")
    assert not await checker.verify(MANY[0], record.hash, "127.0.0.1")
    assert not checker.remembers(MANY[0], record.hash)


async def test_memory_is_bounded_and_the_least_recently_used_is_forgotten(checker, monkeypatch):
    monkeypatch.setattr(verifier, "MAX_REMEMBERED", 2)
    monkeypatch.setattr(verifier, "matches", lambda secret, stored: True)
    for key in MANY[:2]:
        assert await checker.verify(key, UNKNOWN, "a")
    assert checker.remembers(MANY[0], UNKNOWN)
    assert await checker.verify(MANY[2], UNKNOWN, "a")
    assert [checker.remembers(key, UNKNOWN) for key in MANY[:3]] == [True, False, True]


async def test_two_comparisons_run_at_a_time_and_none_on_the_event_loop(checker, comparisons):
    tasks = [asyncio.create_task(checker.verify(key, UNKNOWN, "a")) for key in MANY[:8]]
    await until(lambda: comparisons.running == 2)
    comparisons.end(8)
    assert await asyncio.gather(*tasks) == [False] * 8
    assert comparisons.most == 2
    assert not comparisons.on_loop


async def test_networks_take_turns(checker, comparisons):
    def of(number, address):
        return asyncio.create_task(checker.verify(MANY[number], UNKNOWN, address))

    tasks = [of(number, f"2001:db8::{number}") for number in range(10)]
    await until(lambda: comparisons.running == 2)
    tasks += [of(10, "192.0.2.1"), of(11, "2001:db8:0:1::1")]
    await asyncio.sleep(0)
    for _ in range(12):
        comparisons.end(1)
    await asyncio.gather(*tasks)
    places = [comparisons.began.index(MANY[number].secret) for number in (10, 11)]
    assert max(places) < 6, "not after the ten of the first network"


async def test_one_network_may_have_only_a_share_of_the_waiting_keys(checker, comparisons, monkeypatch):
    monkeypatch.setattr(verifier, "MAX_WAITING_PER_NETWORK", 3)
    monkeypatch.setattr(verifier, "MAX_WAITING", 5)
    tasks = [asyncio.create_task(checker.verify(key, UNKNOWN, "a")) for key in MANY[:5]]
    await until(lambda: comparisons.running == 2)
    with pytest.raises(Busy):
        await checker.verify(MANY[5], UNKNOWN, "a")
    tasks += [asyncio.create_task(checker.verify(key, UNKNOWN, "b")) for key in MANY[6:8]]
    await asyncio.sleep(0)
    with pytest.raises(Busy):
        await checker.verify(MANY[8], UNKNOWN, "c")
    comparisons.end(7)
    await asyncio.gather(*tasks)
    comparisons.end(1)
    assert not await checker.verify(MANY[9], UNKNOWN, "a"), "what ended makes room"


async def test_who_stops_waiting_leaves_no_place_taken(checker, comparisons):
    tasks = [asyncio.create_task(checker.verify(key, UNKNOWN, "a")) for key in MANY[:6]]
    await until(lambda: comparisons.running == 2)
    for task in tasks[:4]:  # two that are compared, and two that wait
        task.cancel()
    await asyncio.gather(*tasks[:4], return_exceptions=True)
    assert comparisons.most == 2, "a thread that still works keeps its place"
    comparisons.end(4)
    await asyncio.gather(*tasks[4:])
    assert comparisons.most == 2
    assert len(comparisons.began) == 4
    comparisons.end(2)
    assert await asyncio.gather(*(checker.verify(key, UNKNOWN, "a") for key in MANY[10:12])) == [False, False]


async def test_who_stops_waiting_makes_room_for_another(checker, comparisons, monkeypatch):
    monkeypatch.setattr(verifier, "MAX_WAITING_PER_NETWORK", 1)
    tasks = [asyncio.create_task(checker.verify(key, UNKNOWN, "a")) for key in MANY[:3]]
    await until(lambda: comparisons.running == 2)
    tasks[2].cancel()
    await asyncio.gather(tasks[2], return_exceptions=True)
    assert not checker._waiting
    tasks[2] = asyncio.create_task(checker.verify(MANY[3], UNKNOWN, "a"))
    comparisons.end(3)
    assert await asyncio.gather(*tasks) == [False, False, False]


async def test_a_turn_that_comes_as_its_owner_leaves_goes_to_the_next(checker, comparisons, monkeypatch):
    pass_on = checker._next

    def pass_on_and_leave(ended):
        pass_on(ended)
        tasks[2].cancel()

    monkeypatch.setattr(checker, "_next", pass_on_and_leave)
    tasks = [asyncio.create_task(checker.verify(key, UNKNOWN, "a")) for key in MANY[:4]]
    await until(lambda: comparisons.running == 2)
    monkeypatch.setattr(checker, "_next", pass_on)
    comparisons.end(3)
    with pytest.raises(asyncio.CancelledError):
        await tasks[2]
    await asyncio.gather(*tasks[:2], tasks[3])
    assert comparisons.began.count(MANY[3].secret) == 1
    assert comparisons.began.count(MANY[2].secret) == 0
    await until(lambda: checker._running == 0)
