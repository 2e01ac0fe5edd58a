"""An HTTP server that writes SSE in every legal way at once, one byte at a time.

A BOM, CRLF and LF mixed, comments, `retry` that is no number, an id with a space, unknown fields, `data` without
a space or a colon, JSON laid out over many `data` lines, the event's type after its data, and text beyond ASCII.
"""

import json

from wire import plain, serve, write


def handle(sock, start, headers, message):
    if (
        not start.startswith("POST")
        or (reply := plain(message, call=lambda params: "grüße 🎈\u2028 \u0085 end")) is None
    ):
        write(sock, status="202 Accepted" if start.startswith("POST") else "405 Method Not Allowed")
        return False
    laid_out = json.dumps(reply, indent=1, ensure_ascii=False).split("\n")
    text = "\ufeff: comment\r\n\r\nretry: soon\r\nid: a b\r\nunknown: x\r\nevent: ping\r\ndata: {}\r\n\r\n:\n\ndata\n\n"
    text += "".join(f"data:{line}\n" if n % 2 else f"data: {line}\r\n" for n, line in enumerate(laid_out))
    text += "event: message\r\nretry: 10\n\r\n"
    sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: Text/Event-Stream;charset=UTF-8\r\nConnection: close\r\n\r\n")
    for byte in text.encode():
        sock.sendall(bytes([byte]))
    return True


serve(handle)
