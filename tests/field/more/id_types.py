"""An HTTP server that answers with the id in another type: a number as text, text as a number, a number as 1.0."""

import json

from wire import plain, serve, write


def other(value, how):
    if how == "text":
        return str(value)
    if how == "float":
        return float(value) if str(value).isdigit() else value
    return int(value) if str(value).isdigit() else value


def handle(sock, start, headers, message):
    if not start.startswith("POST") or (reply := plain(message, tools=("text", "float", "number"))) is None:
        write(sock, status="202 Accepted" if start.startswith("POST") else "405 Method Not Allowed")
        return False
    if message["method"] == "tools/call":
        reply["id"] = other(reply["id"], message["params"]["name"])
    write(sock, json.dumps(reply).encode())
    return False


serve(handle)
