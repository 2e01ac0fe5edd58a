"""A stdio server with one thread: `block` keeps it for some seconds, and pings are never answered at all."""

import json
import sys
import time

from wire import plain

STARTED = time.time()


def call(params):
    time.sleep((params.get("arguments") or {}).get("seconds", 0))
    return str(STARTED)


for line in sys.stdin:
    message = json.loads(line)
    if message.get("method") != "ping" and (reply := plain(message, tools=("block", "quick"), call=call)):
        print(json.dumps(reply), flush=True)
