"""A server of the revision 2025-11-25 on stdio, without any SDK: `legacy_server.py JOURNAL`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any


def answer(message: dict[str, Any]) -> dict[str, Any] | None:
    params = message.get("params", {})
    match message["method"]:
        case "initialize":
            info = {"name": "old", "version": "1"}
            return {"protocolVersion": "2025-11-25", "capabilities": {"tools": {}}, "serverInfo": info}
        case "tools/list":
            return {"tools": [{"name": "add_old", "inputSchema": {"type": "object"}}]}
        case "tools/call":
            with Path(sys.argv[1]).open("a") as file:
                meta = params.get("_meta", {}).get("traceparent")
                file.write(json.dumps({"a": params["arguments"]["a"], "meta": meta, "header": None}) + "\n")
            return {"content": [{"type": "text", "text": "done"}]}
        case "ping":
            return {}
    return None


for line in sys.stdin:
    message = json.loads(line)
    if "id" not in message:
        continue
    result = answer(message)
    response = {"error": {"code": -32601, "message": "no such method"}} if result is None else {"result": result}
    print(json.dumps({"jsonrpc": "2.0", "id": message["id"], **response}), flush=True)
