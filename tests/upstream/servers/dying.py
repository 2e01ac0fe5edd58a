"""A server on stdio that exits when it is asked for certain things.

`--log FILE` gets a line for each start and each message. `--fatal METHOD` exits at that request, `METHOD@CURSOR`
at that page of it. `--slow METHOD=SECONDS` answers that request late. `--version V` is what it says about itself, and
`--only FILE` applies `--fatal` only while FILE exists.
"""

import argparse
import json
import os
import sys
import time

parser = argparse.ArgumentParser()
parser.add_argument("--log", default="")
parser.add_argument("--fatal", action="append", default=[])
parser.add_argument("--slow", action="append", default=[])
parser.add_argument("--version", default="1")
parser.add_argument("--only", default="")
parser.add_argument("--capabilities", default="tools,resources,prompts")
options = parser.parse_args()
slow = dict(entry.split("=") for entry in options.slow)
SCHEMA = {"type": "object"}
LISTS = {
    "tools/list": {"tools": [{"name": "hello", "inputSchema": SCHEMA}]},
    "resources/list": {"resources": [{"uri": "memo://a", "name": "a"}]},
    "resources/templates/list": {"resourceTemplates": [{"uriTemplate": "memo://{x}", "name": "x"}]},
    "prompts/list": {"prompts": [{"name": "greet"}]},
}


def log(line: str) -> None:
    if options.log:
        with open(options.log, "a") as file:
            file.write(f"{time.monotonic():.3f} {line}\n")


def answer(method: str, params: dict) -> dict:
    if method == "initialize":
        server = {"name": "dying", "version": options.version}
        capabilities: dict = {name: {} for name in options.capabilities.split(",")}
        return {"result": {"protocolVersion": "2025-11-25", "capabilities": capabilities, "serverInfo": server}}
    if method in LISTS:
        more = {} if "cursor" in params else {"nextCursor": "2"}
        paged = any(entry.startswith(f"{method}@") for entry in options.fatal)
        return {"result": {**LISTS[method], **(more if paged else {})}}
    if method in {"ping", "tools/call"}:
        return {"result": {"content": []} if method == "tools/call" else {}}
    return {"error": {"code": -32601, "message": "unknown method"}}


log("started")
for line in sys.stdin:
    message = json.loads(line)
    method, params = message["method"], message.get("params") or {}
    log(method)
    if "id" not in message:
        continue
    armed = not options.only or os.path.exists(options.only)
    page = f"{method}@{params['cursor']}" if "cursor" in params else method
    time.sleep(float(slow.get(method, 0)))
    if armed and page in options.fatal:
        print(f"KeyError: '{method}'", file=sys.stderr, flush=True)
        os._exit(3)
    print(json.dumps({"jsonrpc": "2.0", "id": message["id"], **answer(method, params)}), flush=True)
