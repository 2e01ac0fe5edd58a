"""Patterns of subjects against a plain matcher, and in linear time."""

from gateway_auth_mtls.globs import SEPARATORS, Glob, Kind
from hypothesis import given
from hypothesis import strategies as st


def matches(pattern: str, text: str, separators: str) -> bool:
    """The same by definition; exponential."""
    if not pattern:
        return not text
    if pattern.startswith("**"):
        return any(matches(pattern[2:], text[at:], separators) for at in range(len(text) + 1))
    if pattern[0] == "*":
        if matches(pattern[1:], text, separators):
            return True
        return bool(text) and text[0] not in separators and matches(pattern, text[1:], separators)
    if not text or (text[0] in separators if pattern[0] == "?" else text[0] != pattern[0]):
        return False
    return matches(pattern[1:], text[1:], separators)


@given(
    st.sampled_from(sorted(SEPARATORS)),
    st.text("a,+./@*?\\]^-\n", max_size=7),
    st.text("a,+./@*?\\]^-\n", max_size=8),
)
def test_a_pattern_matches_what_it_should(kind: Kind, pattern: str, text: str) -> None:
    assert Glob(pattern, kind).matches(text) == matches(pattern, text, SEPARATORS[kind])


def test_many_wildcards_cost_no_backtracking() -> None:
    assert not Glob("*a" * 60 + "b", "uri").matches("a" * 512)
