"""An HTTP server that compresses, asked or not: gzip in parts and in a stream, deflate in both forms, a bomb."""

import gzip
import json
import time
import zlib

from wire import plain, serve, write

TOOLS = ("gzip", "x_gzip", "gzip_twice", "zlib", "raw_deflate", "identity", "gzip_members", "stream", "bomb")


def handle(sock, start, headers, message):
    if not start.startswith("POST") or (reply := plain(message, tools=TOOLS)) is None:
        write(sock, status="202 Accepted" if start.startswith("POST") else "405 Method Not Allowed")
        return False
    name = message["params"]["name"] if message["method"] == "tools/call" else "identity"
    body = json.dumps(reply).encode()
    if name == "stream":
        sock.sendall(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Encoding: gzip\r\nConnection: close\r\n\r\n"
        )
        packer = zlib.compressobj(wbits=31)
        sock.sendall(packer.compress(b"data: " + body + b"\n\n") + packer.flush(zlib.Z_SYNC_FLUSH))
        time.sleep(20)
        return True
    half = len(body) // 2
    raw = zlib.compressobj(wbits=-15)
    how = {
        "gzip": lambda: ("gzip", gzip.compress(body)),
        "x_gzip": lambda: ("X-GZip", gzip.compress(body)),
        "gzip_twice": lambda: ("gzip, gzip", gzip.compress(gzip.compress(body))),
        "zlib": lambda: ("deflate", zlib.compress(body)),
        "raw_deflate": lambda: ("deflate", raw.compress(body) + raw.flush()),
        "identity": lambda: ("identity", body),
        "gzip_members": lambda: ("gzip", gzip.compress(body[:half]) + gzip.compress(body[half:])),
        "bomb": lambda: ("gzip", gzip.compress(body + b" " * (64 << 20))),
    }
    encoding, body = how[name]()
    write(sock, body, extra=[f"Content-Encoding: {encoding}"])
    return False


serve(handle)
