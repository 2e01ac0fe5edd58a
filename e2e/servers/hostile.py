"""A server on stdio whose texts try to break out of the page that shows them."""

from __future__ import annotations

import json
import sys
from typing import Any

TEXT = "<img src=x onerror=alert(1)>\u202etxt.exe\u200b" + "A" * 5000


def answer(request: dict[str, Any]) -> dict[str, Any]:
    match request["method"]:
        case "initialize":
            return {
                "result": {
                    "protocolVersion": "2025-06-18",
                    "capabilities": {"tools": {}},
                    "serverInfo": {"name": TEXT, "version": "1"},
                }
            }
        case "tools/list":
            tool = {"name": "odd", "description": TEXT, "inputSchema": {"type": "object", "description": TEXT}}
            return {"result": {"tools": [tool]}}
        case "tools/call":
            return {"result": {"content": [{"type": "text", "text": TEXT}]}}
        case "ping":
            return {"result": {}}
        case _:
            return {"error": {"code": -32601, "message": TEXT}}


sys.stderr.write(f"{TEXT}\n")
sys.stderr.flush()
for line in sys.stdin:
    request = json.loads(line)
    if "id" in request:
        sys.stdout.write(json.dumps({"jsonrpc": "2.0", "id": request["id"], **answer(request)}) + "\n")
        sys.stdout.flush()
