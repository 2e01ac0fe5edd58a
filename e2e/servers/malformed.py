"""A server on stdio whose definitions are malformed in many ways: `malformed.py legacy` or `malformed.py modern`.

The names say what should become of an entry: those with `ok` can be published, whole or repaired, those with `out`
cannot.
"""

import json
import sys
from typing import Any

ERA = sys.argv[1]
OBJECT = {"type": "object"}
ANNOTATIONS: list[Any] = [
    *(None, [], 5),
    *({"audience": "user"}, {"audience": ["admin"]}, {"priority": 2}, {"priority": "1"}, {"lastModified": "today"}),
]
COMMON: list[dict[str, Any]] = [
    *({"description": value} for value in (None, 5, [])),
    *({"title": value} for value in (None, 5, {})),
    *(
        {"icons": value}
        for value in (None, {}, [None], [{}], [{"src": "a", "sizes": "48x48"}], [{"src": "a", "theme": 1}])
    ),
    *({"_meta": value} for value in (None, [], 5)),
    {"unknown": None},
]
SCHEMAS: list[Any] = [
    *({"required": value} for value in (None, True, "a", [None], [1])),
    *({"properties": value} for value in (None, [], 5, {"a": None}, {"a": "string"}, {"a": []}, {"a": True})),
    {"$schema": 7},
]
FINE = [
    {"inputSchema": OBJECT},
    *({"inputSchema": value} for value in (None, True, [], {}, {"type": None}, {"type": ["object", "null"]})),
    {},
    *({"inputSchema": {**OBJECT, **value}} for value in SCHEMAS),
    *({"inputSchema": OBJECT, **value} for value in COMMON),
    *({"inputSchema": OBJECT, "outputSchema": value} for value in (None, True, [], 5, {"type": "string"}, {})),
    *({"inputSchema": OBJECT, "outputSchema": {**OBJECT, **value}} for value in SCHEMAS),
    *(
        {"inputSchema": OBJECT, "outputSchema": {**OBJECT, "properties": {"a": value}}}
        for value in ({"type": "nonsense"}, {"$ref": "#/nowhere"}, {"pattern": "(?i)a"}, {"minimum": "1"}, {"enum": []})
    ),
    *(
        {"inputSchema": OBJECT, "annotations": value}
        for value in (None, [], 5, {"readOnlyHint": "true"}, {"title": None})
    ),
    *(
        {"inputSchema": OBJECT, "execution": value}
        for value in (None, {"taskSupport": "sometimes"}, {"taskSupport": None})
    ),
]
BROKEN = [{"inputSchema": value} for value in (False, 5, "object", {"type": "string"}, {"type": 5})]
ARGUMENTS: list[Any] = [None, {}, 5, [None], [{}], [{"name": "a", "required": None}], [{"name": "a", "description": 5}]]


def named(word: str, key: str, entries: list[dict[str, Any]], form: str = "{}") -> list[dict[str, Any]]:
    return [{key: form.format(f"{ERA}-{word}-{number}"), **entry} for number, entry in enumerate(entries)]


ODD: list[Any] = [None, 5, "text", [], {}]
LISTS: dict[str, list[Any]] = {
    "tools": [*ODD, *named("ok", "name", FINE), *named("out", "name", BROKEN), {"name": None, "inputSchema": OBJECT}],
    "prompts": [*ODD, *named("ok", "name", [*COMMON, *({"arguments": value} for value in ARGUMENTS)])],
    "resources": [
        *ODD,
        *named(
            "ok",
            "uri",
            [
                {},
                *({"name": "a", **value} for value in COMMON),
                *({"name": "a", "annotations": value} for value in ANNOTATIONS),
                *({"name": "a", "size": value} for value in (None, "5", 1.5, True)),
                *({"name": "a", "mimeType": value} for value in (None, 5)),
            ],
            "memo://{}",
        ),
        *named("out", "uri", [{"name": "a"}, {"name": "a"}], "/no/scheme/{}"),
        *named("out", "uri", [{"name": 5}, {"name": None}], "memo://{}"),
    ],
    "resourceTemplates": [
        *ODD,
        *named(
            "ok",
            "uriTemplate",
            [{}, *({"name": "a", **value} for value in COMMON), {"name": "a", "annotations": None}],
            "memo://{}/{{x}}",
        ),
    ],
}
METHODS = {
    "tools/list": "tools",
    "prompts/list": "prompts",
    "resources/list": "resources",
    "resources/templates/list": "resourceTemplates",
}
CAPABILITIES = {"tools": {}, "prompts": {}, "resources": {}}


def answer(method: str, params: dict[str, Any]) -> dict[str, Any] | None:
    if ERA == "modern" and method == "server/discover":
        return {"supportedVersions": ["2026-07-28"], "capabilities": CAPABILITIES, "resultType": "complete"}
    if ERA == "legacy" and method == "initialize":
        server = {"name": "malformed", "version": "1"}
        return {"protocolVersion": "2025-11-25", "capabilities": CAPABILITIES, "serverInfo": server}
    if method in METHODS:
        hints = {"resultType": "complete", "ttlMs": 60_000, "cacheScope": "public"} if ERA == "modern" else {}
        return {METHODS[method]: LISTS[METHODS[method]], **hints}
    return {} if method == "ping" else None


def main() -> None:
    for line in sys.stdin:
        message = json.loads(line)
        if "id" not in message:
            continue
        found = answer(message.get("method", ""), message.get("params", {}))
        ending = {"error": {"code": -32601, "message": "unknown"}} if found is None else {"result": found}
        print(json.dumps({"jsonrpc": "2.0", "id": message["id"], **ending}), flush=True)


if __name__ == "__main__":
    main()
