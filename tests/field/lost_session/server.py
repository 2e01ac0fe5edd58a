"""A server that forgets its sessions, as after a deployment, and says so in one of many ways.

The specification asks for 404. Servers also answer 400, 401, or 200 with an error in the body. `401-any` says so to
requests without a session too, `server/discover` among them.
"""

import itertools

from tests.field.plain import Handler, HttpServer, Message, encoded, said

ANSWERS = {
    "404": (404, ""),
    "404-error": (404, "Session not found"),
    "400-error": (400, "Bad Request: No valid session ID provided"),
    "400-text": (400, ""),
    "401-error": (401, "Invalid or expired session"),
    "401-any": (401, "Invalid or expired session"),
    "410": (410, ""),
    "200-error": (200, "Session not found"),
    "not-initialized": (400, "Bad Request: Server not initialized"),
}
TEXTS = {"400-text": b"Invalid session ID"}


class Server(HttpServer):
    def __init__(self, name: str, variant: str) -> None:
        super().__init__(name, variant)
        self._numbers, self._known = itertools.count(1), set[str]()

    def tools(self) -> list[Message]:
        return [*super().tools(), self.tool("forget")]

    def call(self, short: str, arguments: Message) -> Message:
        return said("forgotten") if short == "forget" else super().call(short, arguments)

    def post(self, handler: Handler, message: Message) -> None:
        if message["method"] == "initialize":
            self.session = f"{self.variant}-{next(self._numbers)}"
            self._known.add(self.session)
        elif handler.headers["Mcp-Session-Id"] not in self._known:
            is_lost = self.variant != "401-error" or "Mcp-Session-Id" in handler.headers
            status, text = ANSWERS[self.variant] if is_lost else (400, "Bad Request: no session")
            error = {"jsonrpc": "2.0", "id": message.get("id"), "error": {"code": -32000, "message": text}}
            handler.send(status, encoded(error) if text else TEXTS.get(self.variant, b""))
            return
        super().post(handler, message)
        if message["method"] == "tools/call" and message["params"]["name"].endswith("_forget"):
            self._known.discard(handler.headers["Mcp-Session-Id"])
