"""A server on stdio that ignores cancellations: each call of `work` is answered after `seconds`.

`peak` answers how many calls were at work at once, at most.
"""

import json
import sys
import threading
from typing import Any

LOCK = threading.Lock()
STATE = {"now": 0, "peak": 0}
TOOLS = [{"name": name, "inputSchema": {"type": "object"}} for name in ("work", "peak")]


def say(message: dict[str, Any]) -> None:
    with LOCK:
        sys.stdout.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
        sys.stdout.flush()


def text(value: object) -> dict[str, Any]:
    return {"content": [{"type": "text", "text": str(value)}]}


def finish(request_id: Any) -> None:
    with LOCK:
        STATE["now"] -= 1
    say({"id": request_id, "result": text("done")})


for line in sys.stdin:
    message = json.loads(line)
    method, request_id = message.get("method"), message.get("id")
    params = message.get("params", {})
    if method == "initialize":
        info = {"name": "deaf", "version": "1"}
        result = {"protocolVersion": "2025-11-25", "capabilities": {"tools": {}}, "serverInfo": info}
        say({"id": request_id, "result": result})
    elif method == "tools/list":
        say({"id": request_id, "result": {"tools": TOOLS}})
    elif method == "tools/call" and params["name"] == "peak":
        say({"id": request_id, "result": text(STATE["peak"])})
    elif method == "tools/call":
        with LOCK:
            STATE["now"] += 1
            STATE["peak"] = max(STATE["peak"], STATE["now"])
        threading.Timer(params["arguments"]["seconds"], finish, [request_id]).start()
    elif method == "ping":
        say({"id": request_id, "result": {}})
    elif request_id is not None:
        say({"id": request_id, "error": {"code": -32601, "message": "unknown method"}})
