"""A stdio server that wants answers before it gives any: a ping before `initialize` is answered, roots before a list.

It also asks what clients do not know, with ids that look like the client's.
"""

import json
import sys

from wire import plain


def ask(method, ident):
    print(json.dumps({"jsonrpc": "2.0", "id": ident, "method": method}), flush=True)
    while True:
        answer = json.loads(sys.stdin.readline())
        if answer.get("id") == ident and "method" not in answer:
            return answer
        LATER.append(answer)


LATER: list[dict] = []
SAID = {}
while line := (LATER.pop(0) if LATER else sys.stdin.readline()):
    message = json.loads(line) if isinstance(line, str) else line
    if message.get("method") == "initialize":
        SAID["ping"] = ask("ping", 0)
    if message.get("method") == "tools/list":
        SAID["unknown"] = ask("vendor/odd", "1")
        SAID["roots"] = ask("roots/list", 1)
    if reply := plain(message, tools=("said",), call=lambda params: json.dumps(SAID)):
        print(json.dumps(reply), flush=True)
