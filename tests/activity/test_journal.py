"""The journal: what readers get that come late, are slow, or want only some types."""

from __future__ import annotations

import asyncio

from gateway_core.activity.events import EndedCall, SessionChanged
from gateway_core.activity.journal import MAX_NEW_CALLS, Journal


def call(journal: Journal, name: str = "echo") -> EndedCall:
    """Add an ended call."""
    ended = EndedCall(
        *("id", "tools/call", name, "ann", False, "modern", None, "desk", "ok", None),
        *(0.1, 0.0, 1.0, 1, True, 10, (), (), ()),
        seq=journal.number(),
        at=1.1,
    )
    journal.calls.append(ended)
    return ended


def session(journal: Journal, key: str = "k") -> SessionChanged:
    """Add the beginning of a session."""
    began = SessionChanged(**journal.stamp(), key=key, agent="ann", what="began")
    journal.add(began)
    return began


def test_a_reader_gets_what_it_has_not_read_of_its_types_in_order() -> None:
    journal = Journal()
    first, second, third = call(journal), session(journal), call(journal)
    everything = journal.since(journal.first, ("call", "session"))
    assert (everything.events, everything.missed, everything.last) == ([first, second, third], 0, third.seq)
    assert journal.since(first.seq, ("session", "reload")).events == [second]
    assert journal.since(first.seq, ("call",)).events == [third]
    assert journal.since(third.seq, ("call", "session")).events == []


def test_many_calls_do_not_push_out_what_is_rare() -> None:
    journal = Journal(calls=10, others=10)
    began = session(journal)
    for _ in range(50):
        call(journal)
    assert journal.since(journal.first, ("session",)).events == [began]


def test_a_reader_that_is_too_slow_gets_the_latest_and_the_number_of_the_rest() -> None:
    journal = Journal(calls=10, others=3)
    known = call(journal).seq
    calls = [call(journal) for _ in range(15)]
    news = journal.since(known, ("call",))
    assert (news.events, news.missed) == (calls[-10:], 5)
    known = news.last
    sessions = [session(journal) for _ in range(5)]
    news = journal.since(known, ("session",))
    assert (news.events, news.missed) == (sessions[-3:], 2)
    assert journal.since(news.last, ("call", "session")).missed == 0


def test_one_look_returns_a_bounded_number_of_calls() -> None:
    journal = Journal()
    for _ in range(MAX_NEW_CALLS + 7):
        call(journal)
    news = journal.since(journal.first, ("call",))
    assert (len(news.events), news.missed) == (MAX_NEW_CALLS, 7)


def test_numbers_of_an_earlier_or_a_wrong_process_begin_at_the_start() -> None:
    journal = Journal()
    began = session(journal)
    for seq in (0, journal.first - 10**6, journal.last + 10**6):
        news = journal.since(seq, ("session",))
        assert (news.events, news.missed) == ([began], 0)
    assert Journal().first > journal.first


async def test_waiting_ends_with_the_next_event_and_keeps_nothing() -> None:
    journal = Journal()
    waiting = asyncio.create_task(journal.wait(None))
    await asyncio.sleep(0)
    given_up = asyncio.create_task(journal.wait(None))
    await asyncio.sleep(0)
    given_up.cancel()
    await asyncio.wait({given_up})
    session(journal)
    async with asyncio.timeout(60):
        await waiting
        await journal.wait(0.01)
    assert not vars(journal)["_waiting"]
