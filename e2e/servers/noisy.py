"""A server that makes noise beside its work, on standard input and output.

Argument: `lines` writes lines that are no messages, `lists` says all the time that its tools have changed.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from typing import Any

KIND = sys.argv[1]
write = threading.Lock()


def say(line: str) -> None:
    with write:
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()


def make_noise() -> None:
    changed = json.dumps({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"})
    while True:
        say("listening on all interfaces" if KIND == "lines" else changed)
        time.sleep(0.01)


def answer(request: dict[str, Any]) -> dict[str, Any]:
    match request["method"]:
        case "initialize":
            return {
                "result": {
                    "protocolVersion": "2025-06-18",
                    "capabilities": {"tools": {"listChanged": True}},
                    "serverInfo": {"name": KIND, "version": "1"},
                }
            }
        case "tools/list":
            return {"result": {"tools": [{"name": f"noisy_{KIND}", "inputSchema": {"type": "object"}}]}}
        case "ping":
            return {"result": {}}
        case _:
            return {"error": {"code": -32601, "message": "not here"}}


threading.Thread(target=make_noise, daemon=True).start()
for line in sys.stdin:
    request = json.loads(line)
    if "id" in request:
        say(json.dumps({"jsonrpc": "2.0", "id": request["id"], **answer(request)}))
