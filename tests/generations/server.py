"""A light server on stdio whose name and extra tools its arguments give; it tells its process."""

import os
import sys
import time

sys.path.insert(0, __file__.rpartition("/tests/")[0])

from tests.servers.light import Call, Light

name, *extra = sys.argv[1:]
server = Light(name)


def pid() -> str:
    """The id of this process."""
    return str(os.getpid())


def wait(call: Call, seconds: float, until: str = "") -> str:
    """Answer after a while, or once the file `until` exists."""
    end = time.monotonic() + seconds
    while not (until and os.path.exists(until)) and (left := end - time.monotonic()) > 0:
        if call.cancelled.wait(min(left, 0.02) if until else left):
            break
    return "waited"


server.tool(pid, f"{name}_pid")
server.tool(wait, f"{name}_wait")
for one in extra:
    server.tool(lambda: "extra", one)

server.run()
