"""A server that starts, answers the handshake, and ends soon after, each time.

Seen with servers that open their database or check their licence in the background.
"""

import os
import sys
import threading
import time
from typing import Any

from tests.field.plain import Message, StdioServer

LIFE = 0.3


class Server(StdioServer):
    def result(self, method: str, params: Message) -> Any:
        if method == "initialize":
            threading.Timer(LIFE, self.die).start()
        return super().result(method, params)

    def die(self) -> None:
        print(f"{time.time()}: cannot open the database", file=sys.stderr, flush=True)
        os._exit(3)


if __name__ == "__main__":
    name, variant, journal = sys.argv[1:]
    with open(journal, "a") as starts:
        starts.write("started\n")
    Server(name, variant).run()
