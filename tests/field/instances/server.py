"""Two instances of one server, with different arguments: two folders, two accounts, staging and production.

Common wherever a server is used twice. To a gateway they look alike, and they are not replicas of each other.
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
