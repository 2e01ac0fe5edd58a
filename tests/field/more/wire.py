"""What the servers and clients of this folder share: HTTP by hand, and the answers of a plain server."""

import contextlib
import json
import socket
import sys
import threading


def read(stream):
    """One HTTP message as (start line, headers by lower-case name, body), None at the end of the connection."""
    start = stream.readline().decode("latin-1").strip()
    if not start:
        return None
    headers = {}
    while line := stream.readline().decode("latin-1").strip():
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    if "content-length" in headers:
        return start, headers, stream.read(int(headers["content-length"]))
    body = b""
    if "chunked" in headers.get("transfer-encoding", ""):
        while size := int(stream.readline().split(b";")[0], 16):
            body += stream.read(size)
            stream.readline()
        stream.readline()
    return start, headers, body


def plain(message, tools=("echo",), call=None, version="1"):
    """What an ordinary legacy server answers; None to a notification."""
    if "id" not in message or "method" not in message:
        return None
    answer = {"jsonrpc": "2.0", "id": message["id"]}
    method, params = message["method"], message.get("params") or {}
    if method == "initialize":
        answer["result"] = {"protocolVersion": "2025-06-18", "capabilities": {"tools": {}}}
        answer["result"]["serverInfo"] = {"name": "odd", "version": version}
    elif method == "tools/list":
        answer["result"] = {"tools": [{"name": name, "inputSchema": {"type": "object"}} for name in tools]}
    elif method == "tools/call":
        text = call(params) if call else json.dumps(params.get("arguments"))
        answer["result"] = {"content": [{"type": "text", "text": text}]}
    elif method == "ping":
        answer["result"] = {}
    else:
        answer["error"] = {"code": -32601, "message": "Method not found"}
    return answer


def write(sock, body=b"", status="200 OK", kind="application/json", extra=()):
    if not isinstance(body, bytes):
        body = json.dumps(body).encode()
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *extra]
    lines += [f"Content-Type: {kind}"] if kind else []
    sock.sendall("\r\n".join(lines).encode() + b"\r\n\r\n" + body)


def serve(handle):
    """Serves on the port of the command line; `handle(sock, start, headers, message)` ends the connection with True."""

    def connection(sock):
        with contextlib.suppress(OSError, ValueError), sock, sock.makefile("rb") as stream:
            while (got := read(stream)) is not None:
                start, headers, body = got
                if handle(sock, start, headers, json.loads(body) if body else None):
                    break

    listener = socket.create_server(("127.0.0.1", int(sys.argv[1])), backlog=64)
    while True:
        sock, _ = listener.accept()
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=connection, args=(sock,), daemon=True).start()


def http(port, message, path="/mcp", headers=(), accept="application/json, text/event-stream", sock=None):
    """Posts one message as a client; returns (status, headers, JSON or text of the answer)."""
    body = message if isinstance(message, bytes) else json.dumps(message).encode()
    lines = [f"POST {path} HTTP/1.1", f"Host: 127.0.0.1:{port}", f"Content-Length: {len(body)}", *headers]
    lines += [f"Accept: {accept}"] if accept else []
    lines += [] if any(h.lower().startswith("content-type") for h in headers) else ["Content-Type: application/json"]
    own = sock or socket.create_connection(("127.0.0.1", port), 20)
    own.sendall("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
    return answer(own, close=sock is None)


def answer(sock, close=False):
    stream = sock.makefile("rb")
    got = read(stream)
    if close:
        sock.close()
    if got is None:
        return 0, {}, None
    start, headers, body = got
    text = body.decode("utf-8", "replace")
    if "event-stream" in headers.get("content-type", ""):
        events = [line[6:] for line in text.splitlines() if line.startswith(("data: {", "data: ["))]
        return int(start.split()[1]), headers, [json.loads(event) for event in events]
    with contextlib.suppress(ValueError):
        return int(start.split()[1]), headers, json.loads(text)
    return int(start.split()[1]), headers, text


def begin(port, version="2025-06-18", headers=(), sock=None):
    """Opens a legacy session; returns its headers."""
    params = {"protocolVersion": version, "capabilities": {}, "clientInfo": {"name": "odd", "version": "1"}}
    message = {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params}
    _, got, _ = http(port, message, headers=headers, sock=sock)
    session = [f"Mcp-Session-Id: {got['mcp-session-id']}", f"MCP-Protocol-Version: {version}"]
    http(port, {"jsonrpc": "2.0", "method": "notifications/initialized"}, headers=session, sock=sock)
    return session
