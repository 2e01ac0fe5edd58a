"""A demonstration server over Streamable HTTP, with a configurable name: weather, notes and facts about a few cities.

`python -m gateway_core.demo.http_server --port 8080 --name primary` serves `http://127.0.0.1:8080/mcp` until it is
interrupted; port 0 takes a free port. The first line on stdout contains the address. All instances offer the same tools
with the same schemas, so the gateway treats them as replicas. Results of all tools but `lookup` name their server in
`served_by`. `lookup` conflicts with the tool of that name in `stdio_server`, which has another schema.
"""

from __future__ import annotations

import argparse
import asyncio
import socket
from collections.abc import Mapping
from typing import Annotated, Final, Literal

import uvicorn
from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import ToolAnnotations
from pydantic import BaseModel, Field

HOST: Final = "127.0.0.1"
CityName = Annotated[str, Field(description="Cairo, Lima, Oslo or Tokyo")]
READS: Final = ToolAnnotations(read_only_hint=True, idempotent_hint=True, open_world_hint=False)


class City(BaseModel):
    """What is known of a city. The figures are a yearly mean, so that every answer can be checked."""

    country: str
    population: int
    celsius: float
    sky: str


CITIES: Final[Mapping[str, City]] = {
    "cairo": City(country="Egypt", population=10_100_000, celsius=22.4, sky="clear"),
    "lima": City(country="Peru", population=10_000_000, celsius=19.3, sky="overcast"),
    "oslo": City(country="Norway", population=710_000, celsius=7.1, sky="light rain"),
    "tokyo": City(country="Japan", population=14_000_000, celsius=16.0, sky="clouds"),
}
NOTES: Final = (
    "Backups of the primary run at 02:00 UTC.",
    "The backup server takes over when the primary is gone.",
    "Rate limits count each agent and tool apart.",
    "Weather figures are yearly means.",
)


class Weather(BaseModel):
    """A report of `weather`."""

    city: str
    celsius: float
    sky: str
    served_by: str


class Notes(BaseModel):
    """The notes that `search_notes` found."""

    notes: list[str]
    served_by: str


class Echo(BaseModel):
    """What `echo` was given."""

    text: str
    served_by: str


def find(name: str) -> City:
    """The city of that name. Raises `ToolError` with the known names."""
    try:
        return CITIES[name.strip().lower()]
    except KeyError:
        raise ToolError(f"no city {name!r}; known: {', '.join(CITIES)}") from None


def build(name: str) -> MCPServer[object]:
    """Create the server with the given name, not yet listening."""
    server: MCPServer[object] = MCPServer(
        name, title=f"Demonstration cities ({name})", version="1.0.0", log_level="WARNING"
    )

    @server.tool(annotations=READS)
    async def weather(city: CityName) -> Weather:
        """Tell the mean temperature and the sky of a city."""
        found = find(city)
        return Weather(city=city, celsius=found.celsius, sky=found.sky, served_by=name)

    @server.tool(annotations=READS)
    async def search_notes(query: str, limit: Annotated[int, Field(ge=1, le=10)] = 3, api_key: str = "") -> Notes:
        """Find notes that contain a text, whatever its case.

        `api_key` is accepted and not checked: it shows that the gateway's log hides what it carries.
        """
        del api_key
        found = [note for note in NOTES if query.lower() in note.lower()]
        return Notes(notes=found[:limit], served_by=name)

    @server.tool(annotations=READS)
    async def echo(text: str) -> Echo:
        """Give the text back, with the name of the server that did."""
        return Echo(text=text, served_by=name)

    @server.tool(annotations=READS)
    async def lookup(
        city: CityName,
        fact: Literal["country", "population"] = "country",
    ) -> str:
        """Tell a fact about a city."""
        return str(getattr(find(city), fact))

    return server


async def serve(name: str, port: int) -> None:
    """Listen on the loopback address until SIGINT or SIGTERM; print the address first."""
    # The explicit protocol is needed, because asyncio sets TCP_NODELAY only on sockets with IPPROTO_TCP.
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((HOST, port))
        listener.listen()  # before the address is printed, so that clients can connect
        print(f"{name}: http://{HOST}:{listener.getsockname()[1]}/mcp", flush=True)
        app = build(name).streamable_http_app(host=HOST)
        # An open client stream must not delay shutdown.
        config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1)
        await uvicorn.Server(config).serve(sockets=[listener])


def main() -> None:
    """Read the command line and serve."""
    parser = argparse.ArgumentParser(description="A demonstration MCP server over Streamable HTTP, on loopback.")
    parser.add_argument("--name", default="cities", help="what the server calls itself (default: cities)")
    parser.add_argument("--port", type=int, default=8080, help="0 takes a free port (default: 8080)")
    options = parser.parse_args()
    asyncio.run(serve(options.name, options.port))


if __name__ == "__main__":
    main()
