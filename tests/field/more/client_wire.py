"""A client that writes HTTP in odd but legal ways; prints what each got, as JSON.

Pipelined requests, headers in odd case, a chunked body with extensions, one byte at a time, Expect, an absolute
target, a query, blank lines between requests, HTTP/1.0.
"""

import json
import socket
import sys
import time

from wire import answer, begin

PORT = int(sys.argv[1])
SESSION = begin(PORT)
LIST = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
ACCEPT = "aCCept: application/json,text/event-stream"


def raw(*pieces, answers=1, pause=0.0):
    sock = socket.create_connection(("127.0.0.1", PORT), 20)
    for piece in pieces:
        sock.sendall(piece)
        time.sleep(pause)
    stream_answers = []
    for _ in range(answers):
        status, _, got = answer(sock)
        stream_answers.append([status, got.get("id") if isinstance(got, dict) else got])
    return stream_answers


def post(message=LIST, target="/mcp", version="1.1", extra=(), body=None):
    body = json.dumps(message).encode() if body is None else body
    lines = [f"POST {target} HTTP/{version}", f"hOST: 127.0.0.1:{PORT}", ACCEPT, "CONTENT-TYPE: application/json"]
    lines += [*SESSION, *extra] + ([] if any("ransfer" in e for e in extra) else [f"content-LENGTH: {len(body)}"])
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


text = json.dumps(LIST).encode()
chunks = b"".join(b'1;x="y"\r\n' + bytes([b]) + b"\r\n" for b in text) + b"0\r\nX-Trailer: 1\r\n\r\n"
got = {
    "slow": raw(*[bytes([b]) for b in post()], pause=0.002),
    "chunked": raw(post(body=chunks, extra=["Transfer-Encoding: chunked"])),
    "absolute": raw(post(target=f"http://127.0.0.1:{PORT}/mcp")),
    "query": raw(post(target="/mcp?a=b&c")),
    "slash": raw(post(target="/mcp/")),
    "double_slash": raw(post(target="//mcp")),
    "upper": raw(post(target="/MCP")),
    "encoded": raw(post(target="/%6dcp")),
    "blank_lines": raw(b"\r\n\r\n" + post()),
    "http10": raw(post(version="1.0")),
    "expect": raw(post(extra=["Expect: 100-continue"])),
}
sock = socket.create_connection(("127.0.0.1", PORT), 20)
sock.sendall(b"".join(post({**LIST, "id": n}) for n in range(5)))
stream = sock.makefile("rb")
from wire import read  # noqa: E402

got["pipelined"] = [json.loads(read(stream)[2])["id"] for _ in range(5)]
print(json.dumps(got))
