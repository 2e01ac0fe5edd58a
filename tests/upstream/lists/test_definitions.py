"""Malformed definitions: what is repaired, what is left out, and that strict clients accept what remains."""

import copy
import json
from typing import Any

import mcp_types
import pytest
from mcp_types import _v2025_11_25 as legacy_wire
from mcp_types import _v2026_07_28 as modern_wire

from gateway_core.api import Kind
from gateway_core.upstream.lists.definitions import MAX_FAULTS, Unusable, legacy_members, repair

OBJECT = {"type": "object"}
TOOL = {"name": "t", "inputSchema": OBJECT}
RESOURCE = {"uri": "memo://a", "name": "a"}
UNANNOTATED = {**RESOURCE, "annotations": {}}
TEMPLATE = {"uriTemplate": "memo://{a}", "name": "a"}
PROMPT = {"name": "p"}
BASES: dict[Kind, dict[str, Any]] = {"tool": TOOL, "resource": RESOURCE, "template": TEMPLATE, "prompt": PROMPT}
MODELS: dict[Kind, str] = {
    "tool": "Tool",
    "resource": "Resource",
    "template": "ResourceTemplate",
    "prompt": "Prompt",
}


def accepted(kind: Kind, definition: Any) -> None:
    """Raise if a client on the Python SDK of either era refuses the definition."""
    legacy = dict(definition)
    for member, value in legacy_members(definition).items() if kind == "tool" else ():
        legacy.pop(member) if value is None else legacy.update({member: value})
    for package, seen in ((legacy_wire, legacy), (modern_wire, definition), (mcp_types, definition)):
        getattr(package, MODELS[kind]).model_validate(seen, by_name=False)


def tool(**members: Any) -> dict[str, Any]:
    return {**TOOL, **members}


def schema(**members: Any) -> dict[str, Any]:
    return tool(inputSchema={**OBJECT, **members})


WELL_FORMED: list[tuple[Kind, dict[str, Any]]] = [
    ("tool", TOOL),
    ("tool", tool(title="T", description="", annotations={"readOnlyHint": True}, icons=[{"src": "a"}], _meta={"a": 1})),
    ("tool", schema(properties={"a": {"type": "string"}, "b": True}, required=["a"], additionalProperties=False)),
    ("tool", tool(outputSchema={"type": "string"}, execution={"taskSupport": "optional"}, unknown=None)),
    ("resource", {**RESOURCE, "size": 3.0, "annotations": {"priority": 1, "lastModified": "2025-01-12T15:00:58Z"}}),
    ("template", {**TEMPLATE, "mimeType": "text/plain"}),
    ("prompt", {**PROMPT, "arguments": [{"name": "a", "required": False}]}),
]

REPAIRED: list[tuple[Kind, dict[str, Any], dict[str, Any], str]] = [
    *(
        (kind, {**base, member: value}, base, member)
        for kind, base in BASES.items()
        for member, value in (
            ("description", None),
            ("description", 5),
            ("description", ["a"]),
            ("title", None),
            ("title", 5),
            ("icons", None),
            ("icons", {}),
            ("_meta", None),
            ("_meta", []),
        )
    ),
    ("tool", tool(annotations=None), TOOL, "annotations"),
    ("tool", tool(annotations=[]), TOOL, "annotations"),
    ("tool", tool(annotations={"readOnlyHint": None}), tool(annotations={}), "annotations.readOnlyHint"),
    ("tool", tool(annotations={"idempotentHint": "true"}), tool(annotations={}), "annotations.idempotentHint"),
    ("tool", tool(annotations={"openWorldHint": 1}), tool(annotations={}), "annotations.openWorldHint"),
    ("tool", tool(annotations={"title": None}), tool(annotations={}), "annotations.title"),
    ("tool", tool(execution=None), TOOL, "execution"),
    ("tool", tool(execution={"taskSupport": "sometimes"}), tool(execution={}), "execution.taskSupport"),
    ("tool", tool(icons=[None, {"src": "a"}]), tool(icons=[{"src": "a"}]), "icons[0]"),
    ("tool", tool(icons=[{"sizes": ["1x1"]}]), tool(icons=[]), "icons[0].src"),
    ("tool", tool(icons=[{"src": "a", "sizes": "48x48"}]), tool(icons=[{"src": "a"}]), "icons[0].sizes"),
    ("tool", tool(icons=[{"src": "a", "theme": "blue"}]), tool(icons=[{"src": "a"}]), "icons[0].theme"),
    ("tool", tool(icons=[{"src": "a", "mimeType": None}]), tool(icons=[{"src": "a"}]), "icons[0].mimeType"),
    ("tool", tool(inputSchema={}), TOOL, "inputSchema.type"),
    ("tool", tool(inputSchema=True), TOOL, "inputSchema"),
    ("tool", tool(inputSchema=None), TOOL, "inputSchema"),
    ("tool", tool(inputSchema=[]), TOOL, "inputSchema"),
    ("tool", {"name": "t"}, TOOL, "inputSchema"),
    ("tool", tool(inputSchema={"type": None}), TOOL, "inputSchema.type"),
    ("tool", tool(inputSchema={"type": ["object", "null"]}), TOOL, "inputSchema.type"),
    ("tool", schema(required=None), TOOL, "inputSchema.required"),
    ("tool", schema(required=True), TOOL, "inputSchema.required"),
    ("tool", schema(required=["a", None]), schema(required=["a"]), "inputSchema.required[1]"),
    ("tool", schema(properties=None), TOOL, "inputSchema.properties"),
    ("tool", schema(properties=[]), TOOL, "inputSchema.properties"),
    ("tool", schema(properties={"a": None}), schema(properties={"a": {}}), "inputSchema.properties.a"),
    ("tool", schema(properties={"a": "string"}), schema(properties={"a": {}}), "inputSchema.properties.a"),
    ("tool", schema(properties={"a": []}), schema(properties={"a": {}}), "inputSchema.properties.a"),
    ("tool", schema(**{"$schema": 7}), TOOL, "inputSchema.$schema"),
    ("tool", tool(outputSchema=None), TOOL, "outputSchema"),
    ("tool", tool(outputSchema=True), TOOL, "outputSchema"),
    ("tool", tool(outputSchema={**OBJECT, "required": None}), tool(outputSchema=OBJECT), "outputSchema.required"),
    ("resource", {**RESOURCE, "mimeType": None}, RESOURCE, "mimeType"),
    ("resource", {**RESOURCE, "size": None}, RESOURCE, "size"),
    ("resource", {**RESOURCE, "size": "12"}, RESOURCE, "size"),
    ("resource", {**RESOURCE, "size": 1.5}, RESOURCE, "size"),
    ("resource", {**RESOURCE, "size": True}, RESOURCE, "size"),
    ("resource", {"uri": "memo://a"}, {"uri": "memo://a", "name": "memo://a"}, "name"),
    (
        "resource",
        {**RESOURCE, "annotations": {"audience": ["user", "admin"]}},
        {**RESOURCE, "annotations": {"audience": ["user"]}},
        "annotations.audience[1]",
    ),
    (
        "resource",
        {**RESOURCE, "annotations": {"audience": "user"}},
        {**RESOURCE, "annotations": {}},
        "annotations.audience",
    ),
    ("resource", {**RESOURCE, "annotations": {"priority": 2}}, UNANNOTATED, "annotations.priority"),
    (
        "resource",
        {**RESOURCE, "annotations": {"priority": True}},
        {**RESOURCE, "annotations": {}},
        "annotations.priority",
    ),
    *(
        (
            "resource",
            {**RESOURCE, "annotations": {"lastModified": date}},
            UNANNOTATED,
            "annotations.lastModified",
        )
        for date in (None, "yesterday", "2025-02-30T00:00:00Z", "2025-01-12", "2025-01-12T15:00:58")
    ),
    ("template", {"uriTemplate": "memo://{a}"}, {"uriTemplate": "memo://{a}", "name": "memo://{a}"}, "name"),
    ("template", {**TEMPLATE, "annotations": 5}, TEMPLATE, "annotations"),
    ("prompt", {**PROMPT, "arguments": None}, PROMPT, "arguments"),
    ("prompt", {**PROMPT, "arguments": {}}, PROMPT, "arguments"),
    ("prompt", {**PROMPT, "arguments": [{"required": True}]}, {**PROMPT, "arguments": []}, "arguments[0].name"),
    (
        "prompt",
        {**PROMPT, "arguments": [{"name": "a", "required": None, "description": 5, "title": 1}]},
        {**PROMPT, "arguments": [{"name": "a"}]},
        "arguments[0].required",
    ),
]

LEFT_OUT: list[tuple[Kind, Any, str]] = [
    *((kind, wrong, "not an object") for kind in BASES for wrong in (None, 5, "a", [], True)),
    *(("tool", tool(name=name), "name") for name in (None, 5, "", [])),
    ("tool", {"inputSchema": OBJECT}, "name"),
    *(("tool", tool(inputSchema=wrong), "inputSchema") for wrong in (False, 5, "object", ["a"])),
    *(("tool", tool(inputSchema={"type": kind}), "inputSchema.type") for kind in ("string", "array", 5, ["string"])),
    ("resource", {"name": "a"}, "uri"),
    *(("resource", {**RESOURCE, "uri": uri}, "uri") for uri in (None, 5, "", "notes.txt", "/etc/hosts", "http://")),
    ("resource", {**RESOURCE, "name": 5}, "name"),
    ("template", {"name": "a"}, "uriTemplate"),
    ("template", {**TEMPLATE, "uriTemplate": None}, "uriTemplate"),
    ("prompt", {"arguments": []}, "name"),
    ("prompt", {"name": None}, "name"),
]


@pytest.mark.parametrize(("kind", "definition"), WELL_FORMED, ids=str)
def test_what_is_well_formed_is_left_alone(kind: Kind, definition: dict[str, Any]) -> None:
    given = copy.deepcopy(definition)
    assert repair(kind, given) == ()
    assert given == definition
    accepted(kind, given)


@pytest.mark.parametrize(("kind", "definition", "repaired", "member"), REPAIRED, ids=str)
def test_a_malformed_member_is_repaired_where_it_stands(
    kind: Kind, definition: dict[str, Any], repaired: dict[str, Any], member: str
) -> None:
    given = copy.deepcopy(definition)
    assert member in repair(kind, given)
    assert given == repaired
    accepted(kind, given)
    assert repair(kind, given) == (), "once is enough"


@pytest.mark.parametrize(("kind", "definition", "member"), LEFT_OUT, ids=str)
def test_what_cannot_be_repaired_names_the_member(kind: Kind, definition: Any, member: str) -> None:
    with pytest.raises(Unusable, match=member.replace(".", r"\.")):
        repair(kind, copy.deepcopy(definition))


def test_an_entry_with_many_faults_is_not_worth_it() -> None:
    many = schema(required=[None] * (MAX_FAULTS + 1))
    with pytest.raises(Unusable, match="more than 32"):
        repair("tool", many)
    assert len(repair("tool", schema(required=[None] * MAX_FAULTS))) == MAX_FAULTS


def test_paths_of_members_are_bounded() -> None:
    (fault,) = repair("tool", schema(properties={"x" * 100_000: None}))
    assert len(fault) == 80


def test_legacy_agents_get_schemas_that_their_clients_can_read() -> None:
    definition = schema(properties={"a": True, "b": False, "c": {}})
    assert legacy_members(definition) == {
        "inputSchema": {"type": "object", "properties": {"a": {}, "b": {"not": {}}, "c": {}}}
    }
    assert legacy_members(tool(outputSchema={"type": "array"})) == {"outputSchema": None}
    assert legacy_members(tool(outputSchema={**OBJECT, "properties": {"a": {"$ref": "#/x"}}})) == {"outputSchema": None}
    assert legacy_members(tool(outputSchema=OBJECT)) == {}


def test_a_repair_looks_at_each_part_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Twice the size, twice the work: counted in looks at properties."""

    class Counted(dict[str, Any]):
        looks = 0

        def items(self) -> Any:
            for pair in super().items():
                Counted.looks += 1
                yield pair

    for size in (1000, 2000):
        Counted.looks = 0
        repair("tool", schema(properties=Counted({f"p{number}": {} for number in range(size)})))
        assert Counted.looks == size


def test_the_repaired_definition_is_json() -> None:
    given = json.loads('{"name":"t","title":5,"inputSchema":{"maximum":1e2,"n":123456789012345678901234567890}}')
    repair("tool", given)
    assert json.loads(json.dumps(given))["inputSchema"] == {
        "maximum": 100.0,
        "n": 123456789012345678901234567890,
        "type": "object",
    }
