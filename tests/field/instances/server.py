"""Two instances of one server, with different arguments: two folders, two accounts, staging and production.

Everybody who uses a server twice does this. They look alike to a gateway, and are no replicas of each other.
"""

import sys
from typing import Any

from tests.field.plain import OBJECT, Message, StdioServer, said


class Server(StdioServer):
    def tools(self) -> list[Any]:
        return [{"name": "where", "inputSchema": OBJECT}]

    def call(self, short: str, arguments: Message) -> Message:
        return said(f"in {self.variant}")


if __name__ == "__main__":
    Server(*sys.argv[1:]).run()
