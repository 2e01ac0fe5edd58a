"""An HTTP server whose results have members too many, too few, or null: each tool has one oddity."""

from wire import plain, serve, write

TEXT = [{"type": "text", "text": "fine"}]
ODD = {
    "null_error": {"error": None, "result": {"content": TEXT}},
    "null_result": {"result": None, "error": {"code": -32000, "message": "as it should be"}},
    "no_jsonrpc": {"jsonrpc": None, "result": {"content": TEXT}},
    "no_content": {"result": {"structuredContent": {"a": 1}}},
    "null_members": {"result": {"content": TEXT, "structuredContent": None, "_meta": None}},
    "null_content": {"result": {"content": None}},
    "object_content": {"result": {"content": {"type": "text", "text": "fine"}}},
    "string_content": {"result": {"content": "fine"}},
    "unknown_type": {"result": {"content": [{"type": "hologram", "size": 3}, *TEXT]}},
    "null_block": {"result": {"content": [None, *TEXT]}},
    "extra": {"result": {"content": TEXT, "resultType": "complete", "x": [1]}, "y": 2, "method": None},
    "text_code": {"error": {"code": "E42", "message": "in words"}},
    "text_error": {"error": "in words"},
    "no_message": {"error": {"code": -32000}},
    "float_code": {"error": {"code": -32000.0, "message": "in words", "data": None}},
    "neither": {},
}


def handle(sock, start, headers, message):
    if not start.startswith("POST") or (reply := plain(message, tools=ODD)) is None:
        write(sock, status="202 Accepted" if start.startswith("POST") else "405 Method Not Allowed")
        return False
    if message["method"] == "tools/call":
        reply = {"jsonrpc": "2.0", "id": message["id"], **ODD[message["params"]["name"]]}
        reply = {name: value for name, value in reply.items() if (name, value) != ("jsonrpc", None)}
    write(sock, reply)
    return False


serve(handle)
