"""The session store: ownership, caps, idleness."""

import asyncio
import json
import time

import pytest

from gateway_core.downstream.sessions import InMemorySessions, Session, SessionBack
from gateway_core.errors import CANCELLED, RpcError, TooManySessions


async def test_a_session_is_found_by_address_and_id() -> None:
    store = InMemorySessions(10, 10, 60.0)
    session = store.create("10.0.0.1", "a@10.0.0.1")
    assert store.get("10.0.0.1", session.id) is session
    assert store.get("10.0.0.2", session.id) is None
    assert store.get("10.0.0.1", session.id + "x") is None
    assert list(store) == [session]


async def test_caps_count_per_owner_and_in_all_and_are_given_back() -> None:
    store = InMemorySessions(3, 2, 60.0)
    first = store.create("h", "a@h")
    store.create("h", "a@h")
    with pytest.raises(TooManySessions) as own:
        store.create("h", "a@h")
    assert not own.value.everybody
    store.create("h", "b@h")
    with pytest.raises(TooManySessions) as everybody:
        store.create("h", "c@h")
    assert everybody.value.everybody
    store.delete(first)
    store.delete(first)
    store.create("h", "a@h")
    assert len(store) == 3


async def test_ids_are_long_and_different() -> None:
    store = InMemorySessions(1000, 1000, 60.0)
    ids = {store.create("h", "a").id for _ in range(500)}
    assert len(ids) == 500
    assert all(len(session_id) == 43 for session_id in ids)


async def test_only_what_is_unused_expires() -> None:
    store = InMemorySessions(10, 10, 60.0)
    idle, streaming, calling, fresh = (store.create("h", "a@h") for _ in range(4))
    for session in (idle, streaming, calling):
        session.used = time.monotonic() - 61
    streaming.streams = 1
    calling.calls[1] = asyncio.ensure_future(asyncio.sleep(0, b""))
    assert store.expire() == [idle]
    assert list(store) == [streaming, calling, fresh]
    await calling.calls[1]


async def test_a_question_outside_of_any_call_is_taken_back_when_it_is_not_answered_in_time() -> None:
    session = Session("127.0.0.1", "a")
    session.own_channel = True
    with pytest.raises(RpcError) as refusal:
        await SessionBack(session, limit=0.01).ask("roots/list", b"{}")
    assert refusal.value.code == CANCELLED
    asked, taken_back = [json.loads(await session.mailbox.get() or b"") for _ in range(2)]
    assert taken_back["method"] == "notifications/cancelled"
    assert taken_back["params"] == {"requestId": asked["id"]}
