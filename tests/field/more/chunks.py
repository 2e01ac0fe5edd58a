"""An HTTP server that answers with 103 Early Hints, 100 Continue, then one-byte chunks with extensions, a trailer."""

import json

from wire import plain, serve, write


def handle(sock, start, headers, message):
    if not start.startswith("POST") or (reply := plain(message)) is None:
        write(sock, status="202 Accepted" if start.startswith("POST") else "405 Method Not Allowed")
        return False
    sock.sendall(b"HTTP/1.1 103 Early Hints\r\nLink: </x>; rel=preload\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n")
    sock.sendall(
        b"HTTP/1.1 200 Fine\r\nContent-Type: application/json\r\nTransfer-Encoding: CHUNKED\r\nTrailer: X-Sum\r\n\r\n"
    )
    for byte in json.dumps(reply).encode():
        sock.sendall(b'0001;a="b";c\r\n' + bytes([byte]) + b"\r\n")
    sock.sendall(b"000;last\r\nX-Sum: 1\r\n\r\n")
    return False


serve(handle)
