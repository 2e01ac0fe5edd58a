"""A client over stdio that writes odd lines, and closes stdin right after its last call.

Its arguments start the gateway. Blank lines, CRLF, a line that is not JSON, one that is not UTF-8, laid-out JSON, a
batch, and a call that no line end follows.
"""

import json
import subprocess
import sys

INIT = {"protocolVersion": "2025-03-26", "capabilities": {}, "clientInfo": {"name": "odd", "version": "1"}}
PING = {"jsonrpc": "2.0", "method": "ping"}
CALL = {
    "jsonrpc": "2.0",
    "id": "last",
    "method": "tools/call",
    "params": {"name": "banner:echo", "arguments": {"\u2028": "é"}},
}
lines = [
    json.dumps({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": INIT}).encode() + b"\r\n",
    b"\r\n\n",
    json.dumps({"jsonrpc": "2.0", "method": "notifications/initialized"}).encode() + b"\r\n",
    b"hello there\n",
    b'{"jsonrpc": "2.0", "id": 1, "method": "\xff"}\n',
    json.dumps({**PING, "id": 2}, indent=1).encode() + b"\n",
    json.dumps([{**PING, "id": 3}, {**PING, "id": "3"}]).encode() + b"\n",
    json.dumps({**PING, "id": 4}).encode() + b"  \t\n",
    json.dumps(CALL, ensure_ascii=False).encode(),
]
done = subprocess.run(sys.argv[1:], input=b"".join(lines), capture_output=True, timeout=60, check=False)
print(json.dumps({"code": done.returncode, "lines": [json.loads(line) for line in done.stdout.splitlines()]}))
