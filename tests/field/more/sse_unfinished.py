"""An HTTP server whose stream ends with its last `data` line: without the blank line, or even a line end."""

import json

from wire import plain, serve, write


def handle(sock, start, headers, message):
    if not start.startswith("POST") or (reply := plain(message, tools=("no_blank", "no_line_end"))) is None:
        write(sock, status="202 Accepted" if start.startswith("POST") else "405 Method Not Allowed")
        return False
    if message["method"] != "tools/call":
        write(sock, reply)
        return False
    event = b"event: message\ndata: " + json.dumps(reply).encode()
    event += b"\n" if message["params"]["name"] == "no_blank" else b""
    sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
    sock.sendall(b"%x\r\n%s\r\n0\r\n\r\n" % (len(event), event))
    return False


serve(handle)
