"""An HTTP server that says too much in the stream of one call.

Answers to unknown ids, an answer with the id null, notifications without params or with odd ones, then the answer,
then progress after it, the same answer again with another text, and an error for the same id.
"""

import json

from wire import plain, serve, write


def handle(sock, start, headers, message):
    if not start.startswith("POST") or (reply := plain(message)) is None:
        write(sock, status="202 Accepted" if start.startswith("POST") else "405 Method Not Allowed")
        return False
    if message["method"] != "tools/call":
        write(sock, reply)
        return False
    token = message["params"].get("_meta", {}).get("progressToken", "none")
    note = {"jsonrpc": "2.0", "method": "notifications/progress"}
    second = {**reply, "result": {"content": [{"type": "text", "text": "second"}]}}
    error = {"jsonrpc": "2.0", "id": reply["id"], "error": {"code": -1, "message": "third"}}
    said = [{**reply, "id": "nobody"}, {**reply, "id": None}, {**reply, "id": 987654321}, note, {**note, "params": []}]
    said += [
        {**note, "params": {"progressToken": token}},
        {**note, "params": {"progressToken": token, "progress": "1"}},
    ]
    said += [{"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "loud", "data": 1}}]
    said += [{"jsonrpc": "2.0", "method": 5}, [], "text", 7, None, reply]
    said += [{**note, "params": {"progressToken": token, "progress": 9}}, second, error]
    text = "".join(f"data: {json.dumps(one)}\n\n" for one in said).encode()
    write(sock, text, kind="text/event-stream")
    return False


serve(handle)
