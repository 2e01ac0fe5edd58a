"""A legacy server that breaks in the way that the called tool names.

Started as `wild.py stdio` or `wild.py http PORT FILE [HOST]`. Over HTTP it answers at any path, and FILE gets a line
for each call that it received.
"""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
import zlib
from pathlib import Path
from typing import Any

OVER_HTTP = [
    *(
        "ok",
        "hang_up",
        "trickle",
        "never",
        "malformed",
        "wrong_id",
        "twice",
        "html_502",
        "html_200",
        "redirect",
        "giant",
    ),
    *("gzip", "comments", "endless_event", "ends", "not_utf8", "deep", "duplicates", "numbers"),
]
OVER_STDIO = ["ok", "die", "orphan", "noise", "flood", "stop", "twice", "other_id", "not_utf8", "malformed", "never"]
BLOCK = b"0" * 65536


def result(number: Any, text: str = "ok") -> bytes:
    content = [{"type": "text", "text": text}]
    return json.dumps({"jsonrpc": "2.0", "id": number, "result": {"content": content}}).encode()


def answer(message: dict[str, Any], tools: list[str]) -> dict[str, Any] | None:
    """The answer to everything but a call; None for what needs none."""
    if "id" not in message or "method" not in message:
        return None
    found: dict[str, Any] = {"error": {"code": -32601, "message": "unknown method"}}
    if message["method"] == "initialize":
        version = message["params"]["protocolVersion"]
        about = {"name": "wild", "version": "1"}
        found = {"result": {"protocolVersion": version, "capabilities": {"tools": {}}, "serverInfo": about}}
    elif message["method"] == "tools/list":
        schema = {"type": "object"}
        found = {"result": {"tools": [{"name": name, "inputSchema": schema} for name in tools]}}
    elif message["method"] == "ping":
        found = {"result": {}}
    return {"jsonrpc": "2.0", "id": message["id"], **found}


# -- stdio ----------------------------------------------------------------------------------------------------------


def write(data: bytes, to: int = 1) -> None:
    while data:
        data = data[os.write(to, data) :]


def misbehave(tool: str, number: int, arguments: dict[str, Any]) -> None:
    """What comes before the answer, or instead of it."""
    if tool == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    elif tool == "orphan":
        orphan = subprocess.Popen(["sleep", "600"])
        Path(arguments["file"]).write_text(str(orphan.pid))
        os.kill(os.getpid(), signal.SIGKILL)
    elif tool == "noise":
        write(b"Welcome!\n\x1b[31mred\n[1, 2]\n")
    elif tool == "flood":
        for _ in range(arguments["megabytes"] * 5):
            write((b"secret-of-nobody " + b"x" * 182 + b"\n") * 1000, 2)
    elif tool == "stop":
        os.kill(os.getpid(), signal.SIGSTOP)
    elif tool == "twice":
        write(result(number, "ok") + b"\n" + result(number, "second") + b"\n")
    elif tool == "other_id":
        for other in (number - 1, number + 1, str(number + 1), 777):
            write(result(other, "forged") + b"\n")
        time.sleep(0.3)
    elif tool == "not_utf8":
        write(b'{"jsonrpc":"2.0","id":%d,"result":{"content":[{"type":"text","text":"\xff"}]}}\n' % number)
    elif tool == "malformed":
        write(b"{oops\n")


def over_stdio() -> None:
    for line in sys.stdin.buffer:
        message = json.loads(line)
        if message.get("method") == "tools/call":
            tool, number = message["params"]["name"], message["id"]
            misbehave(tool, number, message["params"].get("arguments", {}))
            if tool not in ("twice", "not_utf8", "malformed", "never"):
                write(result(number) + b"\n")
        elif (said := answer(message, OVER_STDIO)) is not None:
            write(json.dumps(said).encode() + b"\n")


# -- HTTP -----------------------------------------------------------------------------------------------------------


class Connection:
    """One connection of the gateway."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def send(self, body: bytes, status: str = "200 OK", kind: str = "application/json", more: str = "") -> None:
        head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n{more}\r\n"
        self.writer.write(head.encode() + body)
        await self.writer.drain()

    async def begin(self, kind: str = "text/event-stream", more: str = "") -> None:
        head = f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nTransfer-Encoding: chunked\r\n{more}\r\n"
        self.writer.write(head.encode())

    async def chunk(self, data: bytes) -> None:
        self.writer.write(b"%x\r\n%b\r\n" % (len(data), data))
        await self.writer.drain()

    async def endless(self, first: bytes, block: bytes, kind: str, more: str = "") -> None:
        await self.begin(kind, more)
        await self.chunk(first)
        while True:
            await self.chunk(block)

    async def call(self, tool: str, number: Any, arguments: dict[str, Any]) -> bool:
        """Answer a call, or do not. Returns whether the connection stays open."""
        plain = {
            "malformed": b"{oops",
            "wrong_id": result(777, "forged"),
            "not_utf8": b'{"jsonrpc":"2.0","id":%d,"result":{"content":[{"type":"text","text":"\xff"}]}}' % number,
            "deep": b'{"jsonrpc":"2.0","id":%d,"result":{"content":[],"a":%b%b}}'
            % (number, b"[" * 100_000, b"]" * 100_000),
            "duplicates": result(number)[:-1] + b',"result":{"content":[{"type":"text","text":"forged"}]}}',
            "numbers": result(number)[:-2] + b',"n":[123456789012345678901234567890,1.0]}}',
        }
        if tool in plain:
            await self.send(plain[tool])
        elif tool == "hang_up":
            return False
        elif tool == "never":
            await asyncio.sleep(600)
        elif tool == "html_502":
            await self.send(b"<h1>secret page of the proxy</h1>", "502 Bad Gateway", "text/html")
        elif tool == "html_200":
            await self.send(b"<h1>secret page: log in</h1>", kind="text/html")
        elif tool == "redirect":
            await self.send(b"", "307 Temporary Redirect", more=f"Location: {arguments['to']}\r\n")
        elif tool == "trickle":
            await self.begin("application/json")
            for byte in result(number, "x" * 1000):
                await self.chunk(bytes([byte]))
                await asyncio.sleep(0.1)
        elif tool == "giant":
            await self.endless(b'{"jsonrpc":"2.0","result":"', BLOCK, "application/json")
        elif tool == "gzip":
            packer = zlib.compressobj(9, wbits=31)
            first = packer.compress(b'{"jsonrpc":"2.0","result":"')
            bomb = first + b"".join(packer.compress(BLOCK) for _ in range(1500)) + packer.flush()
            await self.send(bomb, more="Content-Encoding: gzip\r\n")
        elif tool == "comments":
            await self.begin()
            while True:
                await self.chunk(b": ping\n\n")
                await asyncio.sleep(0.01)
        elif tool == "endless_event":
            await self.endless(b"data: ", BLOCK, "text/event-stream")
        elif tool == "ends":
            await self.begin()
            await self.chunk(b": soon\n\n")
            self.writer.write(b"0\r\n\r\n")
        elif tool == "twice":
            await self.begin()
            await self.chunk(b"data: %b\n\ndata: %b\n\n" % (result(number), result(number, "second")))
            self.writer.write(b"0\r\n\r\n")
        else:
            await asyncio.sleep(arguments.get("seconds", 0))
            await self.send(result(number))
        return True

    async def serve(self, journal: Path) -> None:
        while True:
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            fields = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:] if ": " in line)
            body = await self.reader.readexactly(int(fields.get("content-length", "0")))
            message = json.loads(body) if body else {}
            if not head.startswith("POST"):
                await self.send(b"", "405 Method Not Allowed")
            elif message.get("method") == "tools/call":
                params = message["params"]
                with journal.open("a") as file:
                    file.write(params["name"] + "\n")
                if not await self.call(params["name"], message["id"], params.get("arguments", {})):
                    return
            elif message.get("method") == "notifications/cancelled":
                with journal.open("a") as file:
                    file.write("cancelled\n")
                await self.send(b"", "202 Accepted")
            elif (said := answer(message, OVER_HTTP)) is not None:
                await self.send(json.dumps(said).encode())
            else:
                await self.send(b"", "202 Accepted")


async def over_http(port: int, journal: Path, host: str = "127.0.0.1") -> None:
    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await Connection(reader, writer).serve(journal)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(connected, host, port)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if sys.argv[1] == "stdio":
    over_stdio()
else:
    asyncio.run(over_http(int(sys.argv[2]), Path(sys.argv[3]), *sys.argv[4:]))
