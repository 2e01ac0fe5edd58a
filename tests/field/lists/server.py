"""The list of prompts fails, while tools and resources work.

Seen in servers that declare a capability which they never filled with anything: null in place of an empty list, an
error of any code, HTTP 500, or no answer at all.
"""

import time
from typing import Any

from tests.field.plain import Handler, HttpServer, Message, Refused

SILENCE = 60.0
FAULTS: dict[str, Any] = {"null": {"prompts": None}, "missing": {}, "text": {"prompts": "none"}, "result-null": None}
CODES = {"internal-error": -32603, "unknown-method": -32601, "own-code": 1}


class Server(HttpServer):
    def result(self, method: str, params: Message) -> Any:
        if method == "prompts/list" and self.variant in CODES:
            raise Refused(CODES[self.variant], "prompts are broken")
        if method == "prompts/list" and self.variant in FAULTS:
            return FAULTS[self.variant]
        return super().result(method, params)

    def post(self, handler: Handler, message: Message) -> None:
        if message["method"] == "prompts/list" and self.variant == "http-500":
            handler.send(500, b"Internal Server Error", "text/plain")
        elif message["method"] == "prompts/list" and self.variant == "silent":
            time.sleep(SILENCE)
        else:
            super().post(handler, message)
