"""Regular expressions of RE2: what they match, and which are refused."""

import subprocess
import sys

import pytest
from pydantic import TypeAdapter, ValidationError

from gateway_core import Patterns, PluginConfig
from gateway_core.patterns import MAX_LENGTH, MAX_PATTERNS, compiled, escaped


@pytest.mark.parametrize(
    ("patterns", "text", "matches"),
    [
        (["to.en"], "my TOKENs", True),
        (["^pin$", "x"], "spin", False),
        (["^pin$", "x"], "PIN", True),
        (["a|b", "c"], "bc", True),
        (["é"], "É", True),
        (["x"], "\ud800x", True),
        ([], "x", False),
    ],
)
def test_a_text_matches_if_any_pattern_matches_a_part_of_it(patterns: list[str], text: str, matches: bool) -> None:
    assert Patterns(patterns).matches(text) is matches


@pytest.mark.parametrize("pattern", ["(", "(?=a)", r"(a)\1", "x*", "", "a|", "x" * (MAX_LENGTH + 1)])
def test_a_pattern_that_is_invalid_too_long_or_matches_everything_is_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match="pattern"):
        Patterns(["x", pattern])


def test_a_pattern_that_would_change_the_others_is_refused_by_its_name() -> None:
    with pytest.raises(ValueError, match=r"the pattern '\\\\Qabc' cannot be part of a list: missing \)"):
        Patterns([r"\Qabc"])
    with pytest.raises(ValueError, match=r"the pattern '\\\\Qabc' cannot be part of a list"):
        Patterns([r"\Qabc", r"x\E"])
    assert Patterns([r"\Qa.c\E", "x"]).matches("A.C")


def test_too_many_patterns_and_too_complex_ones_are_refused() -> None:
    Patterns(["x"] * MAX_PATTERNS)
    with pytest.raises(ValueError, match="too many"):
        Patterns(["x"] * (MAX_PATTERNS + 1))
    with pytest.raises(ValueError, match="too complex together"):
        Patterns([rf"\pL{{1,90}}{number}" for number in range(MAX_PATTERNS)])
    with pytest.raises(TypeError):
        Patterns("token")


def test_a_setting_may_be_a_list_of_patterns() -> None:
    class Settings(PluginConfig):
        patterns: Patterns = Patterns(["a"])

    assert Settings(patterns=["b"]).patterns.matches("abc")  # type: ignore[arg-type]
    with pytest.raises(ValidationError, match="not valid RE2"):
        Settings(patterns=["("])  # type: ignore[arg-type]
    assert TypeAdapter(Patterns).json_schema()["type"] == "array"


def test_an_invalid_pattern_writes_nothing_to_stderr() -> None:
    code = "from gateway_core.patterns import compiled\ntry: compiled('(')\nexcept ValueError as error: print(error)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30)
    assert done.stdout.strip() == "missing ): ("
    assert done.stderr == ""


def test_options_of_a_pattern() -> None:
    assert compiled(escaped("a.b")).fullmatch("a.b")
    assert not compiled(escaped("a.b")).fullmatch("axb")
    assert compiled("a.b", dot_matches_all=True).fullmatch("a\nb")
    assert compiled("A", ignore_case=True).fullmatch("a")
    assert compiled(b"\xff", is_latin=True).fullmatch(b"\xff")
    with pytest.raises(ValueError, match="too large"):
        compiled(r"(?:\pL{1,99}){1,9}", max_memory=1 << 16)
