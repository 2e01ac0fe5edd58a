"""Sealed texts: opened by who sealed them, under the same binding, unaltered, in time."""

from hypothesis import given
from hypothesis import strategies as st

from gateway_core.sealing import MAX_SEALED, Seal

BINDING = ("requestState", "agent@127.0.0.1")


@given(st.binary(max_size=200), st.lists(st.text(max_size=20), max_size=4))
def test_what_was_sealed_opens_under_its_binding(content: bytes, binding: list[str]) -> None:
    seal = Seal()
    assert seal.open(binding, seal.seal(binding, content)) == content


def test_every_altered_character_is_refused() -> None:
    seal = Seal()
    text = seal.seal(BINDING, b"abc")
    assert not text.endswith("=")  # so that every character counts
    for index, char in enumerate(text):
        other = "A" if char != "A" else "B"
        assert seal.open(BINDING, text[:index] + other + text[index + 1 :]) is None


def test_another_binding_opens_nothing() -> None:
    seal = Seal()
    text = seal.seal(("a", "bc"), b"content")
    assert seal.open(("ab", "c"), text) is None
    assert seal.open(("a", "bc", ""), text) is None
    assert seal.open(("a", "bc"), text) == b"content"


def test_a_lapsed_text_opens_no_more() -> None:
    seal = Seal()
    assert seal.open(BINDING, seal.seal(BINDING, b"x", life=-0.001)) is None
    assert seal.open(BINDING, seal.seal(BINDING, b"x", life=60)) == b"x"


def test_processes_with_one_secret_open_each_others_texts_and_those_without_do_not() -> None:
    assert Seal(["shared secret"]).open(BINDING, Seal(["shared secret"]).seal(BINDING, b"x")) == b"x"
    assert Seal().open(BINDING, Seal().seal(BINDING, b"x")) is None


def test_a_new_first_secret_keeps_what_the_old_one_sealed() -> None:
    old = Seal(["old"]).seal(BINDING, b"x")
    assert Seal(["new", "old"]).open(BINDING, old) == b"x"
    assert Seal(["old"]).open(BINDING, Seal(["new", "old"]).seal(BINDING, b"x")) is None


def test_nonsense_is_refused_without_an_exception() -> None:
    seal = Seal()
    for text in ("", "A", "AAAA", "ä", "not base64!", "A" * (MAX_SEALED + 4), seal.seal(BINDING, b"x") + "\n"):
        assert seal.open(BINDING, text) is None


@given(st.binary(min_size=1, max_size=50), st.lists(st.text(max_size=20), max_size=4))
def test_a_stable_text_is_the_same_each_time_and_opens_under_its_binding(content: bytes, binding: list[str]) -> None:
    seal = Seal()
    text = seal.seal_stable(binding, content)
    assert seal.seal_stable(binding, content) == text
    assert seal.open_stable(binding, text) == content
    assert seal.open_stable([*binding, "more"], text) is None


def test_a_stable_text_has_one_spelling() -> None:
    seal = Seal()
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    for content in (b"a", b"ab", b"abc"):
        text = seal.seal_stable(BINDING, content)
        for index in range(len(text)):
            others = [text[:index] + char + text[index + 1 :] for char in alphabet if char != text[index]]
            assert [other for other in others if seal.open_stable(BINDING, other) is not None] == []
        for other in (text + "=", text + "A", text[:-1], "", "ä", "A" * (MAX_SEALED + 4)):
            assert seal.open_stable(BINDING, other) is None


def test_stable_texts_follow_the_secrets() -> None:
    old = Seal(["old"]).seal_stable(BINDING, b"x")
    assert Seal(["old"]).seal_stable(BINDING, b"x") == old
    assert Seal(["new", "old"]).open_stable(BINDING, old) == b"x"
    assert Seal(["new"]).open_stable(BINDING, old) is None
    assert Seal().seal_stable(BINDING, b"x") != old


def test_the_two_kinds_of_texts_do_not_open_as_each_other() -> None:
    seal = Seal(["secret"])
    assert seal.open(BINDING, seal.seal_stable(BINDING, b"x" * 40)) is None
    assert seal.open_stable(BINDING, seal.seal(BINDING, b"x" * 40)) is None


def test_a_random_key_can_be_passed_on() -> None:
    seal = Seal()
    text, stable = seal.seal(BINDING, b"x", 60.0), seal.seal_stable(BINDING, b"x")
    after = Seal(secret=seal.secret)
    assert (after.open(BINDING, text), after.open_stable(BINDING, stable)) == (b"x", b"x")
    assert Seal().open(BINDING, text) is None
    assert Seal(["key"], seal.secret).open(BINDING, text) is None
    assert Seal(["key"]).secret == b""
