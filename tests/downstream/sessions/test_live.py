"""Sessions: what reaches their agents outside of calls."""

import json

import pytest

from gateway_core.downstream.sessions.live import Session, SessionBack
from gateway_core.errors import CANCELLED, RpcError


async def test_a_question_outside_of_any_call_is_taken_back_when_it_is_not_answered_in_time() -> None:
    session = Session("127.0.0.1", "a")
    session.own_channel = True
    with pytest.raises(RpcError) as refusal:
        await SessionBack(session, limit=0.01).ask("roots/list", b"{}")
    assert refusal.value.code == CANCELLED
    asked, taken_back = [json.loads(await session.mailbox.get() or b"") for _ in range(2)]
    assert taken_back["method"] == "notifications/cancelled"
    assert taken_back["params"] == {"requestId": asked["id"]}
