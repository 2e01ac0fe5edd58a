import json
from typing import Any

import pytest
from msgspec import Raw

from gateway_core.errors import INVALID_PARAMS
from gateway_core.mcp.preset import Preset, without_properties

PRESET = Preset({"project": Raw(b'"SUPPORT"')}, {"limit": Raw(b"20")})


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        (b"", {"project": "SUPPORT", "limit": 20}),
        (b"{}", {"project": "SUPPORT", "limit": 20}),
        (b'{"query": "a"}', {"query": "a", "project": "SUPPORT", "limit": 20}),
        (b'{"limit": 5}', {"limit": 5, "project": "SUPPORT"}),
    ],
)
def test_what_is_set_is_added_to_the_arguments(given: bytes, sent: dict[str, Any]) -> None:
    complete, error = PRESET.added_to(given)
    assert (json.loads(complete), error) == (sent, None)


@pytest.mark.parametrize("given", [b'{"project": "OTHER"}', b'{"project": "SUPPORT"}', b'{"\\u0070roject": null}'])
def test_an_agent_that_gives_a_fixed_argument_is_refused(given: bytes) -> None:
    complete, error = PRESET.added_to(given)
    assert error is not None
    assert error.code == INVALID_PARAMS
    assert error.message.startswith("the argument 'project' is set by the gateway")
    assert "SUPPORT" not in error.message
    assert json.loads(complete)["project"] == "SUPPORT", "plugins see what would be sent"


def test_a_rewriting_plugin_cannot_change_a_fixed_argument() -> None:
    assert json.loads(PRESET.enforced_in(b'{"project": "OTHER", "limit": 1}')) == {"project": "SUPPORT", "limit": 1}
    complete, _ = PRESET.added_to(b"{}")
    assert PRESET.enforced_in(complete) is complete


def test_values_do_not_show_in_a_representation() -> None:
    assert repr(PRESET) == "Preset(limit, project)"


SCHEMA = {
    "type": "object",
    "properties": {
        "project": {"type": "string"},
        "query": {"type": "string"},
        "other": {"$ref": "#/properties/project"},
        "deep": {"type": "array", "items": {"$ref": "#/properties/limits/items"}},
        "limits": {"type": "array", "items": {"$ref": "#/properties/limit"}},
        "limit": {"type": "integer"},
    },
    "required": ["project", "query"],
    "dependentRequired": {"query": ["limit", "other"], "limit": ["query"]},
    "allOf": [{"required": ["limit"]}, {"properties": {"limit": {"minimum": 1}}}],
    "anyOf": [{"required": ["project"]}, {"required": ["deep"]}],
    "additionalProperties": False,
}


def test_a_hidden_property_leaves_no_trace_in_the_conditions() -> None:
    found = without_properties(SCHEMA, {"limit", "project", "limits"})
    assert set(found["properties"]) == {"query", "other", "deep"}
    assert found["required"] == ["query"]
    assert found["dependentRequired"] == {"query": ["other"]}
    assert found["allOf"] == [{}, {"properties": {}}]
    assert found["anyOf"] == [{}, {"required": ["deep"]}]


def test_references_to_a_hidden_property_still_lead_to_its_schema() -> None:
    found = without_properties(SCHEMA, {"limit", "project", "limits"})
    assert found["properties"]["other"] == {"$ref": "#/$defs/hidden-project"}
    assert found["properties"]["deep"] == {"type": "array", "items": {"$ref": "#/$defs/hidden-limits/items"}}
    assert found["$defs"] == {
        "hidden-project": {"type": "string"},
        "hidden-limits": {"type": "array", "items": {"$ref": "#/$defs/hidden-limit"}},
        "hidden-limit": {"type": "integer"},
    }


def test_only_what_is_referred_to_is_kept() -> None:
    schema = {"properties": {"a": {"const": "x"}, "ab": {"$ref": "#/properties/abc"}, "abc": {"type": "string"}}}
    assert without_properties(schema, {"a"}) == {
        "properties": {"ab": {"$ref": "#/properties/abc"}, "abc": {"type": "string"}}
    }


@pytest.mark.parametrize(
    "schema",
    [{}, {"properties": None, "required": 1}, {"required": {"a": 1}}, {"allOf": [1], "anyOf": {}, "not": True}],
)
def test_a_schema_of_an_odd_shape_does_no_harm(schema: dict[str, Any]) -> None:
    without_properties(schema, {"a"})
