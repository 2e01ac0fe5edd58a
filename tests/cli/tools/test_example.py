import json
import shlex

import pytest

from gateway_core.cli.tools.arguments import read_arguments
from gateway_core.cli.tools.example import call_line, sample


def test_a_line_has_the_required_arguments_and_can_be_parsed_again():
    schema = {
        "type": "object",
        "properties": {
            "text": {"type": "string", "examples": ['it\'s a "test"']},
            "count": {"type": "integer", "minimum": 5},
            "tags": {"type": "array", "items": {"type": "string"}, "minItems": 2},
            "where": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
            "mode": {"enum": ["fast", "slow"]},
            "dry": {"type": "boolean"},
            "other": {"type": "string"},
        },
        "required": ["text", "count", "tags", "where", "mode", "dry"],
    }
    words = shlex.split(call_line("tool", schema))
    assert words[:5] == ["rad", "mcp", "proxy", "call", "tool"]
    args = [word for word in words[5:] if word != "--arg"]
    assert read_arguments(args, None).for_tool({"inputSchema": schema}) == {
        "text": 'it\'s a "test"',
        "count": 5,
        "tags": ["text", "text"],
        "where": {"city": "text"},
        "mode": "fast",
        "dry": True,
    }


def test_a_name_with_a_dash_is_no_option():
    schema = {"properties": {"a": {"type": "integer"}}, "required": ["a"]}
    assert call_line("-x", schema) == "rad mcp proxy call --arg a=1 -- -x"


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"type": "string", "format": "date"}, "2026-01-31"),
        ({"type": "string", "format": "uri"}, "https://example.com/"),
        ({"type": "string", "minLength": 6}, "textxx"),
        ({"type": "string", "maxLength": 2}, "te"),
        ({"type": "integer", "maximum": -3}, -3),
        ({"type": "integer", "exclusiveMinimum": 3}, 4),
        ({"type": "number", "minimum": 2.5}, 2.5),
        ({"type": "integer", "default": 7}, 7),
        ({"anyOf": [{"type": "null"}, {"type": "integer", "minimum": 9}]}, 9),
        ({"type": "null"}, None),
        ({"const": 4}, 4),
        ({}, "text"),
        (True, "text"),
    ],
)
def test_a_sample_fits_its_schema(schema, value):
    assert sample(schema, {}) == value


def test_samples_of_endless_schemas_end():
    node = {"type": "object", "properties": {"next": {"$ref": "#/$defs/node"}}, "required": ["next"]}
    assert len(json.dumps(sample({"$ref": "#/$defs/node"}, {"$defs": {"node": node}}))) < 200
