"""A legacy server over Streamable HTTP whose GET stream sends one text as fast as it is read."""

import asyncio
import json
import sys
from typing import Any

STREAMS = {"events": b'data: {"x":1}\n\n', "comments": b": nothing\n"}


def result_of(method: str) -> dict[str, Any]:
    if method == "initialize":
        info = {"name": "streamer", "version": "1"}
        return {"protocolVersion": "2025-11-25", "capabilities": {"tools": {"listChanged": True}}, "serverInfo": info}
    return {"tools": []}


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            lines = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:] if ": " in line)
            body = await reader.readexactly(int(lines.get("content-length", 0)))
            if head.startswith("GET"):
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
                while True:
                    writer.write(STREAMS[sys.argv[2]] * 1000)
                    await writer.drain()
            message = json.loads(body or b"{}")
            status, answer = "202 Accepted", b""
            if "id" in message and message["method"] == "server/discover":
                status = "400 Bad Request"
            elif "id" in message:
                result = {"jsonrpc": "2.0", "id": message["id"], "result": result_of(message["method"])}
                status, answer = "200 OK", json.dumps(result).encode()
            session = "Mcp-Session-Id: s\r\n" if message.get("method") == "initialize" else ""
            start = (
                f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\n{session}Content-Length: {len(answer)}\r\n\r\n"
            )
            writer.write(start.encode() + answer)
            await writer.drain()
    except (OSError, asyncio.IncompleteReadError):
        writer.close()


async def main() -> None:
    server = await asyncio.start_server(serve, "127.0.0.1", int(sys.argv[1]))
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
