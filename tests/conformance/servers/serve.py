"""What the reference servers share beside their offer: the command line, the socket, the store of events.

`--port N` serves Streamable HTTP at `/mcp` and prints the URL as soon as the socket listens; 0 takes a free port.
Without it the server speaks stdio. Works with both SDKs, because it imports only what both have.
"""

import argparse
import socket
from collections.abc import Callable, Coroutine
from typing import Any

import anyio
import uvicorn
from mcp.server.streamable_http import EventMessage, EventStore

RETRY_INTERVAL = 100
"""Milliseconds after which a client whose stream was closed shall come back."""


class Events(EventStore):
    """The last messages of all streams, for those who come back."""

    kept = 1000

    def __init__(self) -> None:
        self._sent: list[tuple[str, str, Any]] = []
        self._count = 0

    async def store_event(self, stream_id: str, message: Any) -> str:
        self._count += 1
        self._sent = [*self._sent[-self.kept :], (str(self._count), stream_id, message)]
        return str(self._count)

    async def replay_events_after(self, last_event_id: str, send_callback: Any) -> str | None:
        found = {event: stream for event, stream, _ in self._sent}.get(last_event_id)
        for event, stream, message in list(self._sent):
            if stream == found and int(event) > int(last_event_id) and message is not None:
                await send_callback(EventMessage(message, event))
        return found


def arguments(description: str, *flags: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--port", type=int, help="serve Streamable HTTP on 127.0.0.1 here, instead of stdio")
    for flag in flags:
        parser.add_argument(flag, action="store_true")
    return parser.parse_args()


def run(port: int | None, app: Callable[[], Any], stdio: Callable[[], Coroutine[Any, Any, None]]) -> None:
    if port is None:
        anyio.run(stdio)
        return
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    listener.listen(128)
    print(f"http://127.0.0.1:{listener.getsockname()[1]}/mcp", flush=True)
    # h11, since httptools, which uvicorn takes where it is installed, leaves white space around header values.
    config = uvicorn.Config(app(), http="h11", log_level="error", timeout_graceful_shutdown=1)
    uvicorn.Server(config).run([listener])
