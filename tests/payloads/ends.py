"""A legacy server whose calls end as the name of the tool says: `ends.py stdio NAME [FILE]`, or `ends.py http`.

The schemas of its tools have NAME in them; over HTTP that is the path of the URL, and the port is printed first. The
server makes FILE when `die` is called, and does not start again.
"""

import http.server
import json
import os
import sys

HANDSHAKE = {
    "protocolVersion": "2025-11-25",
    "capabilities": {"tools": {}},
    "serverInfo": {"name": "ends", "version": "1"},
}
TOOLS = ["ok", "large", "tool_error", "rpc_error", "not_object", "too_deep", "hang", "die"]
LARGE = "x" * 1_000_000


def answer(message: dict, name: str) -> bytes | None:
    """The answer to a message; None for silence."""
    method, number = message["method"], message.get("id")
    if number is None:
        return None
    result: object = {}
    if method == "initialize":
        result = HANDSHAKE
    elif method == "tools/list":
        schema = {"type": "object", "properties": {name: {"type": "string"}}}
        result = {"tools": [{"name": tool, "inputSchema": schema} for tool in TOOLS]}
    elif method == "tools/call":
        tool = message["params"]["name"]
        text = LARGE if tool == "large" else "done"
        result = {"content": [{"type": "text", "text": text}], "isError": tool == "tool_error"}
        if tool == "rpc_error":
            error = {"code": -32000, "message": "no", "data": {"detail": LARGE}}
            return json.dumps({"jsonrpc": "2.0", "id": number, "error": error}).encode()
        if tool == "not_object":
            result = 5
        elif tool == "too_deep":
            return b'{"jsonrpc":"2.0","id":%d,"result":{"content":%b%b}}' % (number, b"[" * 200, b"]" * 200)
        elif tool == "hang":
            return None
        elif tool == "die":
            if sys.argv[3:]:
                open(sys.argv[3], "w").close()
            os._exit(1)
    elif method == "server/discover":
        return json.dumps({"jsonrpc": "2.0", "id": number, "error": {"code": -32601, "message": "unknown"}}).encode()
    return json.dumps({"jsonrpc": "2.0", "id": number, "result": result}).encode()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        message = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if message["method"] == "tools/call" and message["params"]["name"] in {"die", "hang"}:
            if message["params"]["name"] == "hang":
                self.rfile.read(1)  # until the gateway hangs up
            self.close_connection = True
            return
        body = answer(message, self.path)
        self.send_response(202 if body is None else 200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body or b"")))
        self.end_headers()
        self.wfile.write(body or b"")

    def do_GET(self) -> None:
        self.send_error(405)

    def log_message(self, *args: object) -> None:
        pass


def main() -> None:
    if sys.argv[1] == "http":
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        print(server.server_port, flush=True)
        server.serve_forever()
    if sys.argv[3:] and os.path.exists(sys.argv[3]):
        sys.exit(1)
    for line in sys.stdin.buffer:
        body = answer(json.loads(line), sys.argv[2])
        if body is not None:
            sys.stdout.buffer.write(body + b"\n")
            sys.stdout.buffer.flush()


main()
