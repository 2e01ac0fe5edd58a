"""An HTTP server whose answers are almost JSON: each tool has one flaw."""

import json

from wire import plain, serve, write

GOOD = '{"jsonrpc": "2.0", "id": ID, "result": {"content": [{"type": "text", "text": "TEXT"}]MORE}}'
FLAWS = {
    "bom": lambda: "\ufeff" + GOOD,
    "nan": lambda: GOOD.replace("MORE", ', "structuredContent": {"x": NaN, "y": -Infinity}'),
    "surrogate": lambda: GOOD.replace("TEXT", "half \\ud83d end"),
    "twice": lambda: GOOD.replace("MORE", ', "isError": true, "isError": false'),
    "latin1": lambda: GOOD.replace("TEXT", "gr\udcfc\udcdfe"),
    "tail": lambda: GOOD + "\n\x00",
    "raw_tab": lambda: GOOD.replace("TEXT", "a\tb"),
    "comma": lambda: GOOD.replace("MORE", ","),
    "big": lambda: GOOD.replace("MORE", ', "structuredContent": {"n": 123456789012345678901234567890, "f": 1e999}'),
    "deep": lambda: GOOD.replace("MORE", ', "structuredContent": {"d": ' + "[" * 200 + "]" * 200 + "}"),
    "array": lambda: "[" + GOOD + "]",
}


def handle(sock, start, headers, message):
    if not start.startswith("POST") or (reply := plain(message, tools=FLAWS)) is None:
        write(sock, status="202 Accepted" if start.startswith("POST") else "405 Method Not Allowed")
        return False
    if message["method"] == "tools/call":
        text = FLAWS[message["params"]["name"]]().replace("ID", json.dumps(reply["id"]))
        reply = text.replace("TEXT", "fine").replace("MORE", "").encode("utf-8", "surrogateescape")
    write(sock, reply)
    return False


serve(handle)
