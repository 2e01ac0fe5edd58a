"""`--arg key=value` with the types of the tool's schema."""

import io

import pytest

from gateway_core.cli.locate import UsageError
from gateway_core.cli.tools import arguments
from gateway_core.cli.tools.arguments import read_arguments


def parse_arguments(args, data, definition):
    return read_arguments(args, data).for_tool(definition)


def tool(*required, closed=False, **properties):
    schema = {"type": "object", "properties": properties, "required": list(required)}
    return {"name": "t", "inputSchema": schema | ({"additionalProperties": False} if closed else {})}


def test_without_a_schema_values_are_json_when_valid_and_text_otherwise():
    given = ["a=2", "b=true", "c=[1, 2]", "d=Paris", 'e="7"', "f=", "g=x=y", "h=NaN", "i=01", "j=null"]
    expected = {"a": 2, "b": True, "c": [1, 2], "d": "Paris", "e": "7", "f": "", "g": "x=y", "h": "NaN", "i": "01"}
    assert parse_arguments(given, None, None) == {**expected, "j": None}


def test_an_argument_overrides_the_data():
    assert parse_arguments(["a=1"], '{"a": 0, "b": 2}', None) == {"a": 1, "b": 2}


def test_data_from_stdin(monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO('{"a": 1}'))
    assert parse_arguments([], "-", None) == {"a": 1}


def test_data_from_stdin_is_refused_rather_than_cut(monkeypatch):
    monkeypatch.setattr(arguments, "MAX_STDIN", 8)
    monkeypatch.setattr("sys.stdin", io.StringIO('{"a": 1} '))
    with pytest.raises(UsageError, match="more than 8 characters"):
        parse_arguments([], "-", None)


@pytest.mark.parametrize(
    ("args", "data"),
    [(["a"], None), (["=1"], None), (["a=1", "a=2"], None), ([], "{oops"), ([], "[1]"), ([], '{"a": Infinity}')],
)
def test_wrong_arguments_are_wrong_usage(args, data):
    with pytest.raises(UsageError, match=r"--(arg|data)"):
        parse_arguments(args, data, None)


def test_a_number_that_cannot_be_passed_on_is_wrong_usage():
    assert parse_arguments(["a=" + "1" * 4000], None, None) == {"a": int("1" * 4000)}
    for text in ("1" * 5000, "1e999"):
        for args, data in (([f"a={text}"], None), ([], f'{{"a": [{text}]}}')):
            with pytest.raises(UsageError, match=r"(a|the) number"):
                parse_arguments(args, data, None)


@pytest.mark.parametrize(
    ("schema", "text", "value"),
    [
        ({"type": "string"}, "5", "5"),
        ({"type": "string"}, "true", "true"),
        ({"type": "string"}, "null", "null"),
        ({"type": "string"}, '{"a": 1}', '{"a": 1}'),
        ({"type": "string"}, '"x"', '"x"'),
        ({"type": "string"}, "", ""),
        ({"type": "integer"}, "5", 5),
        ({"type": "integer"}, "-5", -5),
        ({"type": "integer"}, "5.0", 5),
        ({"type": "number"}, "5", 5),
        ({"type": "number"}, "2.5e3", 2500.0),
        ({"type": "boolean"}, "true", True),
        ({"type": "boolean"}, "false", False),
        ({"type": "array", "items": {"type": "integer"}}, "[1, 2]", [1, 2]),
        ({"type": "object"}, '{"a": [null]}', {"a": [None]}),
        ({"type": "null"}, "null", None),
        ({"type": ["string", "null"]}, "null", None),
        ({"type": ["string", "null"]}, "nothing", "nothing"),
        ({"type": ["integer", "string"]}, "7", 7),
        ({"type": ["integer", "string"]}, "seven", "seven"),
        ({"anyOf": [{"type": "integer"}, {"type": "null"}]}, "7", 7),
        ({"anyOf": [{"type": "integer"}, {"type": "null"}]}, "null", None),
        ({"oneOf": [{"type": "string"}, {"type": "array"}]}, '["a"]', ["a"]),
        ({"enum": ["low", "high"]}, "low", "low"),
        ({"enum": ["1", "2"]}, "1", "1"),
        ({"enum": [1, 2]}, "2", 2),
        ({"type": "integer", "enum": [1, 2]}, "1", 1),
        ({"const": "only"}, "only", "only"),
        ({"anyOf": [{"const": "a"}, {"const": "b"}]}, "b", "b"),
        ({"anyOf": [{"enum": ["a"]}, {"type": "null"}]}, "null", None),
        ({"$ref": "#/properties/other"}, "4", 4),
        ({"allOf": [{"$ref": "#/properties/other"}]}, "4", 4),
        ({}, "4", 4),
        ({}, "x", "x"),
        (True, "4", 4),
    ],
)
def test_a_value_has_the_type_of_the_schema(schema, text, value):
    found = parse_arguments([f"a={text}"], None, tool(a=schema, other={"type": "integer"}))["a"]
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("schema", "text", "said"),
    [
        ({"type": "integer"}, "many", "--arg a: must be a whole number, for example: --arg a=3"),
        ({"type": "integer"}, "2.5", "must be a whole number"),
        ({"type": "integer"}, "true", "must be a whole number"),
        ({"type": "number"}, "x", "must be a number"),
        ({"type": "boolean"}, "yes", "must be true or false"),
        ({"type": "boolean"}, "1", "must be true or false"),
        ({"type": "array"}, "a,b", "must be a list, for example: --arg 'a=[1, 2]'"),
        ({"type": "object"}, "[1]", "must be an object"),
        ({"type": ["integer", "null"]}, "x", "must be a whole number or null"),
        ({"enum": ["low", "high"]}, "hihg", '--arg a: must be one of "low" or "high"; did you mean high?'),
        ({"enum": [1, 2]}, "3", "must be one of 1 or 2"),
        ({"const": "only"}, "other", 'must be "only"'),
    ],
)
def test_a_value_of_another_type_is_an_error_with_the_argument_and_the_type(schema, text, said):
    with pytest.raises(UsageError) as caught:
        parse_arguments([f"a={text}"], None, tool(a=schema))
    assert said in str(caught.value)


def test_a_misspelt_argument_is_an_error_with_the_right_one():
    with pytest.raises(UsageError, match="--arg mesage: the tool has no such argument; did you mean message"):
        parse_arguments(["mesage=x"], None, tool(message={"type": "string"}))


def test_an_unlisted_argument_is_passed_on_unless_the_schema_forbids_it():
    open_tool, closed = tool(city={}), tool(city={}, closed=True)
    assert parse_arguments(["zzz=1"], None, open_tool) == {"zzz": 1}
    with pytest.raises(UsageError, match="it takes city"):
        parse_arguments(["zzz=1"], None, closed)
    with pytest.raises(UsageError, match="it takes none"):
        parse_arguments(["zzz=1"], None, tool(closed=True))
    assert parse_arguments([], '{"zzz": 1}', closed) == {"zzz": 1}


def test_missing_arguments_are_named_with_their_types():
    definition = tool("a", "b", a={"type": "integer"}, b={"enum": ["x", "y"]}, c={})
    with pytest.raises(UsageError, match=r'missing: a \(a whole number\), b \("x" or "y"\)'):
        parse_arguments([], None, definition)
    with pytest.raises(UsageError, match=r"missing: b"):
        parse_arguments(["a=1"], None, definition)
    with pytest.raises(
        UsageError, match=r'missing: b \("x" or "y"\)\n  given, but no argument of the tool: zzz, qqq\n'
    ):
        parse_arguments(["a=1", "zzz=1", "qqq=2"], None, definition)
    assert parse_arguments([], "{}", definition) == {}


@pytest.mark.parametrize("schema", [None, True, 5, [], {"properties": 5}, {"properties": {"a": 5}, "required": 7}])
def test_a_schema_of_an_unexpected_shape_says_nothing(schema):
    assert parse_arguments(["a=1"], None, {"inputSchema": schema}) == {"a": 1}
