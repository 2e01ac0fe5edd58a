import pytest

from gateway_core.cli.tools.schema import arguments_of, types_of


def test_required_arguments_come_first():
    schema = {"properties": {"a": {"type": "string"}, "b": {"type": "integer"}}, "required": ["b"]}
    assert [(one.name, one.required, one.kind) for one in arguments_of(schema)] == [
        ("b", True, "integer"),
        ("a", False, "string"),
    ]


@pytest.mark.parametrize(
    ("schema", "kind"),
    [
        ({"type": "array", "items": {"type": "string"}}, "array of string"),
        ({"type": "array"}, "array"),
        ({"anyOf": [{"type": "string"}, {"type": "null"}]}, "string or null"),
        ({"enum": ["a", "b", 3]}, '"a", "b" or 3'),
        ({"anyOf": [{"enum": ["a"]}, {"type": "string"}]}, "string"),
        ({"properties": {"x": {}}}, "object"),
        ({}, "any"),
        ({"type": "unheard-of"}, "any"),
    ],
)
def test_kinds_are_readable(schema, kind):
    (argument,) = arguments_of({"properties": {"a": schema}})
    assert argument.kind == kind


def test_references_are_followed_inside_the_schema_only():
    schema = {
        "properties": {"a": {"$ref": "#/$defs/Color", "description": "here"}, "b": {"$ref": "https://x.example/s"}},
        "$defs": {"Color": {"enum": ["red"], "description": "there"}},
    }
    a, b = arguments_of(schema)
    assert (a.choices, a.description) == (("red",), "here")
    assert b.types == ()


def test_schemas_that_refer_to_themselves_end():
    loop = {"$ref": "#/$defs/a"}
    many = [{"$ref": "#/$defs/b"}] * 1000
    definitions = {"a": loop, "b": {"allOf": many, "anyOf": many}}
    root = {"properties": {"x": loop, "y": {"$ref": "#/$defs/b"}}, "$defs": definitions}
    assert [one.types for one in arguments_of(root)] == [(), ()]
    assert types_of(loop, root)[1] == ()
