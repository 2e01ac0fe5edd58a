"""A load balancer keeps a client at one node by a cookie, and other nodes do not know its session.

Seen with the balancers of clouds and with ingress controllers ("sticky sessions").
"""

import itertools

from tests.field.plain import Handler, HttpServer, Message, encoded

COOKIES = {
    "plain": "route={}",
    "attributes": "route={}; Path=/; HttpOnly; Max-Age=3600; SameSite=Lax",
    "expires": "route={}; Expires=Wed, 21 Oct 2065 07:28:00 GMT; Path=/mcp",
    "each-answer": "route={}; Path=/",
}


class Server(HttpServer):
    def __init__(self, name: str, variant: str) -> None:
        super().__init__(name, variant)
        self._nodes, self._given = itertools.count(1), set[str]()

    def post(self, handler: Handler, message: Message) -> None:
        cookie = handler.headers.get("Cookie", "")
        starts = message["method"] in {"initialize", "server/discover"}
        if not starts and cookie not in self._given:
            handler.send(400, b"no such session on this node", "text/plain")
            return
        headers: dict[str, str] = {}
        if message["method"] == "initialize" or self.variant == "each-answer":
            node = f"node{next(self._nodes)}"
            self._given.add(f"route={node}")
            headers["Set-Cookie"] = COOKIES[self.variant].format(node)
        answer = self.answer(message)
        handler.send(202 if answer is None else 200, b"" if answer is None else encoded(answer), **headers)
