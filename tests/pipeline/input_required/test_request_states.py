"""Request states: what is sealed comes back for its call and agent alone, once, and in time."""

import base64
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from gateway_core.api import Answers, Call, GivenAnswer, Principal
from gateway_core.errors import INVALID_PARAMS, RpcError
from gateway_core.pipeline.input_required.request_states import Pending, State, States
from gateway_core.sealing import Seal

PATIENT = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
TEXT = st.text(st.characters(codec="utf-8"), max_size=12)
ANSWERS = st.lists(
    st.builds(
        GivenAnswer,
        TEXT,
        TEXT,
        st.binary(max_size=8),
        st.sampled_from(["accept", "decline", "cancel"]),
        st.binary(max_size=20),
    ),
    max_size=4,
)
STATES = st.builds(
    State,
    st.sampled_from(["first", "relay", "again", "parked"]),
    TEXT,
    st.none() | TEXT,
    pending=st.none() | st.builds(Pending, TEXT, TEXT, st.binary(max_size=8), st.binary(max_size=20), TEXT),
    responses=st.binary(max_size=20),
)


def call(arguments: object = None, principal: str = "ann", method: str = "tools/call", name: str = "add") -> Call:
    raw = b"" if arguments is None else json.dumps(arguments).encode()
    return Call(method, name, Principal(principal), "modern", "x", raw)


def quoted(token: str) -> bytes:
    return json.dumps(token).encode()


def refused(states: States, of: Call, token: bytes) -> str:
    with pytest.raises(RpcError) as caught:
        states.read(of, token)
    assert caught.value.code == INVALID_PARAMS
    return caught.value.message


@PATIENT
@given(STATES, ANSWERS)
def test_a_state_comes_back_as_it_was_sealed(state: State, answers: list[GivenAnswer]) -> None:
    states, mine = States(Seal(), 60), call({"a": 1}).with_answers(Answers(answers))
    found = states.read(call({"a": 1}), quoted(states.seal(mine, state)))
    assert replace(found, nonce=b"", issued=0.0) == replace(state, answers=tuple(answers), nonce=b"")


@PATIENT
@given(STATES, ANSWERS, st.data())
def test_nothing_but_the_sealed_state_is_accepted(
    state: State, answers: list[GivenAnswer], data: st.DataObject
) -> None:
    """Altered in any place, cut, or brought with another call or by another agent: one answer for all."""
    states = States(Seal(["a key"]), 60)
    token = states.seal(call({"a": 1}).with_answers(Answers(answers)), state)
    sealed = bytearray(base64.urlsafe_b64decode(token))
    sealed[data.draw(st.integers(0, len(sealed) - 1))] ^= data.draw(st.integers(1, 255))
    cut = data.draw(st.integers(0, len(token) - 1))
    attempts = [
        (call({"a": 1}), quoted(base64.urlsafe_b64encode(sealed).decode())),
        (call({"a": 1}), quoted(token[:cut])),
        (call({"a": 2}), quoted(token)),
        (call(), quoted(token)),
        (call({"a": 1}, principal="eve"), quoted(token)),
        (call({"a": 1}, method="prompts/get"), quoted(token)),
        (call({"a": 1}, name="sub"), quoted(token)),
        (call({"a": 1}), data.draw(st.sampled_from([b"7", b"null", b"[]", b"{}", b'"'])) or b""),
    ]
    assert len({refused(states, of, raw) for of, raw in attempts}) == 1


def test_a_state_counts_once_until_it_is_given_back() -> None:
    states, mine = States(Seal(), 60), call()
    token = quoted(states.seal(mine, State("relay", "u")))
    state = states.read(mine, token)
    assert states.read(mine, token) == state, "to read it is not to use it"
    states.use(state, mine.principal)
    refused(states, mine, token)
    with pytest.raises(RpcError):
        states.use(state, mine.principal)
    states.give_back(state, mine.principal)
    assert states.read(mine, token) == state


@PATIENT
@given(STATES, ANSWERS)
def test_states_with_questions_or_answers_of_plugins_belong_to_their_process(
    state: State, answers: list[GivenAnswer]
) -> None:
    one, other = States(Seal(["a key"]), 60), States(Seal(["a key"]), 60)
    token = quoted(one.seal(call().with_answers(Answers(answers)), state))
    if answers or state.pending is not None:
        refused(other, call(), token)
    else:
        assert other.read(call(), token).kind == state.kind


def test_a_state_lapses_after_the_shorter_of_two_times(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr("gateway_core.sealing.time.monotonic", lambda: now)
    states, mine = States(Seal(), 60), call()
    tokens = {life: quoted(states.seal(mine, State("relay", "u"), life)) for life in (None, 5, 500)}
    now = 1004.0
    for token in tokens.values():
        states.read(mine, token)
    now = 1006.0
    refused(states, mine, tokens[5])
    now = 1061.0
    refused(states, mine, tokens[None])
    refused(states, mine, tokens[500])
