"""Agents that flood the gateway: `agents.py KIND PORT`, until they are ended. Prints a byte for each body served."""

import contextlib
import json
import select
import socket
import sys

HEAD = (
    b"POST /mcp HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    b"Accept: application/json, text/event-stream\r\n"
)


def post(body: bytes) -> bytes:
    return HEAD + b"Content-Length: %d\r\n\r\n%b" % (len(body), body)


def dial(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), 5)


def pour(port: int, data: bytes) -> None:
    """Send `data` again and again on one connection, and read what comes back."""
    with dial(port) as connection:
        connection.setblocking(False)
        while True:
            sent = 0
            while sent < len(data):
                readable, writable, _ = select.select([connection], [connection], [])
                if readable:
                    received = connection.recv(1024 * 1024)
                    if not received:
                        return
                    if len(data) > 1024 * 1024:
                        print("." * received.count(b"HTTP/1.1 "), end="", flush=True)
                if writable:
                    sent += connection.send(data[sent : sent + 256 * 1024])


def sockets(port: int) -> None:
    held = [dial(port) for _ in range(50)]
    while True:
        held.pop(0).close()
        held.append(dial(port))


def sessions(port: int) -> None:
    client = {"name": "flood", "version": "1"}
    params = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": client}
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params}).encode()
    pour(port, post(body))


def bodies(port: int) -> None:
    items = b"[" + b",".join([b'{"a":1}'] * 480_000) + b"]"
    pour(port, post(b'{"jsonrpc":"2.0","id":1,"method":"ping","params":{"a":' + items + b"}}"))


def headers(port: int) -> None:
    pour(port, b"GET /nowhere HTTP/1.1\r\nHost: 127.0.0.1\r\nX-A: b\r\n\r\n" * 2000)


if __name__ == "__main__":
    flood = {"sockets": sockets, "sessions": sessions, "bodies": bodies, "headers": headers}[sys.argv[1]]
    while True:
        with contextlib.suppress(OSError):
            flood(int(sys.argv[2]))
