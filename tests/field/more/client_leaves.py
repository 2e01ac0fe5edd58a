"""A client that leaves: half a head, half a body, a reset in the middle of a call, no DELETE, cancels of all kinds.

Prints, as JSON, whether the last session still works, and how many sessions that never ended were opened.
"""

import json
import socket
import struct
import sys

from wire import begin, http

PORT = int(sys.argv[1])
SESSION = begin(PORT)
CALL = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "tools/call",
    "params": {"name": "blocking:block", "arguments": {"seconds": 0.2}},
}


def leave(data, reset):
    sock = socket.create_connection(("127.0.0.1", PORT), 20)
    if reset:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.sendall(data)
    sock.close()


def note(params):
    message = {"jsonrpc": "2.0", "method": "notifications/cancelled", **params}
    return http(PORT, message, headers=SESSION)[0]


body = json.dumps(CALL).encode()
head = "\r\n".join(
    [
        "POST /mcp HTTP/1.1",
        f"Host: 127.0.0.1:{PORT}",
        f"Content-Length: {len(body)}",
        *SESSION,
        "Accept: application/json, text/event-stream",
        "Content-Type: application/json",
        "",
        "",
    ]
).encode()
for reset in (False, True):
    for data in (
        b"",
        b"POST",
        head[:40],
        head,
        head + body[:20],
        head + body[:-1],
        head + body,
        head + body + head[:9],
    ):
        leave(data, reset)
got = {"cancels": []}
for params in (
    {},
    {"params": None},
    {"params": []},
    {"params": {}},
    {"params": {"requestId": 999}},
    {"params": {"requestId": None}},
    {"params": {"requestId": [1]}},
    {"params": {"requestId": 1, "reason": 5}},
    {"params": {"requestId": 0}},
    {"id": None},
):
    got["cancels"].append(note(params))
got["unasked"] = [http(PORT, {"jsonrpc": "2.0", "id": i, "result": {}}, headers=SESSION)[0] for i in (1, "x", None)]
got["sessions"] = len({begin(PORT)[0] for _ in range(130)})
got["first"] = http(PORT, {"jsonrpc": "2.0", "id": 2, "method": "ping"}, headers=SESSION)[0]
last = begin(PORT)
got["last"] = http(PORT, {**CALL, "params": {"name": "blocking:quick"}}, headers=last)[2]
print(json.dumps(got))
