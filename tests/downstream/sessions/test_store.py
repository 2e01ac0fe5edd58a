"""The session store: ownership, limits, idleness, and which session ends for a new one."""

import time

import pytest

from gateway_core.api import Principal
from gateway_core.downstream.auth.caller import Caller, caller_at
from gateway_core.downstream.sessions.holders import LOOKED_AT
from gateway_core.downstream.sessions.record import SessionRecord
from gateway_core.downstream.sessions.store import MAX_WAIT, InMemorySessions
from gateway_core.errors import TooManySessions


def opened(store: InMemorySessions, owner: str, *, idle: float = 0.0, streams: int = 0) -> SessionRecord:
    """A new session, unused for `idle` seconds, with so many open streams."""
    session = store.create(caller_at("h"), owner)
    session.used -= idle
    session.streams = streams
    return session


class Clock:
    """A clock that the test turns."""

    def __init__(self) -> None:
        self.now = 1000.5

    def __call__(self) -> float:
        return self.now


def clocked(idle: float) -> tuple[InMemorySessions, Clock]:
    """A store whose sessions expire after `idle` seconds of its clock."""
    store, clock = InMemorySessions(1000, 1000, idle), Clock()
    store.clock = clock
    return store, clock


def expired(store: InMemorySessions) -> list[SessionRecord]:
    """The sessions that have expired."""
    return [record for part in store.expire(list) for record in part]


def calling(store: InMemorySessions, owner: str, *, since: float = 0.0) -> SessionRecord:
    """A session with a call in flight, begun so many seconds ago."""
    session = opened(store, owner, idle=since)
    session.calls_begun(store.clock() - since)
    return session


def on_channel(store: InMemorySessions, owner: str) -> SessionRecord:
    """A session that lives on a channel, as those of HTTP+SSE do."""
    session = store.create(caller_at("h"), owner, on_channel=True)
    session.stream_opened()
    return session


async def test_a_session_is_found_by_caller_and_id() -> None:
    store = InMemorySessions(10, 10, 60.0)
    session = store.create(caller_at("10.0.0.1"), "a@10.0.0.1")
    assert store.get("10.0.0.1", session.id) is session
    assert store.get("10.0.0.2", session.id) is None
    assert store.get("10.0.0.1", session.id + "x") is None
    assert len(store) == 1


async def test_caps_count_per_owner_and_in_all_and_are_given_back() -> None:
    store = InMemorySessions(3, 2, 60.0)
    first = store.create(caller_at("h"), "a@h")
    store.create(caller_at("h"), "a@h")
    with pytest.raises(TooManySessions) as own:
        store.create(caller_at("h"), "a@h")
    assert not own.value.everybody
    store.create(caller_at("h"), "b@h")
    with pytest.raises(TooManySessions) as everybody:
        store.create(caller_at("h"), "c@h")
    assert everybody.value.everybody
    store.delete(first)
    store.delete(first)
    store.create(caller_at("h"), "a@h")
    assert len(store) == 3


async def test_ids_are_long_and_different() -> None:
    store = InMemorySessions(1000, 1000, 60.0)
    ids = {store.create(caller_at("h"), "a").id for _ in range(500)}
    assert len(ids) == 500
    assert all(len(session_id) == 43 for session_id in ids)


async def test_only_what_is_unused_expires() -> None:
    store, clock = clocked(60.0)
    idle, streaming, calling, fresh = records = [store.create(caller_at("h"), "a@h") for _ in range(4)]
    streaming.stream_opened()
    calling.calls_begun(clock.now)
    clock.now += 59.0
    assert expired(store) == []
    fresh.touch(clock.now)
    clock.now += 2.0
    assert expired(store) == [idle]
    assert [store.get("h", session.id) for session in records] == [None, streaming, calling, fresh]


async def test_a_session_expires_when_it_was_unused_since_its_last_use() -> None:
    store, clock = clocked(60.0)
    streaming, calling, used = records = [store.create(caller_at("h"), "a@h") for _ in range(3)]
    streaming.stream_opened()
    calling.calls_begun(clock.now)
    clock.now += 50.0
    used.touch(clock.now)
    clock.now += 50.0
    assert expired(store) == []
    streaming.stream_ended(clock.now)
    calling.calls_ended(clock.now)
    clock.now += 59.0
    assert expired(store) == [used]
    clock.now += 61.0
    assert expired(store) == [streaming, calling]
    assert not any(store.get("h", session.id) for session in records)


async def test_a_changed_limit_applies_to_open_sessions() -> None:
    store, clock = clocked(60.0)
    session = store.create(caller_at("h"), "a@h")
    store.limit_to(10, 10, 5.0)
    clock.now += 6.0
    assert expired(store) == [session]


async def test_only_sessions_that_may_have_expired_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at = []

    def busy(record: SessionRecord) -> bool:
        looked_at.append(record.id)
        return False

    monkeypatch.setattr(SessionRecord, "busy", property(busy))
    store, clock = clocked(60.0)
    old = store.create(caller_at("h"), "a@h")
    clock.now += 50.0
    for _ in range(20):
        store.create(caller_at("h"), "a@h")
    clock.now += 15.0
    assert [record for part in store.expire(lambda: 1 / 0) for record in part] == [old]  # type: ignore[arg-type,return-value]
    assert looked_at == [old.id]


async def test_a_session_that_was_deleted_does_not_expire() -> None:
    store, clock = clocked(60.0)
    store.delete(store.create(caller_at("h"), "a@h"))
    clock.now += 61.0
    assert expired(store) == []


async def test_a_saved_record_replaces_the_stored_one_and_a_deleted_one_stays_away() -> None:
    store = InMemorySessions(10, 1, 60.0)
    first = store.create(caller_at("h"), "a")
    changed = SessionRecord(first.id, caller_at("h"), "a", first.used, log_level="error")
    store.save(SessionRecord(first.id, caller_at("h"), "a", first.used - 1))
    assert store.get("h", first.id) is first, "a stale record replaces nothing"
    store.save(changed)
    assert store.get("h", first.id) is store.in_the_way(caller_at("h"), "a") is changed
    store.delete(changed)
    store.save(changed)
    assert (store.get("h", first.id), store.in_the_way(caller_at("h"), "a"), len(store)) == (None, None, 0)


async def test_at_the_limit_of_a_principal_its_idlest_session_is_in_the_way() -> None:
    store = InMemorySessions(10, 3, 60.0)
    opened(store, "other", idle=99)
    opened(store, "a", idle=1)
    assert store.in_the_way(caller_at("h"), "a") is None
    idlest = opened(store, "a", idle=3)
    opened(store, "a", idle=2)
    assert store.in_the_way(caller_at("h"), "a") is idlest


async def test_a_session_without_a_stream_gives_way_first() -> None:
    store = InMemorySessions(10, 3, 60.0)
    calling(store, "a", since=9)
    listening = opened(store, "a", idle=5, streams=1)
    quiet = opened(store, "a", idle=1)
    assert store.in_the_way(caller_at("h"), "a") is quiet
    store.delete(quiet)
    calling(store, "a")
    assert store.in_the_way(caller_at("h"), "a") is listening


async def test_a_principal_whose_sessions_are_all_in_use_is_refused_for_as_long_as_its_calls_take() -> None:
    store = InMemorySessions(10, 3, 60.0)
    opened(store, "other", idle=99)
    calling(store, "a", since=30)
    calling(store, "a", since=7)
    on_channel(store, "a")
    with pytest.raises(TooManySessions) as refused:
        store.in_the_way(caller_at("h"), "a")
    assert not refused.value.everybody
    assert 7000 <= refused.value.data["retryAfterMs"] < 30000


async def test_messages_during_a_call_do_not_shorten_the_wait() -> None:
    store = InMemorySessions(10, 1, 60.0)
    calling(store, "a", since=30).touch(store.clock())
    with pytest.raises(TooManySessions) as refused:
        store.in_the_way(caller_at("h"), "a")
    assert 30_000 <= refused.value.data["retryAfterMs"] < 60_000


async def test_a_session_that_was_free_in_between_is_busy_since_its_last_call() -> None:
    store = InMemorySessions(10, 1, 60.0)
    session = calling(store, "a", since=30)
    session.calls_ended(store.clock())
    session.calls_begun(store.clock())
    with pytest.raises(TooManySessions) as refused:
        store.in_the_way(caller_at("h"), "a")
    assert refused.value.data["retryAfterMs"] == 1000


@pytest.mark.parametrize(("since", "wait"), [(0.0, 1.0), (10 * MAX_WAIT, MAX_WAIT)])
async def test_the_wait_is_bounded(since: float, wait: float) -> None:
    store = InMemorySessions(10, 1, 60.0)
    calling(store, "a", since=since)
    with pytest.raises(TooManySessions) as refused:
        store.in_the_way(caller_at("h"), "a")
    assert refused.value.data["retryAfterMs"] == wait * 1000


async def test_no_wait_is_promised_where_connections_hold_all_sessions() -> None:
    store = InMemorySessions(10, 1, 60.0)
    on_channel(store, "a")
    with pytest.raises(TooManySessions) as refused:
        store.in_the_way(caller_at("h"), "a")
    assert "retryAfterMs" not in refused.value.data


async def test_at_the_limit_of_all_the_largest_holder_gives_way() -> None:
    store = InMemorySessions(6, 10, 60.0)
    opened(store, "small", idle=99)
    middle = [opened(store, "middle", idle=idle) for idle in (50, 60)]
    large = [opened(store, "large", idle=idle) for idle in (1, 3, 2)]
    assert store.in_the_way(caller_at("h"), "new") is large[1]
    assert store.in_the_way(caller_at("h"), "small") is large[1]
    assert store.in_the_way(caller_at("h"), "large") is large[1]
    for session in large:
        session.calls_begun(store.clock())
    assert store.in_the_way(caller_at("h"), "new") is middle[1], "the next one, where nothing of the largest can end"


async def test_a_principal_takes_no_place_of_one_that_has_no_more() -> None:
    store = InMemorySessions(4, 10, 60.0)
    for _ in range(2):
        opened(store, "victim", idle=50)
        calling(store, "greedy")
    with pytest.raises(TooManySessions) as refused:
        store.in_the_way(caller_at("h"), "greedy")
    assert refused.value.everybody


async def test_among_holders_of_equally_many_the_idlest_session_gives_way() -> None:
    store = InMemorySessions(50, 10, 60.0)
    sessions = [opened(store, f"a{number}", idle=10 + number % 7) for number in range(50)]
    for session in sessions[:3]:
        session.used = time.monotonic()
    found = store.in_the_way(caller_at("h"), "new")
    assert found is not None
    assert found.used == min(session.used for session in sessions)


async def test_sessions_in_use_are_kept_among_very_many_holders() -> None:
    many = 10 * LOOKED_AT
    store = InMemorySessions(many, 10, 3600.0)
    used = [opened(store, f"used{number}") for number in range(20)]
    for number in range(many - 20):
        opened(store, f"idle{number}", idle=1000)
    for number in range(many - 20):
        found = store.in_the_way(caller_at("h"), "new")
        assert found is not None
        store.delete(found)
        opened(store, f"new{number}", idle=500)
    assert all(store.get("h", session.id) is session for session in used)


def of(store: InMemorySessions, caller: Caller, name: str, *, idle: float = 0.0) -> SessionRecord:
    """A new session of a caller whose agent claims `name`, unused for `idle` seconds."""
    owner = f"{name}@{caller.address}" if caller.principal is None else caller.principal.id
    session = store.create(caller, owner)
    session.used -= idle
    return session


def proven(name: str) -> Caller:
    return Caller("10.0.0.1", Principal.proven(name, issuer="keys"))


async def test_many_claimed_names_of_one_network_take_no_place_of_a_verified_principal() -> None:
    store = InMemorySessions(10, 10, 3600.0)
    alice, stranger = proven("alice"), caller_at("198.51.100.7")
    own = [of(store, alice, "", idle=1000 + number) for number in range(3)]
    strange = [of(store, stranger, f"name{number}", idle=7 - number) for number in range(7)]
    assert store.in_the_way(stranger, "another@198.51.100.7") is strange[0]
    for session in strange:
        session.calls_begun(store.clock())
    with pytest.raises(TooManySessions):
        store.in_the_way(stranger, "another@198.51.100.7")
    assert all(store.get(alice.key, session.id) is session for session in own)


async def test_agents_that_prove_nothing_give_way_to_verified_principals() -> None:
    store = InMemorySessions(5, 10, 3600.0)
    alice, bob, stranger = proven("alice"), proven("bob"), caller_at("198.51.100.7")
    own = [of(store, alice, "", idle=1000 + number) for number in range(4)]
    strange = of(store, stranger, "name")
    assert store.in_the_way(bob, bob.key) is strange
    assert store.in_the_way(alice, alice.key) is strange, "even if she has more"
    strange.calls_begun(store.clock())
    assert store.in_the_way(bob, bob.key) is own[3]


async def test_the_names_of_one_network_count_together_against_those_of_others() -> None:
    store = InMemorySessions(6, 10, 3600.0)
    home, office = caller_at("203.0.113.9"), caller_at("198.51.100.7")
    quiet = [of(store, home, "mine", idle=1000 + number) for number in range(2)]
    many = [of(store, office, f"name{number}", idle=number) for number in range(4)]
    assert store.in_the_way(home, "mine@203.0.113.9") is many[3]
    assert store.in_the_way(office, "new@198.51.100.7") is many[3], "not one of a network with fewer"
    assert store.in_the_way(caller_at("192.0.2.1"), "x@192.0.2.1") is many[3]
    assert all(store.get(home.key, session.id) is session for session in quiet)


async def test_all_addresses_of_one_ipv6_network_count_together() -> None:
    store = InMemorySessions(4, 10, 3600.0)
    host = [of(store, caller_at(f"2001:db8::{number}"), "name", idle=number) for number in range(1, 4)]
    of(store, caller_at("203.0.113.9"), "mine", idle=1000)
    assert store.in_the_way(caller_at("2001:db8::9"), "name@2001:db8::9") is host[2]
