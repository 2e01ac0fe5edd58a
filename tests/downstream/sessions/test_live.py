"""Live sessions: questions outside of calls, and the record that a session is built around."""

import asyncio
import gc
import json

import msgspec
import pytest
from msgspec import Raw

from gateway_core.api import Principal
from gateway_core.downstream.agents import principal_of
from gateway_core.downstream.auth.caller import Caller, caller_at
from gateway_core.downstream.sessions.live import LiveSession, SessionBack
from gateway_core.downstream.sessions.record import SessionRecord, new_record
from gateway_core.downstream.streams.stream import Mailbox
from gateway_core.errors import CANCELLED, RpcError
from gateway_core.exchange.exchange import Agent


async def test_a_question_outside_of_any_call_is_taken_back_when_it_is_not_answered_in_time() -> None:
    session = LiveSession(new_record(caller_at("127.0.0.1"), "a", 0.0, on_channel=True))
    with pytest.raises(RpcError) as refusal:
        await SessionBack(session, limit=0.01).ask("roots/list", b"{}")
    assert refusal.value.code == CANCELLED
    asked, taken_back = [json.loads(await session.mailbox.get() or b"") for _ in range(2)]
    assert taken_back["method"] == "notifications/cancelled"
    assert taken_back["params"] == {"requestId": asked["id"]}


def described(version: str = "2025-11-25") -> Agent:
    info = b'{"name":"tester","version":"1"}'
    return Agent(principal_of(info, caller_at("127.0.0.1")), "legacy", version, info, b'{"roots":{}}')


def test_a_session_that_has_ended_is_freed_without_the_garbage_collector() -> None:
    def sessions() -> int:
        return sum(isinstance(it, LiveSession) for it in gc.get_objects())

    gc.collect()
    before = sessions()
    gc.disable()
    try:
        session = LiveSession(new_record(caller_at("127.0.0.1"), "a", 0.0))
        session.introduce(described())
        session.keep(session.mailbox)
        assert sessions() == before + 1
        session.end()
        del session
        assert sessions() == before
    finally:
        gc.enable()


async def test_a_session_is_rebuilt_from_its_serialised_record() -> None:
    session = LiveSession(new_record(caller_at("127.0.0.1"), "a", 0.0))
    session.introduce(described())
    session.record.log_level = "error"
    copy = msgspec.json.decode(msgspec.json.encode(session.record), type=SessionRecord)
    rebuilt = LiveSession(copy)
    assert rebuilt.agent == session.agent
    assert rebuilt.agent is not None
    assert (rebuilt.agent.client_info, rebuilt.agent.capabilities) == (described().client_info, b'{"roots":{}}')
    assert (rebuilt.keep(Mailbox()).primed, rebuilt.record.log_level, rebuilt.record.ready) == (True, "error", False)


async def test_the_record_of_a_session_says_whether_it_is_busy() -> None:
    now = 100.0
    session = LiveSession(new_record(caller_at("127.0.0.1"), "a", now), lambda: now)
    running = [asyncio.get_running_loop().create_future() for _ in range(2)]
    for number, call in enumerate(running):
        session.began(session.new_key(Raw(b"%d" % number)), call)
        now += 10
    assert (session.record.busy_since, session.record.gives_way) == (100.0, False)
    with pytest.raises(RpcError, match="still in flight"):
        session.new_key(Raw(b"1"))
    session.ended(0)
    assert session.record.busy_since == 100.0, "one is left"
    session.ended(1)
    assert (session.record.busy_since, session.record.used, session.record.gives_way) == (None, 120.0, True)


def test_a_session_gets_the_claims_that_its_caller_has_now() -> None:
    def caller(profile: str) -> Caller:
        return Caller("10.0.0.1", Principal.proven("alice", issuer="keys", claims={"profile": profile}))

    session = LiveSession(new_record(caller("admin"), "a", 0.0))
    session.introduce(described())
    first = session.agent
    session.renew(caller("admin"))
    assert session.agent is first
    session.renew(caller("reader"))
    assert session.agent is not None
    assert session.agent.principal.claims == {"profile": "reader"}
