"""Which schemas compile: what was seen of Ajv, as the TypeScript SDK 1.x uses it."""

from typing import Any

import pytest

from gateway_core.upstream.lists.schemas import MAX_NODES, compiles

COMPILES: list[Any] = [
    {},
    True,
    {"type": ["string", "null"]},
    {"type": []},
    {"pattern": r"^\p{L}+[a-z]{2,}(?<n>x)\/$"},
    {"items": [{}]},
    {"items": True},
    {"anyOf": []},
    {"required": [1]},
    {"format": "nonsense"},
    {"default": None, "title": 5, "const": None},
    {"nullable": True, "type": "string"},
    {"multipleOf": 0, "maxLength": -1},
    {"dependencies": {"a": 5}},
    {"$ref": "#"},
    {"properties": {"id": {"type": "string"}}},
]
REFUSED: list[Any] = [
    None,
    5,
    {"type": "strin"},
    {"type": None},
    {"enum": []},
    {"enum": "x"},
    {"pattern": "("},
    {"pattern": "(?i)a"},
    {"pattern": "a{"},
    {"pattern": r"\y"},
    {"pattern": 5},
    {"format": 5},
    {"minimum": "5"},
    {"minimum": True},
    {"exclusiveMinimum": True, "minimum": 1},
    {"uniqueItems": "x"},
    {"required": None},
    {"items": None},
    {"items": [None]},
    {"anyOf": {}},
    {"anyOf": [None]},
    {"properties": None},
    {"properties": {"x": None}},
    {"patternProperties": 5},
    {"additionalProperties": None},
    {"not": 5},
    {"then": 5},
    {"nullable": True},
    {"id": "http://x/y"},
    {"$id": 5},
    {"$ref": 5},
    {"$ref": "#/nope"},
    {"$ref": "#/$defs/x/99999999"},
    {"$ref": "http://other/x.json"},
]


def inside(schema: Any) -> dict[str, Any]:
    return {"type": "object", "properties": {"a": schema}}


@pytest.mark.parametrize("schema", COMPILES, ids=str)
def test_these_compile(schema: Any) -> None:
    assert compiles(inside(schema))


@pytest.mark.parametrize("schema", REFUSED, ids=str)
def test_these_do_not(schema: Any) -> None:
    assert not compiles(inside(schema))


def test_references_inside_are_followed() -> None:
    assert compiles({"$defs": {"a~b/c": {"type": "string"}}, "properties": {"x": {"$ref": "#/$defs/a~0b~1c"}}})
    assert compiles({"anyOf": [{}, {"not": {"$ref": "#/anyOf/0"}}]})
    assert not compiles({"$defs": {"a": 5}, "properties": {"x": {"$ref": "#/$defs/a"}}})


def test_a_schema_without_end_is_given_up() -> None:
    assert not compiles({"properties": {f"p{number}": {} for number in range(MAX_NODES + 1)}})
