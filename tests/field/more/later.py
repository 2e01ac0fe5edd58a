"""An HTTP server that answers every request but `initialize` with 202, and its result on the standalone GET stream."""

import json
import queue

from wire import plain, serve, write

READY = queue.Queue()


def handle(sock, start, headers, message):
    if start.startswith("GET"):
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n: open\n\n")
        while True:
            sock.sendall(b"data: " + json.dumps(READY.get()).encode() + b"\n\n")
    reply = plain(message) if start.startswith("POST") else None
    if reply and message["method"] in ("initialize", "server/discover"):
        write(sock, reply, extra=["Mcp-Session-Id: only"])
        return False
    if reply:
        READY.put(reply)
    write(sock, status="202 Accepted", kind=None)
    return False


serve(handle)
