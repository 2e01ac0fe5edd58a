"""An HTTP server that refuses large bodies with 413 before it has read them: the client is still writing."""

import json
import socket
import sys
import threading
import time

from wire import plain, write


def connection(sock):
    with sock:
        head = b""
        while b"\r\n\r\n" not in head:
            got = sock.recv(1)
            if not got:
                return
            head += got
        lines = head.lower().split(b"\r\n")
        length = next((int(line.split(b":")[1]) for line in lines if line.startswith(b"content-length")), 0)
        if length > 65536:
            write(sock, b"too large for me", "413 Content Too Large", "text/plain", ["Connection: close"])
            time.sleep(0.2)
            return
        body = b""
        while len(body) < length:
            body += sock.recv(length - len(body))
        reply = plain(json.loads(body)) if body else None
        write(sock, reply if reply else b"", "200 OK" if reply else "202 Accepted", extra=["Connection: close"])


listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
while True:
    threading.Thread(target=connection, args=(listener.accept()[0],), daemon=True).start()
