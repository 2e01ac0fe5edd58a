"""A light server on stdio whose definitions are in a file that its user may change.

`python changing.py FILE`. The file holds a JSON object: `tools` and `prompts`, lists of definitions. It is read again
for each list. A definition is complete, except that a tool without a schema takes any arguments.
"""

import json
import sys
from typing import Any

sys.path.insert(0, __file__.rpartition("/tests/")[0])

from tests.servers.light import Call, Light


class Changing(Light):
    def result(self, method: str, params: dict[str, Any], call: Call | None) -> dict[str, Any]:
        if method == "tools/list":
            return {"tools": [{"inputSchema": {"type": "object"}, **one} for one in listed("tools")]}
        if method == "prompts/list":
            return {"prompts": listed("prompts")}
        found = super().result(method, params, call)
        if "capabilities" in found:
            found["capabilities"] = {"tools": {}, "prompts": {}}
        return found


def listed(key: str) -> list[dict[str, Any]]:
    with open(sys.argv[1]) as file:
        return list(json.load(file).get(key, []))


Changing("changing", "1.0").run()
