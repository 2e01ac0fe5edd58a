"""A tool that blocks the only thread of its server: while it runs, no `ping` is answered.

Seen in most servers with synchronous tools: a database query, a build, a model that is loaded.
"""

import sys
import time
from typing import Any

from tests.field.plain import Message, StdioServer, said


class Server(StdioServer):
    def tools(self) -> list[Any]:
        return [*super().tools(), self.tool("block")]

    def call(self, short: str, arguments: Message) -> Message:
        if short == "block":
            time.sleep(arguments["seconds"])
            return said("done")
        return super().call(short, arguments)


if __name__ == "__main__":
    Server(*sys.argv[1:]).run()
