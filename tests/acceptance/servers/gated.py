"""A light server on stdio that files in a folder control.

`gated.py NAME FOLDER` writes a line to `NAME.starts` at each start, and then waits while `NAME.gate` exists. If
`NAME.broken` exists, it exits. `NAME.tools` has the names of its tools, one a line, and `NAME.version` its version.
"""

import os
import sys
import time

sys.path.insert(0, __file__.rpartition("/tests/")[0])

from tests.servers.light import Call, Light

name, folder = sys.argv[1:]


def path(kind: str) -> str:
    return f"{folder}/{name}.{kind}"


def content(kind: str, default: str) -> str:
    if not os.path.exists(path(kind)):
        return default
    with open(path(kind)) as file:
        return file.read()


with open(path("starts"), "a") as starts:
    starts.write(f"{os.getpid()}\n")
while os.path.exists(path("gate")):
    time.sleep(0.02)
if os.path.exists(path("broken")):
    sys.exit("cannot open the database")

server = Light(name, content("version", "1.0.0"))


def pid() -> str:
    """The id of this process."""
    return str(os.getpid())


def wait(call: Call, seconds: float) -> str:
    """Answer after a while."""
    call.cancelled.wait(seconds)
    return "waited"


for tool in content("tools", "pid\nwait").split():
    server.tool(wait if tool == "wait" else pid, f"{name}_{tool}")

server.run()
