"""One definition with a malformed member stands beside good ones.

Seen in servers that fill optional members from a database or an ORM, and so send null, and in generators that write
`{}` or `true` for "any arguments". A client that validates a whole list loses all of it.
"""

from typing import Any

from tests.field.plain import OBJECT, HttpServer, Message

ABSENT: Any = object()
MEMBERS: dict[str, dict[str, Any]] = {
    "tools": {
        "description-null": {"description": None},
        "description-number": {"description": 5},
        "title-number": {"title": 5},
        "schema-missing": {"inputSchema": ABSENT},
        "schema-null": {"inputSchema": None},
        "schema-empty": {"inputSchema": {}},
        "schema-true": {"inputSchema": True},
        "required-null": {"inputSchema": {**OBJECT, "required": None}},
        "properties-list": {"inputSchema": {**OBJECT, "properties": []}},
        "output-schema-null": {"outputSchema": None},
        "output-schema-text": {"outputSchema": {"type": "string"}},
        "annotations-list": {"annotations": []},
        "hint-text": {"annotations": {"readOnlyHint": "true"}},
        "icons-object": {"icons": {}},
        "meta-null": {"_meta": None},
        "schema-text": {"inputSchema": "object"},
        "entry-null": None,
    },
    "prompts": {
        "arguments-null": {"arguments": None},
        "argument-required-null": {"arguments": [{"name": "a", "required": None}]},
    },
    "resources": {"mime-number": {"mimeType": 5}, "size-text": {"size": "5"}, "uri-relative": {"uri": "/a"}},
}
"""What is malformed, by list and variant."""
BEYOND_REPAIR = frozenset({"schema-text", "entry-null", "uri-relative"})


class Server(HttpServer):
    def result(self, method: str, params: Message) -> Any:
        found = super().result(method, params)
        key = method.removesuffix("/list")
        if self.variant in MEMBERS.get(key, {}):
            found[key].append(self.odd(key))
        return found

    def odd(self, key: str) -> Any:
        members = MEMBERS[key][self.variant]
        if members is None:
            return None
        usual = {"uri": f"memo://{self.name}/odd", "name": "odd"} if key == "resources" else self.tool("odd")
        return {name: value for name, value in {**usual, **members}.items() if value is not ABSENT}
