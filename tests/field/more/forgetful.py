"""An HTTP server that forgets every session after two calls, and says so in the ways that servers have found.

404 with HTML, 400 with words of the TypeScript SDK, 404 with a JSON-RPC error whose id is null, 400 with one whose
text is "Session not found", 410. What it refuses it did not execute; each executed call is counted.
"""

from itertools import count

from wire import plain, serve, write

LEFT: dict[str, int] = {}
NAMES, CALLS, WAYS = count(1), count(1), count()
NULL = {"jsonrpc": "2.0", "id": None}
REFUSALS = [
    (b"<html>gone</html>", "404 Not Found", "text/html"),
    ({**NULL, "error": {"code": -32000, "message": "Bad Request: No valid session ID provided"}}, "400 Bad Request"),
    ({**NULL, "error": {"code": -32001, "message": "Session not found"}}, "404 Not Found"),
    ({**NULL, "error": {"code": -32600, "message": "Session not found"}}, "400 Bad Request"),
    (b"", "410 Gone", None),
    ({**NULL, "error": {"code": -32000, "message": "Bad Request: Server not initialized"}}, "400 Bad Request"),
]


def handle(sock, start, headers, message):
    if not start.startswith("POST"):
        write(sock, status="405 Method Not Allowed")
        return False
    extra, session, method = [], headers.get("mcp-session-id"), message.get("method")
    if method == "initialize":
        session = f"s{next(NAMES)}"
        LEFT[session], extra = 2, [f"mcp-session-id: {session}"]
    elif method == "tools/call":
        if LEFT.get(session, 0) < 1:
            LEFT.pop(session, None)
            write(sock, *REFUSALS[next(WAYS) % len(REFUSALS)])
            return False
        LEFT[session] -= 1
    reply = plain(message, call=lambda params: str(next(CALLS)))
    write(sock, reply or b"", "200 OK" if reply else "202 Accepted", extra=extra)
    return False


serve(handle)
