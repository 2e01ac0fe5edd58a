"""A stdio server that stops in the middle: of reading, of a line, or by closing its stdout while it lives on."""

import json
import os
import sys
import time

from wire import plain

for line in sys.stdin:
    message = json.loads(line)
    reply = plain(message, tools=("echo", "half_line", "closes", "deaf"), call=lambda params: str(os.getpid()))
    name = message["params"]["name"] if message.get("method") == "tools/call" else ""
    if name == "half_line":
        sys.stdout.write(json.dumps(reply)[:-5])
        sys.stdout.flush()
        os._exit(0)
    if name == "closes":
        os.close(1)
        time.sleep(60)
    if name == "deaf":
        time.sleep(60)
    if reply:
        print(json.dumps(reply), flush=True)
