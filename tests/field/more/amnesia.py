"""An HTTP server that was restarted: it answers every request but `initialize` as the TypeScript SDK does then.

That is 400, "Bad Request: Server not initialized", with the id null. `restart` is its last call before that.
"""

from itertools import count

from wire import plain, serve, write

NAMES = count(1)
KNOWN: set[str] = set()


def call(params):
    if params["name"] == "restart":
        KNOWN.clear()
    return "fine"


def handle(sock, start, headers, message):
    if not start.startswith("POST"):
        write(sock, status="405 Method Not Allowed")
        return False
    extra = []
    if message.get("method") == "initialize":
        name = f"s{next(NAMES)}"
        KNOWN.add(name)
        extra = [f"Mcp-Session-Id: {name}"]
    elif message.get("method") != "server/discover" and headers.get("mcp-session-id") not in KNOWN:
        error = {"code": -32000, "message": "Bad Request: Server not initialized"}
        write(sock, {"jsonrpc": "2.0", "id": None, "error": error}, "400 Bad Request")
        return False
    reply = plain(message, tools=("echo", "restart"), call=call)
    write(sock, reply or b"", "200 OK" if reply else "202 Accepted", extra=extra)
    return False


serve(handle)
