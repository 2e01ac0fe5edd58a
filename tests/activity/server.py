"""A light server on stdio: tools that work, fail, wait and report progress."""

import sys

sys.path.insert(0, __file__.rpartition("/tests/")[0])

from tests.servers.light import Call, Light

server = Light("desk")


@server.tool
def echo(text: str) -> str:
    """Say it again."""
    return text


@server.tool
def fail(text: str) -> str:
    """Fail with a message that quotes the arguments."""
    raise ValueError(text)


@server.tool
def wait(call: Call, seconds: float) -> str:
    """Report progress, and answer after a while."""
    for step in range(3):
        call.progress(step + 1, 3, "payload-of-progress")
    call.cancelled.wait(seconds)
    return "waited"


@server.tool
def grumble(text: str) -> str:
    """Write to stderr."""
    print(text, file=sys.stderr, flush=True)
    return "done"


server.run()
