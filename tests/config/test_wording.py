"""The words for wrong values."""

from typing import Annotated, Any, Literal

import pytest
from pydantic import Field
from pydantic.fields import FieldInfo

from gateway_core.config.wording import bounds_of, close_choice, length_wanted, one_of, type_found, unknown_key, wanted


@pytest.mark.parametrize(
    ("kind", "context", "annotation", "words"),
    [
        ("int_parsing", {}, int, "a whole number"),
        ("bool_type", {}, bool, "true or false"),
        ("model_type", {}, None, "a table"),
        ("greater_than", {"gt": 0}, int, "greater than 0"),
        ("greater_than_equal", {"ge": 1}, int, "1 or more"),
        ("less_than_equal", {"le": 5}, int, "at most 5"),
        ("literal_error", {}, Literal["a", "b"] | None, 'one of "a", "b"'),
        ("literal_error", {}, Annotated[tuple[Literal[1, True], ...], "x"], "one of 1, true"),
        ("url_parsing", {}, str, None),
    ],
)
def test_what_a_value_must_be(kind: str, context: dict[str, Any], annotation: Any, words: str | None) -> None:
    assert wanted(kind, context, annotation) == words


@pytest.mark.parametrize(
    ("kind", "context", "words"),
    [
        ("too_short", {"min_length": 1, "actual_length": 0}, "must have at least 1 element"),
        ("too_long", {"max_length": 2, "actual_length": 3}, "must have at most 2 elements"),
        ("string_too_short", {"min_length": 1}, "must not be empty"),
        ("string_too_short", {"min_length": 2}, "must have at least 2 characters"),
        ("string_too_long", {"max_length": 1}, "must have at most 1 character"),
        ("string_pattern_mismatch", {"pattern": "^a$"}, "must have the form ^a$"),
        ("int_type", {}, None),
    ],
)
def test_how_long_a_value_must_be(kind: str, context: dict[str, Any], words: str | None) -> None:
    assert length_wanted(kind, context) == words


@pytest.mark.parametrize(
    ("bounds", "words"),
    [
        ({"ge": 1, "le": 5}, "from 1 to 5"),
        ({"gt": 0, "le": 5}, "greater than 0 and at most 5"),
        ({"ge": 2}, "2 or more"),
        ({"lt": 2}, "less than 2"),
        ({}, ""),
    ],
)
def test_the_bounds_of_a_number(bounds: dict[str, int], words: str) -> None:
    field: FieldInfo = Field(**bounds)  # type: ignore[call-overload]
    assert bounds_of(field) == words


def test_proposals() -> None:
    assert unknown_key("hots", ["host", "port"]) == 'is not a known key; did you mean "host"?'
    assert unknown_key("x", ["host", "port"]) == "is not a known key; known here: host, port"
    assert unknown_key("x", []) == "is not a known key; none is known here"
    assert close_choice("info", ["INFO", "DEBUG"]) == '; did you mean "INFO"?'
    assert close_choice(5, ["INFO"]) == close_choice("x", ["INFO"]) == ""
    assert one_of(["a"]) == '"a"'
    assert [type_found(value) for value in (True, 1, 1.5, "", [], {}, None)] == [
        *("a boolean", "a whole number", "a number", "text", "a list", "a table", "a date or time"),
    ]
