"""The forms of questions: which schemas clients can show, and which values match them."""

import contextlib
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway_core.errors import INVALID_PARAMS, RpcError
from gateway_core.hooks import forms
from gateway_core.hooks.failures import Misuse
from gateway_core.hooks.forms import check_form, read_answer

PATIENT = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
EVERY = {
    "text": {"type": "string", "title": "T", "description": "D", "minLength": 1, "maxLength": 5, "default": "x"},
    "mail": {"type": "string", "format": "email"},
    "number": {"type": "number", "minimum": 0, "maximum": 1.5},
    "whole": {"type": "integer", "minimum": -2},
    "yes": {"type": "boolean", "default": False},
    "one": {"type": "string", "enum": ["a", "b"], "enumNames": ["A", "B"]},
    "titled": {"type": "string", "oneOf": [{"const": "a", "title": "A"}]},
    "many": {"type": "array", "items": {"type": "string", "enum": ["a", "b"]}, "minItems": 1, "maxItems": 2},
    "manytitled": {"type": "array", "items": {"anyOf": [{"const": "a", "title": "A"}]}},
}


def form(**fields: Any) -> dict[str, Any]:
    return {"type": "object", "properties": fields}


def answer(schema: Any, content: Any, action: str = "accept") -> Any:
    found, values = read_answer(json.dumps({"action": action, "content": content}).encode(), schema, "answer")
    assert found == action
    return json.loads(values) if values else None


def test_every_kind_of_field_of_the_specification_is_a_form() -> None:
    check_form(
        {**form(**EVERY), "required": ["text", "many"], "$schema": "https://json-schema.org/draft/2020-12/schema"}
    )
    check_form(form())


@pytest.mark.parametrize(
    "schema",
    [
        None,
        [],
        {},
        {"type": "string"},
        {"type": "object"},
        {"type": "object", "properties": []},
        {**form(a=EVERY["text"]), "required": ["b"]},
        {**form(), "required": "a"},
        {**form(), "additionalProperties": True},
        {**form(), "$defs": {}},
        form(a={"type": "object", "properties": {}}),
        form(a={}),
        form(a="string"),
        form(a={"type": "string", "pattern": ".*"}),
        form(a={"type": "string", "format": "password"}),
        form(a={"type": "string", "minLength": "1"}),
        form(a={"type": "string", "minLength": True}),
        form(a={"type": "number", "minLength": 1}),
        form(a={"type": "string", "enum": [1]}),
        form(a={"type": "string", "enum": "ab"}),
        form(a={"type": "string", "oneOf": ["a"]}),
        form(a={"type": "array"}),
        form(a={"type": "array", "items": {"type": "string"}}),
        form(a={"type": "array", "items": {"type": "object"}}),
        form(a={"type": "string", "default": object()}),
        form(a={"type": "string", "description": "x" * forms.MAX_FORM}),
        form(**{f"f{n}": {"type": "boolean"} for n in range(forms.MAX_FIELDS + 1)}),
    ],
)
def test_what_clients_cannot_show_is_refused(schema: Any) -> None:
    with pytest.raises(Misuse, match="is not a form"):
        check_form(schema)


def test_values_that_match_are_kept_and_others_dropped() -> None:
    values = {
        "text": "abc",
        "mail": "a@b",
        "number": 1.5,
        "whole": -2,
        "yes": True,
        "one": "a",
        "titled": "a",
        "many": ["a", "b"],
        "manytitled": [],
    }
    assert answer(form(**EVERY), {**values, "more": {"x": 1}}) == values
    assert answer(form(**EVERY), {"text": None, "whole": 2.0}) == {"whole": 2.0}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("text", ""),
        ("text", "123456"),
        ("text", 1),
        ("number", True),
        ("number", 2),
        ("number", "1"),
        ("whole", -3),
        ("whole", 0.5),
        ("yes", "true"),
        ("one", "c"),
        ("titled", "A"),
        ("many", []),
        ("many", ["a", "b", "a"]),
        ("many", ["c"]),
        ("many", "a"),
        ("many", [1]),
    ],
)
def test_a_value_that_does_not_match_is_an_error_that_does_not_quote_it(name: str, value: Any) -> None:
    with pytest.raises(RpcError, match=rf"answer\.content\.{name} ") as refused:
        answer(form(**EVERY), {name: value})
    assert refused.value.code == INVALID_PARAMS


def test_what_is_required_must_be_there() -> None:
    schema = {**form(a=EVERY["text"]), "required": ["a"]}
    for content in ({}, {"a": None}, None):
        with pytest.raises(RpcError, match=r"content\.a is missing"):
            answer(schema, content)
    assert answer(schema, None, "decline") is None


@pytest.mark.parametrize(
    "raw", [b"[]", b"1", b"{}", b'{"action":"Accept"}', b'{"action":null}', b'{"action":["accept"]}']
)
def test_an_answer_has_one_of_three_actions(raw: bytes) -> None:
    with pytest.raises(RpcError):
        read_answer(raw, None, "answer")


def test_without_a_form_the_content_does_not_count() -> None:
    assert answer(None, {"a": 1}) is None
    assert answer(form(), {"a": 1}) is None


def test_values_are_bounded() -> None:
    with pytest.raises(RpcError, match="more than"):
        answer(form(a={"type": "string"}), {"a": "x" * forms.MAX_VALUES})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@PATIENT
@given(JSON, JSON)
def test_no_answer_is_a_bug(schema: Any, content: Any) -> None:
    """Whatever a plugin and an agent send: a form and its values, or the error that says why not."""
    try:
        check_form(schema)
    except Misuse:
        schema = form(**EVERY)
    raw = json.dumps({"action": "accept", "content": content}).encode()
    with contextlib.suppress(RpcError):
        read_answer(raw, schema, "answer")
