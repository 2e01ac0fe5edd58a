"""A server of HTTP+SSE: the endpoint comes late, by an absolute URL, in CRLF lines; it is announced twice.

POST is answered with 200 and a text; the answer comes on the stream, after a comment, twice.
"""

import json
import queue
import sys

from wire import plain, serve, write

READY = queue.Queue()


def handle(sock, start, headers, message):
    if start.startswith("GET"):
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nConnection: close\r\n\r\n")
        url = f"http://127.0.0.1:{sys.argv[1]}/post?session=a%20b".encode()
        sock.sendall(b": wait\r\n\r\nretry: 10\r\n\r\nevent:endpoint\r\ndata:" + url + b"\r\n\r\n")
        sock.sendall(b"event: endpoint\r\ndata: /post?session=second\r\n\r\n")
        while True:
            event = b"event: message\r\ndata: " + json.dumps(READY.get()).encode() + b"\r\n\r\n"
            sock.sendall(b": now\r\n\r\n" + event + event)
    if "session=" not in start:
        write(sock, b"no session", "400 Bad Request", "text/plain")
        return False
    write(sock, b"Accepted", kind="text/plain")
    if reply := plain(message):
        READY.put(reply)
    return False


serve(handle)
