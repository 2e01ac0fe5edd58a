"""A stdio server that announces a changed list after each list that it gives, and each time has one tool more.

A client that fetches the list at each announcement never comes to rest. `asked` tells how often the list was fetched.
"""

import json
import sys

from wire import plain

ASKED = 0
for line in sys.stdin:
    message = json.loads(line)
    ASKED += message.get("method") == "tools/list"
    tools = ("asked", *(f"more_{n}" for n in range(min(ASKED, 20))))
    if reply := plain(message, tools=tools, call=lambda params, asked=ASKED: str(asked)):
        if message["method"] == "initialize":
            reply["result"]["capabilities"] = {"tools": {"listChanged": True}}
        print(json.dumps(reply), flush=True)
    if message.get("method") == "tools/list":
        for params in ({"params": {}}, {"params": None}, {}, {"params": []}, {"id": None}):
            note = {"jsonrpc": "2.0", "method": "notifications/tools/list_changed", **params}
            print(json.dumps(note), flush=True)
