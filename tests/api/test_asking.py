"""Questions of plugins and their answers: what a plugin sees of them."""

import pytest
from msgspec.structs import replace

from gateway_core import Answer, Ask
from gateway_core.api import Answers, Call, GivenAnswer, Principal
from gateway_core.testing import make_call


def answered(call: Call, *given: GivenAnswer) -> Call:
    return call.with_answers(Answers(given))


def given(
    call: Call, plugin: str = "one", name: str = "q", action: str = "accept", content: bytes = b""
) -> GivenAnswer:
    return GivenAnswer(plugin, name, call.subject(), action, content)  # type: ignore[arg-type]


def test_a_question_is_a_value() -> None:
    assert Ask("why?") == Ask("why?", name="question")
    with pytest.raises(AttributeError):
        Ask("why?").message = "no"  # type: ignore[misc]


def test_a_plugin_sees_the_answers_to_its_own_questions_alone() -> None:
    call = make_call("add", {"a": 1})
    call = answered(call, given(call, content=b'{"x":[1]}'), given(call, "two", action="decline"))
    assert call.seen_by("one").answers == {"q": Answer("accept", {"x": [1]})}
    assert call.seen_by("two").answers == {"q": Answer("decline")}
    assert call.seen_by("three").answers == {}
    assert make_call("add").answers == {}


def test_answers_cannot_be_changed() -> None:
    call = make_call()
    call = answered(call, given(call, content=b'{"x":[1]}')).seen_by("one")
    with pytest.raises(TypeError):
        call.answers["other"] = Answer("accept")  # type: ignore[index]
    with pytest.raises(TypeError):
        call.answers["q"].content["x"].append(2)


def test_the_latest_answer_to_a_question_counts() -> None:
    call = make_call()
    call = answered(call, given(call), given(call, action="cancel"))
    assert call.seen_by("one").answers["q"] == Answer("cancel")


@pytest.mark.parametrize(
    "other",
    [
        make_call("add", {"a": 2}),
        make_call("sub", {"a": 1}),
        make_call("add"),
        make_call("add", {"a": 1}, upstreams=("other",)),
        make_call("add", {"a": 1}, upstreams=("upstream", "other")),
        make_call("add", {"a": 1}, known=False),
        make_call("add", {"a": 1}, method="prompts/get"),
    ],
)
def test_an_answer_about_another_call_is_none(other: Call) -> None:
    call = make_call("add", {"a": 1})
    assert answered(other, given(call)).seen_by("one").answers == {}


def test_white_space_and_the_order_of_members_do_not_matter() -> None:
    call = make_call("add", {"a": 1, "b": {"c": 2, "d": 3}})
    same = replace(call, raw_arguments=b'{ "b": {"d":3, "c":2}, "a":1 }', _decoded={})
    assert answered(same, given(call)).seen_by("one").answers != {}
    once = Call("tools/call", "add", Principal("a"), "modern", "x", b'{"a":1,"a":2}')
    twice = replace(once, raw_arguments=b'{"a":2,"a":1}')
    assert once.digest() != twice.digest(), "what parsers read differently is bound as it is"


@pytest.mark.parametrize(
    ("asked", "sent"),
    [
        (b"9007199254740993.0", b"9007199254740992.0"),
        (b"0.1", b"0.10000000000000000555"),
        (b"9007199254740993e0", b"9007199254740992e0"),
        (b"12345678901234567890123", b"12345678901234567890124"),
        (b"1", b"1.0"),
        (b"1", b"true"),
    ],
)
def test_numbers_that_only_some_parsers_tell_apart_are_other_arguments(asked: bytes, sent: bytes) -> None:
    one, other = (Call("tools/call", "pay", Principal("a"), "modern", "x", b'{"n":%b}' % it) for it in (asked, sent))
    assert one.digest() != other.digest()


def test_a_plugin_that_rewrites_its_call_still_sees_its_answer_in_after_call() -> None:
    call = make_call("add", {"a": 1})
    call = answered(call, given(call)).seen_by("one")
    assert call.answers["q"].accepted
    assert call.replace(arguments={"a": 2}).answers["q"].accepted
    assert answered(call, given(call)).seen_by("one").replace(arguments={"a": 2}).answers == {}


def test_a_call_says_whether_plugins_have_seen_it() -> None:
    call = make_call()
    assert not call.continues
    assert not call.with_answers(Answers()).continues
    assert call.with_answers(Answers(), continues=True).seen_by("one").replace(arguments={}).continues
