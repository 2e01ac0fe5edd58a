"""The mailbox: bounded, in order, progress goes first."""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

import pytest

from gateway_core.downstream.streams.stream import Accepts, Keep, Mailbox, PostResponse
from gateway_core.http1.head import read_head
from gateway_core.http1.sse import event
from gateway_core.limits.accounts import Account
from gateway_core.limits.budget import MemoryBudget


@pytest.fixture
def room(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Set the bounds of mailboxes."""

    def bound(**limits: int) -> None:
        for name, limit in limits.items():
            monkeypatch.setattr(f"gateway_core.downstream.streams.stream.{name.upper()}", limit)

    return bound


async def drained(mailbox: Mailbox) -> list[bytes]:
    mailbox.close()
    taken = []
    while (message := await mailbox.get()) is not None:
        taken.append(message)
    return taken


async def test_messages_come_out_in_order() -> None:
    mailbox = Mailbox()
    for number in range(5):
        mailbox.put(b"%d" % number)
    assert await drained(mailbox) == [b"0", b"1", b"2", b"3", b"4"]


async def test_the_oldest_progress_is_dropped_first(room: Callable[..., None]) -> None:
    room(max_messages=3)
    mailbox = Mailbox()
    mailbox.put(b"notice")
    mailbox.put(b"p1", Keep.PROGRESS)
    mailbox.put(b"p2", Keep.PROGRESS)
    mailbox.put(b"answer", Keep.ALWAYS)
    assert await drained(mailbox) == [b"notice", b"p2", b"answer"]


async def test_then_the_oldest_notice_but_never_an_answer(room: Callable[..., None]) -> None:
    room(max_messages=2)
    mailbox = Mailbox()
    for number in range(4):
        mailbox.put(b"answer %d" % number, Keep.ALWAYS)
    mailbox.put(b"notice")
    assert mailbox.kept == 4
    assert await drained(mailbox) == [b"answer %d" % number for number in range(4)]


async def test_bytes_are_bounded_too_but_one_message_always_passes(room: Callable[..., None]) -> None:
    room(max_bytes=100)
    mailbox = Mailbox()
    mailbox.put(b"x" * 500)
    for _ in range(50):
        mailbox.put(b"y" * 40)
    assert await drained(mailbox) == [b"y" * 40, b"y" * 40]
    alone = Mailbox()
    alone.put(b"x" * 500)
    assert await drained(alone) == [b"x" * 500]


async def test_a_storm_leaves_the_newest() -> None:
    mailbox = Mailbox()
    for number in range(20_000):
        mailbox.put(b"%d" % number, Keep.PROGRESS)
    taken = await drained(mailbox)
    assert taken[-1] == b"19999"
    assert len(taken) == 256


async def test_several_takers_share_the_messages() -> None:
    mailbox = Mailbox()
    takers = [asyncio.ensure_future(mailbox.get()) for _ in range(3)]
    await asyncio.sleep(0)
    for number in range(3):
        mailbox.put(b"%d" % number)
    assert sorted(message for message in await asyncio.gather(*takers) if message) == [b"0", b"1", b"2"]


async def test_a_taker_that_gives_up_takes_nothing_with_it() -> None:
    mailbox = Mailbox()
    taker = asyncio.ensure_future(mailbox.get())
    await asyncio.sleep(0)
    mailbox.put(b"a")
    taker.cancel()
    await asyncio.gather(taker, return_exceptions=True)
    assert taker.cancelled()
    assert await drained(mailbox) == [b"a"]


async def test_a_closed_mailbox_takes_nothing_in() -> None:
    mailbox = Mailbox()
    mailbox.close()
    mailbox.put(b"late", Keep.ALWAYS)
    assert await mailbox.get() is None


async def test_room_is_waited_for() -> None:
    mailbox = Mailbox()
    mailbox.put(b"a", Keep.ALWAYS)
    mailbox.put(b"b", Keep.ALWAYS)
    waiting = asyncio.ensure_future(mailbox.wait_room(1))
    await asyncio.sleep(0.01)
    assert not waiting.done()
    await mailbox.get()
    await asyncio.wait_for(waiting, 1)


def test_an_event_is_one_data_line() -> None:
    assert event(b'{"a":"\\n\\ndata: x"}') == b'event: message\ndata: {"a":"\\n\\ndata: x"}\n\n'


KB = 1024


@pytest.fixture
def budget(monkeypatch: pytest.MonkeyPatch) -> MemoryBudget:
    """A budget of which one network may have 2500 KB."""
    monkeypatch.setattr("gateway_core.limits.budget.trim", lambda: None)
    return MemoryBudget(10_000 * KB, lambda: 0)


async def test_what_is_queued_counts_until_it_is_taken(budget: MemoryBudget) -> None:
    mailbox = Mailbox(Account(budget, "one"))
    mailbox.put(b"small", Keep.ALWAYS)
    assert budget.held_by("one") == 0
    for _ in range(10):
        mailbox.put(b"x" * 100 * KB, Keep.ALWAYS)
    assert budget.held_by("one") == 1000 * KB + 5
    for _ in range(11):
        await mailbox.get()
    assert budget.held_by("one") == 0


@pytest.mark.parametrize("end", [Mailbox.discard, lambda mailbox: None], ids=["discarded", "no longer referred to"])
async def test_what_was_never_taken_is_given_back(budget: MemoryBudget, end: Any) -> None:
    mailbox = Mailbox(Account(budget, "one"))
    mailbox.put(b"x" * 1000 * KB)
    assert budget.held_by("one") == 1000 * KB
    end(mailbox)
    del mailbox
    assert budget.held_by("one") == 0


async def test_the_messages_of_a_call_count_for_its_caller_and_not_for_the_connection(budget: MemoryBudget) -> None:
    class Proxy:
        network = "10.0.0.1"

        async def begin_stream(self, headers: Any) -> Any:
            await asyncio.Event().wait()

    connection: Any = Proxy()
    head = read_head(b"POST /mcp HTTP/1.1\r\nHost: gateway\r\n\r\n")
    head.route.count_for("203.0.113.9")
    reply = PostResponse(connection, head, Accepts(), budget)
    reply.send(b"x" * 1000 * KB)
    assert (budget.held_by("203.0.113.9"), budget.held_by("10.0.0.1")) == (1000 * KB, 0)
    assert reply.writer is not None
    reply.writer.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await reply.writer


async def test_without_room_notifications_are_dropped_and_answers_stay(budget: MemoryBudget) -> None:
    other, mailbox = (Mailbox(Account(budget, "one")) for _ in range(2))
    other.put(b"x" * 2000 * KB, Keep.ALWAYS)
    for number in range(10):
        mailbox.put(b"%d" % number + b"n" * 100 * KB, Keep.NOTICE)
    assert budget.held_by("one") <= 2500 * KB
    assert mailbox.size < 500 * KB
    mailbox.put(b"a" * 2000 * KB, Keep.ALWAYS)
    assert mailbox.kept == 1
    assert mailbox.size == 2000 * KB
    assert budget.held_by("one") == 4000 * KB, "it is counted all the same"
