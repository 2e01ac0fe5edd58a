"""An HTTP server with its own mind about statuses and content types; its GET stream opens and ends at once.

Each tool answers well-formed JSON-RPC in another status or under another type; `gets` tells how often GET was asked.
"""

import json

from wire import plain, serve, write

GETS = [0]
HOW = {
    "created": ("201 Created", "application/json"),
    "partial": ("206 Partial Content", "application/json"),
    "json_rpc": ("200 OK", "application/json-rpc"),
    "plain_text": ("200 OK", "text/plain"),
    "no_type": ("200 OK", None),
    "json_as_sse": ("200 OK", "text/event-stream"),
    "sse_as_json": ("200 OK", "application/json"),
    "result_in_500": ("500 Internal Server Error", "application/json"),
    "error_in_500": ("500 Internal Server Error", "application/json"),
    "error_in_400": ("400 Bad Request", "application/json"),
    "gets": ("200 OK", "application/json"),
}


def handle(sock, start, headers, message):
    if start.startswith("GET"):
        GETS[0] += 1
        write(sock, b"", kind="text/event-stream")
        return False
    reply = plain(message, tools=HOW, call=lambda params: str(GETS[0])) if message else None
    if reply is None:
        write(sock, b"OK", "200 OK", "text/plain")
        return False
    status, kind = "200 OK", "application/json"
    if message["method"] == "tools/call":
        name = message["params"]["name"]
        status, kind = HOW[name]
        if name.startswith("error_in"):
            reply = {"jsonrpc": "2.0", "id": reply["id"], "error": {"code": -32050, "message": "in its own words"}}
        if name == "sse_as_json":
            reply = b"data: " + json.dumps(reply).encode() + b"\n\n"
    write(sock, reply, status, kind)
    return False


serve(handle)
