"""An HTTP server whose events have bare CR as line ends (the SSE standard allows it) and whose stream then stays open.

A reader that waits for the byte after a CR, in case it is a LF, never sees the end of the event.
"""

import json
import time

from wire import plain, serve, write


def handle(sock, start, headers, message):
    if not start.startswith("POST") or (reply := plain(message)) is None:
        write(sock, status="202 Accepted" if start.startswith("POST") else "405 Method Not Allowed")
        return False
    if message["method"] != "tools/call":
        write(sock, reply)
        return False
    sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n")
    sock.sendall(b": hello\rid: 1\revent: message\rdata: " + json.dumps(reply).encode() + b"\r\r")
    time.sleep(25)
    return True


serve(handle)
