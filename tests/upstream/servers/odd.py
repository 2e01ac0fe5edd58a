"""A server on stdio with one thread and the habits that its options name; a called tool blocks everything.

`--log FILE` gets a line for each start and each message. `--after S` starts to read late, `--die S` exits that many
seconds after `initialize`, `--ping CODE|null|silent` says what `ping` gets, `--lists silent` ignores later lists,
`--discover CODE|silent|modern`, `--before TEXT` writes TEXT (with escapes) before its first message, `--bare` has no
capabilities.
"""

import argparse
import json
import os
import sys
import threading
import time

parser = argparse.ArgumentParser()
for option in ("log", "ping", "lists", "discover", "before"):
    parser.add_argument(f"--{option}", default="")
for option in ("after", "die"):
    parser.add_argument(f"--{option}", type=float, default=0.0)
parser.add_argument("--bare", action="store_true")
options = parser.parse_args()


def log(line: str) -> None:
    if options.log:
        with open(options.log, "a") as file:
            file.write(f"{time.monotonic():.3f} {line}\n")


def say(number: object, **message: object) -> None:
    sys.stdout.write(json.dumps({"jsonrpc": "2.0", "id": number, **message}) + "\n")
    sys.stdout.flush()


def die() -> None:
    print(f"at {time.time()}: cannot open the database", file=sys.stderr, flush=True)
    os._exit(3)


def refused(number: object, what: str) -> None:
    if what == "null":
        say(number, result=None)
    elif what != "silent":
        say(number, error={"code": int(what), "message": "no"})


log("started")
time.sleep(options.after)
sys.stdout.buffer.write(options.before.encode().decode("unicode_escape").encode("latin-1"))
sys.stdout.buffer.flush()
capabilities = {} if options.bare else {"tools": {}}
asked = 0
for line in sys.stdin:
    message = json.loads(line)
    method, number = message["method"], message.get("id")
    log(method)
    if number is None:
        continue
    if method == "server/discover" and options.discover == "modern":
        say(number, result={"supportedVersions": ["2026-07-28"], "capabilities": capabilities})
    elif method == "server/discover":
        refused(number, options.discover or "-32601")
    elif method == "initialize":
        about = {"protocolVersion": "2025-11-25", "capabilities": capabilities, "serverInfo": {"name": "odd"}}
        say(number, result=about)
        if options.die:
            threading.Timer(options.die, die).start()
    elif method == "ping":
        if options.ping:
            refused(number, options.ping)
        else:
            say(number, result={})
    elif method == "tools/list":
        asked += 1
        if asked == 1 or options.lists != "silent":
            say(number, result={"tools": [{"name": "block", "inputSchema": {"type": "object"}}]})
    elif method == "tools/call":
        time.sleep(message["params"]["arguments"]["seconds"])
        say(number, result={"content": []})
    else:
        say(number, error={"code": -32601, "message": "unknown method"})
