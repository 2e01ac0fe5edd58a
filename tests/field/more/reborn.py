"""A stdio server that ends during `update`, and comes back a second later as version 2 with other tools.

Its one argument is a file that remembers that it was updated.
"""

import json
import os
import pathlib
import sys
import time

from wire import plain

MARK = pathlib.Path(sys.argv[1])
NEW = MARK.exists()
if NEW:
    time.sleep(1)
for line in sys.stdin:
    message = json.loads(line)
    if message.get("method") == "tools/call" and message["params"]["name"] == "update":
        MARK.write_text("2")
        os._exit(1)
    tools = ("both", "fresh") if NEW else ("both", "update", "old")
    if reply := plain(message, tools=tools, call=lambda params: "2" if NEW else "1", version="2" if NEW else "1"):
        print(json.dumps(reply), flush=True)
