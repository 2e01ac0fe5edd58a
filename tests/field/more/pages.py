"""A stdio server with odd cursors: a number, the empty one, an object, one that comes back, and a page that fails."""

import json
import sys

from wire import plain

AFTER = {None: 7, "7": "", "": "a" * 5000, "a" * 5000: "\u00e9\n", "\u00e9\n": 0.5, "0.5": {"page": 3}}
for line in sys.stdin:
    message = json.loads(line)
    reply = plain(message)
    params = message.get("params") or {}
    if message.get("method") == "initialize":
        reply["result"]["capabilities"] = {"tools": {}, "prompts": {}, "resources": {}}
    if message.get("method") == "tools/list":
        cursor = params.get("cursor")
        at = cursor if isinstance(cursor, str) or cursor is None else json.dumps(cursor)
        tool = {"name": f"page_{list(AFTER).index(at) if at in AFTER else 'end'}", "inputSchema": {"type": "object"}}
        reply["result"] = {"tools": [tool], "nextCursor": AFTER.get(at)}
    if message.get("method") == "prompts/list":
        reply.pop("error")
        reply["result"] = {"prompts": [{"name": "p"}], "nextCursor": "same"}
    if message.get("method") == "resources/list" and not params.get("cursor"):
        reply.pop("error")
        reply["result"] = {"resources": [{"uri": "odd://r", "name": "r"}], "nextCursor": "fails"}
    if reply:
        print(json.dumps(reply), flush=True)
