"""A server that refuses `ping` in one of many ways, while its tools work.

Seen in servers that know only methods about tools, and behind proxies that pass only listed methods.
"""

import time
from typing import Any

from tests.field.plain import Handler, HttpServer, Message, Refused

SILENCE = 60.0
CODES = {"code-32600": -32600, "code-32601": -32601, "code-32603": -32603, "code-1": 1}
STATUSES = {"http-400": 400, "http-405": 405, "http-500": 500, "http-501": 501, "http-202": 202}


class Server(HttpServer):
    def result(self, method: str, params: Message) -> Any:
        if method == "ping" and self.variant in CODES:
            raise Refused(CODES[self.variant], "no ping here")
        if method == "ping" and self.variant == "result-null":
            return None
        return super().result(method, params)

    def post(self, handler: Handler, message: Message) -> None:
        if message["method"] == "ping" and self.variant in STATUSES:
            handler.send(STATUSES[self.variant])
        elif message["method"] == "ping" and self.variant == "silent":
            time.sleep(SILENCE)
        else:
            super().post(handler, message)
