"""A light server on stdio whose name and extra tools its arguments give; it tells its process."""

import os
import sys

sys.path.insert(0, __file__.rpartition("/tests/")[0])

from tests.servers.light import Call, Light

name, *extra = sys.argv[1:]
server = Light(name)


def pid() -> str:
    """The id of this process."""
    return str(os.getpid())


def wait(call: Call, seconds: float) -> str:
    """Answer after a while."""
    call.cancelled.wait(seconds)
    return "waited"


server.tool(pid, f"{name}_pid")
server.tool(wait, f"{name}_wait")
for one in extra:
    server.tool(lambda: "extra", one)

server.run()
