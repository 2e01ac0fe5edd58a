"""Globs against a plain matcher, in linear time, and within their bounds."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from gateway_core import Globs, PluginConfig
from gateway_core.api import globs as module

LETTERS = "a,+./@*?[]\\^-|$\n\u00e9"


def matches(glob: str, name: str, separators: str) -> bool:
    """The same by definition; exponential."""
    if not glob:
        return not name
    if glob.startswith("**"):
        return any(matches(glob[2:], name[at:], separators) for at in range(len(name) + 1))
    if glob[0] == "*":
        if matches(glob[1:], name, separators):
            return True
        return bool(name) and name[0] not in separators and matches(glob, name[1:], separators)
    if not name or (name[0] in separators if glob[0] == "?" else name[0] != glob[0]):
        return False
    return matches(glob[1:], name[1:], separators)


@given(
    st.sampled_from(["", ",+", ".", "/", "@", "]^-\\"]),
    st.lists(st.text(LETTERS, min_size=1, max_size=7), max_size=4),
    st.text(LETTERS, max_size=8),
)
def test_a_name_matches_what_it_should(separators: str, globs: list[str], name: str) -> None:
    found = Globs(globs, separators=separators)
    assert found.matches(name) == any(matches(glob, name, separators) for glob in globs)


@given(
    st.sampled_from(["", "/"]),
    st.lists(st.text("ab/*?", min_size=1, max_size=4), min_size=1, max_size=3),
    st.text("ab/*?", min_size=1, max_size=4),
    st.text("ab/", max_size=5),
)
def test_what_covers_a_glob_matches_whatever_it_matches(
    separators: str, globs: list[str], glob: str, name: str
) -> None:
    found = Globs(globs, separators=separators)
    if found.covers(glob) and matches(glob, name, separators):
        assert found.matches(name)


@pytest.mark.parametrize("glob", ["git*", "git_*", "git_push", "git_?ush", "a", "b*"])
def test_simple_globs_are_known_to_be_covered(glob: str) -> None:
    assert Globs(["git*", "a", "b*"]).covers(glob)
    assert Globs(["*"]).covers(glob)
    assert not Globs(["git_pull", "a?"]).covers(glob)


def test_nothing_but_wildcards_has_a_meaning() -> None:
    assert Globs(["[ab]"]).matches("[ab]")
    assert not Globs(["[ab]"]).matches("a")
    assert not Globs(["A*"]).matches("abc")
    assert not Globs().matches("")


def test_a_lone_surrogate_matches_wildcards_alone() -> None:
    assert Globs(["a?c"]).matches("a\ud800c")
    assert not Globs(["abc", "x*"]).matches("a\ud800c")


@pytest.mark.parametrize("glob", ["*a" * 60 + "b", "?*" * 200, "**a" * 100 + "b"])
def test_many_wildcards_cost_no_backtracking(glob: str) -> None:
    assert not Globs([glob], separators="/").matches("a" * 150)


@pytest.mark.parametrize(
    ("globs", "reason"),
    [
        ([""], "1 to 1024"),
        (["a" * 1025], "1 to 1024"),
        (["a"] * 1025, "too many"),
        ([f"*{'a' * 900}{n}" for n in range(100)], "together"),
        (["?*" * 500] * 60 + [f"*{'é?' * 100}{n}" for n in range(20)], None),
    ],
)
def test_globs_are_bounded(globs: list[str], reason: str | None) -> None:
    if reason is None:
        assert not Globs(globs).matches("")
        return
    with pytest.raises(ValueError, match=reason):
        Globs(globs)


def test_globs_that_are_too_complex_together_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_MEMORY", 8 * 1024)
    with pytest.raises(ValueError, match="too complex"):
        Globs([f"*{'a?' * 50}{n}" for n in range(100)])


def test_one_text_is_no_list() -> None:
    with pytest.raises(TypeError):
        Globs("ab")


class Settings(PluginConfig):
    tools: Globs = Globs(["*"])


def test_a_setting_takes_a_list_of_texts() -> None:
    assert Settings().tools == ("*",)
    found = Settings.model_validate({"tools": ["a*", "b"]}).tools
    assert found.matches("abc")
    assert found == ("a*", "b")
    assert TypeAdapter(Globs).json_schema() == {"type": "array", "items": {"type": "string"}}
    for wrong in ("a", [1], [""], None):
        with pytest.raises(ValidationError):
            Settings.model_validate({"tools": wrong})
