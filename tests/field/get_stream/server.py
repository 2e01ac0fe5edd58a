"""`GET` gets another answer than 405 from a server that speaks POST alone.

Seen with routers that know one verb of a path (404), with frameworks that render a page, with gateways of clouds that
time out, and with servers that crash on a request without a body.
"""

import time

from tests.field.plain import Handler, HttpServer, encoded

SILENCE = 60.0
STATUSES = {"400": 400, "401": 401, "404": 404, "406": 406, "500": 500, "501": 501, "204": 204, "429": 429, "503": 503}


class Server(HttpServer):
    session = "one"

    def get(self, handler: Handler) -> None:
        match self.variant:
            case "json":
                handler.send(200, encoded({"status": "ok"}))
            case "page":
                handler.send(200, b"<h1>It works</h1>", "text/html")
            case "error-in-json":
                error = {"code": -32000, "message": "Method not allowed."}
                handler.send(404, encoded({"jsonrpc": "2.0", "id": None, "error": error}))
            case "hang-up":
                handler.close_connection = True
            case "silent":
                time.sleep(SILENCE)
            case "ends-at-once":
                handler.raw(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close", close=True)
            case _:
                handler.send(STATUSES[self.variant])
