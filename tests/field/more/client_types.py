"""A client with odd Accept and Content-Type headers and encodings of the body; prints statuses and answers, as JSON."""

import json
import sys

from wire import begin, http

PORT = int(sys.argv[1])
SESSION = begin(PORT)
PING = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
ACCEPTS = ["", "*/*", "application/*", "application/json", "text/event-stream", "APPLICATION/JSON, TEXT/EVENT-STREAM"]
ACCEPTS += [
    "application/json;q=0, text/event-stream",
    "text/html",
    "application/json ; charset=utf-8 , text/event-stream;q=0.5",
]
ACCEPTS += ['application/json;p="a,b", */*;q=0.1', "garbage", ",,", "application/json, text/event-stream; q=0"]
TYPES = ["application/json; charset=UTF-8", "APPLICATION/JSON", "application/json;charset=latin-1", "text/plain", ""]
TYPES += ["application/json-rpc", "application/vnd.api+json", "application/json; charset=utf-16", "application/json;"]
got = {"accept": {}, "type": {}, "body": {}}
for accept in ACCEPTS:
    got["accept"][accept] = [(r := http(PORT, PING, headers=SESSION, accept=accept))[0], r[2]]
for kind in TYPES:
    got["type"][kind] = [(r := http(PORT, PING, headers=[*SESSION, f"Content-Type: {kind}"]))[0], r[2]]
text = json.dumps(PING)
BODIES = {
    "bom": b"\xef\xbb\xbf" + text.encode(),
    "utf16": text.encode("utf-16"),
    "spaces": f" \r\n\t{text}\n\n".encode(),
}
BODIES |= {"empty": b"", "two": (text + text).encode(), "latin1": text.replace("ping", "p\u00efng").encode("latin-1")}
BODIES |= {"nul": text.encode() + b"\0", "twice": text.replace("}", ', "id": 2}').encode(), "nothing": b"null"}
for name, body in BODIES.items():
    got["body"][name] = [(r := http(PORT, body, headers=SESSION))[0], r[2]]
for encoding in ("gzip", "identity", "br"):
    got["body"][encoding] = [(r := http(PORT, PING, headers=[*SESSION, f"Content-Encoding: {encoding}"]))[0], r[2]]
print(json.dumps(got))
