"""Answers that are compressed although the client did not ask for it, or that name an unknown encoding.

Seen behind proxies and content networks that compress everything, and in servers that take Content-Encoding for
the place of the character set.
"""

import gzip
import zlib

from tests.field.plain import Handler, HttpServer, Message, encoded, said

BOMB = 20_000_000
"""Bytes of an answer that is small only while it is compressed."""


def deflate(data: bytes, window: int = 15) -> bytes:
    compressor = zlib.compressobj(wbits=window)
    return compressor.compress(data) + compressor.flush()


class Server(HttpServer):
    def reply(self, handler: Handler, message: Message, answer: Message | None) -> None:
        if answer is None:
            handler.send(202)
            return
        data = encoded(answer)
        name, body, kind = self.variant, data, "application/json"
        match self.variant:
            case "gzip" | "x-gzip":
                body = gzip.compress(data)
            case "upper-case":
                name, body = "GZIP", gzip.compress(data)
            case "deflate":
                body = deflate(data)
            case "deflate-raw":
                name, body = "deflate", deflate(data, -15)
            case "gzip-events":
                name, body, kind = "gzip", gzip.compress(b"data: " + data + b"\n\n"), "text/event-stream"
            case "twice":
                name, body = "gzip, gzip", gzip.compress(gzip.compress(data))
            case "no-trailer":
                name, body = "gzip", gzip.compress(data)[:-8]
            case "cut" if message["method"] == "tools/call":
                name, body = "gzip", gzip.compress(data)[: len(data) // 2]
            case "bomb" if message["method"] == "tools/call":
                name, body = "gzip", gzip.compress(encoded({**answer, "result": said("x" * BOMB)}))
            case "cut" | "bomb":
                name = "identity"
        handler.send(200, body, kind, **{"Content-Encoding": name})
