"""An HTTP server of 2026-07-28 with odd cache hints, an unknown version beside its own, and results without a type."""

from itertools import count

from wire import serve, write

LISTS = count()
HINTS = [
    {"ttlMs": -5},
    {"ttlMs": "60000", "cacheScope": "everybody"},
    {"ttlMs": 10**30},
    {"ttlMs": 0.5},
    {"ttlMs": None},
]
TOOL = {"name": "echo", "inputSchema": {"type": "object"}}


def handle(sock, start, headers, message):
    if not start.startswith("POST") or "id" not in message:
        write(sock, status="202 Accepted" if start.startswith("POST") else "405 Method Not Allowed")
        return False
    method, reply = message["method"], {"jsonrpc": "2.0", "id": message["id"]}
    if method == "server/discover":
        reply["result"] = {"supportedVersions": ["2031-01-01", "2026-07-28"], "capabilities": {"tools": {}}}
        reply["result"] |= {"serverInfo": {"name": "odd", "version": "1"}, "resultType": "complete"}
    elif method == "tools/list":
        reply["result"] = {"tools": [TOOL], "resultType": "complete", **HINTS[next(LISTS) % len(HINTS)]}
    elif method == "tools/call":
        reply["result"] = {"content": [{"type": "text", "text": "fine"}], "_meta": None}
    else:
        reply["error"] = {"code": -32601, "message": "Method not found"}
        write(sock, reply, "404 Not Found")
        return False
    write(sock, reply)
    return False


serve(handle)
