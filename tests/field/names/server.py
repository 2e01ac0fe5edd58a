"""Names of tools that are no ASCII identifiers, and that look alike once they are made fit.

Seen in servers for one country, in generated servers, and where titles of documents become names.
"""

from typing import Any

from tests.field.plain import OBJECT, HttpServer, Message, said

NAMES = {
    "scripts": ("查询天气", "查询航班", "получить погоду", "météo"),
    "separators": ("get item", "get/item", "get:item", "get.item"),
    "long": ("a" * 150, "a" * 149 + "b"),
    "case": ("Fetch", "fetch"),
    "reserved": ("__", "-", "🚀"),
}


class Server(HttpServer):
    def tools(self) -> list[Any]:
        return [{"name": it, "description": self.name, "inputSchema": OBJECT} for it in NAMES[self.variant]]

    def call(self, short: str, arguments: Message) -> Message:
        return said(short)
