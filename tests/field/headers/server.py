"""Answers whose HTTP is unusual and right, or nearly right.

Seen with old and with hand-written HTTP servers: case of header names, chunks, HTTP/1.0, bodies that end with the
connection, content types with and without a charset, early hints, and 200 or 204 for notifications.
"""

from tests.field.plain import Handler, HttpServer, Message, encoded

JSON = b"Content-Type: application/json"
HEADS = {
    "lower-case": b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d",
    "upper-case": b"HTTP/1.1 200 OK\r\nCONTENT-TYPE: APPLICATION/JSON\r\nCONTENT-LENGTH: %d",
    "no-spaces": b"HTTP/1.1 200 OK\r\nContent-Type:application/json\r\nContent-Length:%d",
    "charset": b"HTTP/1.1 200 OK\r\nContent-Type: application/json; charset=utf-8\r\nContent-Length: %d",
    "charset-quoted": b'HTTP/1.1 200 OK\r\nContent-Type: application/json;charset="UTF-8";\r\nContent-Length: %d',
    "no-reason": b"HTTP/1.1 200\r\n" + JSON + b"\r\nContent-Length: %d",
    "201": b"HTTP/1.1 201 Created\r\n" + JSON + b"\r\nContent-Length: %d",
    "close": b"HTTP/1.1 200 OK\r\n" + JSON + b"\r\nConnection: close\r\nContent-Length: %d",
    "http-1.0": b"HTTP/1.0 200 OK\r\n" + JSON + b"\r\nContent-Length: %d",
    "early-hints": b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\n%b\r\nContent-Length: %%d" % JSON,
    "text-plain": b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d",
    "no-type": b"HTTP/1.1 200 OK\r\nContent-Length: %d",
    "many": b"HTTP/1.1 200 OK\r\n" + JSON + b"\r\n" + b"X-Trace: a\r\n" * 60 + b"Content-Length: %d",
    "two-lengths": b"HTTP/1.1 200 OK\r\n" + JSON + b"\r\nContent-Length: %d\r\nContent-Length: 5",
}
NOTICES = {
    "notice-200": (200, b""),
    "notice-204": (204, b""),
    "notice-json": (200, b"{}"),
    "notice-null": (200, b"null"),
}


class Server(HttpServer):
    def reply(self, handler: Handler, message: Message, answer: Message | None) -> None:
        if answer is None:
            handler.send(*NOTICES.get(self.variant, (202, b"")))
            return
        body = encoded(answer)
        ends = self.variant in {"close", "http-1.0", "no-length"}
        if self.variant in HEADS:
            handler.raw(HEADS[self.variant] % len(body), body, close=ends)
        elif self.variant == "no-length":
            handler.raw(b"HTTP/1.1 200 OK\r\n" + JSON, body, close=ends)
        elif self.variant in {"chunks", "chunk-extras"}:
            extra, trailer = (b"", b"") if self.variant == "chunks" else (b";a=b", b"X-Took: 1\r\n")
            pieces = [body[place : place + 9] for place in range(0, len(body), 9)]
            chunks = [b"%X%b\r\n%b\r\n" % (len(piece), extra, piece) for piece in pieces]
            head = b"HTTP/1.1 200 OK\r\n" + JSON + b"\r\nTransfer-Encoding: chunked"
            handler.raw(head, *chunks, b"0\r\n%b\r\n" % trailer)
        else:
            handler.send(200, body)
