"""Secrets that a request presents: no encoder, `repr` or comparison shows them."""

import dataclasses

import msgspec

from gateway_core.api import Principal
from gateway_core.downstream.auth.caller import Caller
from gateway_core.downstream.sessions.record import SessionRecord, new_record
from gateway_core.exchange.exchange import Agent
from gateway_core.exchange.presented import NOTHING, Presented, rights_of

MADE = Presented.of({"x-key": "hidden-1"}, "hidden-2")


def test_it_is_shown_nowhere() -> None:
    caller = Caller("127.0.0.1", Principal.proven("ada", issuer="x"), MADE)
    agent = Agent(Principal("a"), "modern", "2026-07-28", presented=MADE)
    record = new_record(caller, "ada", 0.0)
    shown = [repr(MADE), repr(caller), repr(agent), repr(record)]
    assert "hidden" not in "".join(shown)
    assert b"hidden" not in msgspec.json.encode(record)
    assert msgspec.json.decode(msgspec.json.encode(record), type=SessionRecord).caller.presented.header("x-key") is None
    assert dataclasses.replace(agent, era="legacy").presented is MADE


def test_it_has_what_was_presented() -> None:
    assert (MADE.header("x-key"), MADE.token, MADE.header("x-other")) == ("hidden-1", "hidden-2", None)
    assert (NOTHING.header("x-key"), NOTHING.token, NOTHING.headers_digest) == (None, None, "")


def test_the_same_is_told_from_other() -> None:
    assert MADE.is_same(Presented.of({"x-key": "hidden-1"}, "hidden-2"))
    for other in (NOTHING, Presented.of({"x-key": "hidden-1"}), Presented.of({"x-key": "x"}, "hidden-2")):
        assert not MADE.is_same(other)
    assert Presented.of({"x-key": "hidden-1"}).headers_digest != Presented.of({"x-key": "hidden-3"}).headers_digest


def test_lists_belong_to_the_principal_and_what_it_presents() -> None:
    ada = Principal.proven("ada", issuer="x", scopes=["a", "b"], claims={"exp": 1, "azp": "c"})
    plain = Agent(ada, "modern", "2026-07-28")
    assert plain.viewer == ada.id
    presented = [
        Presented.of({"x-key": "1"}),
        Presented.of({"x-key": "2"}),
        Presented.of({}, "t", rights=rights_of(ada)),
        Presented.of({}, "t", rights=rights_of(Principal.proven("ada", issuer="x", scopes=["a"]))),
    ]
    viewers = {Agent(ada, "modern", "2026-07-28", presented=it).viewer for it in presented}
    assert len(viewers | {plain.viewer}) == 5
    renewed = Principal.proven("ada", issuer="x", scopes=["b", "a"], claims={"exp": 2, "azp": "c"})
    assert rights_of(renewed) == rights_of(ada)
