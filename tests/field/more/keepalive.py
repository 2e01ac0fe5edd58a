"""An HTTP server that never says `Connection: close` and closes every connection some milliseconds after its answer.

It counts the calls that it executes, so that a call sent twice shows.
"""

import time
from itertools import count

from wire import plain, serve, write

CALLS = count(1)


def handle(sock, start, headers, message):
    if not start.startswith("POST"):
        write(sock, status="405 Method Not Allowed")
        return True
    reply = plain(message, call=lambda params: str(next(CALLS)))
    write(sock, reply or b"", "200 OK" if reply else "202 Accepted", extra=["Keep-Alive: timeout=60"])
    if message.get("method") == "tools/call":
        time.sleep((message["params"].get("arguments") or {}).get("ms", 0) / 1000)
        return True
    return False


serve(handle)
