"""The endpoint redirects to another path.

Seen with frameworks that add a slash, with moved endpoints, and with balancers that point at another host.
"""

from tests.field.plain import Handler, HttpServer, Message, listen

TARGETS = {
    "307": (307, "/mcp/"),
    "308": (308, "/mcp/"),
    "relative": (307, "mcp/"),
    "absolute": (307, "{base}/mcp/"),
    "query": (307, "/mcp/?a=b%20c"),
    "301": (301, "/mcp/"),
    "302": (302, "/mcp/"),
    "303": (303, "/mcp/"),
    "loop": (307, "/mcp"),
    "no-target": (307, ""),
}


class Server(HttpServer):
    elsewhere = ""

    def post(self, handler: Handler, message: Message) -> None:
        if handler.path != "/mcp":
            super().post(handler, message)
            return
        base = f"http://{handler.headers['Host']}"
        if self.variant == "other-origin":
            self.elsewhere = self.elsewhere or listen(HttpServer(self.name, self.variant))
            status, target = 307, self.elsewhere
        else:
            status, target = TARGETS[self.variant]
        location = {"Location": target.format(base=base)} if target else {}
        handler.send(status, b"moved", "text/plain", **location)
