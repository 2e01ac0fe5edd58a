"""Event streams that are right and unusual: line ends, comments, ids, several data lines, odd pieces.

Seen with hand-written servers and behind proxies that cut a stream where they like.
"""

from tests.field.plain import Handler, HttpServer, Message, encoded

FRAMES = {
    "crlf": b"event: message\r\ndata: %b\r\n\r\n",
    "cr": b"event: message\rdata: %b\r\r",
    "no-space": b"data:%b\n\n",
    "comments": b": hello\n\n:\n: again\ndata: %b\n: bye\n\n",
    "ids": b"id: 7\nretry: 5000\ndata: %b\n\n",
    "priming": b"id: 1\ndata:\n\nid: 2\ndata: %b\n\n",
    "empty-data": b"data\n\ndata: \n\ndata: %b\n\n",
    "bom": b"\xef\xbb\xbfdata: %b\n\n",
    "other-fields": b"foo: bar\nevent: message\ndata: %b\nbaz\n\n",
    "other-events": b"event: ping\ndata: 2026-01-01\n\nevent: message\ndata: %b\n\nevent: done\ndata: [DONE]\n\n",
    "pieces": b"event: message\ndata: %b\n\n",
    "no-end": b"event: message\ndata: %b\n",
    "length": b"data: %b\n\n",
}


class Server(HttpServer):
    def reply(self, handler: Handler, message: Message, answer: Message | None) -> None:
        if answer is None:
            handler.send(202)
            return
        data = encoded(answer)
        if self.variant == "several-lines":
            lines = data.replace(b', "', b',\n"').split(b"\n")
            stream = b"".join(b"data: %b\n" % line for line in lines) + b"\n"
        else:
            stream = FRAMES[self.variant] % data
        head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream"
        if self.variant == "length":
            handler.raw(head + b"\r\nContent-Length: %d" % len(stream), stream)
            return
        size = 1 if self.variant == "pieces" else len(stream)
        parts = [stream[place : place + size] for place in range(0, len(stream), size)]
        handler.raw(head + b"\r\nConnection: close", *parts, close=True)
