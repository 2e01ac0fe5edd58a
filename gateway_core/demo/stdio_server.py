"""A demonstration server over stdio, named `toolbox`: arithmetic, words, the time and a small glossary.

An MCP client starts it with `python -m gateway_core.demo.stdio_server`. It uses no network and no files.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated, Final

from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import ToolAnnotations
from pydantic import BaseModel, Field

GLOSSARY: Final[Mapping[str, str]] = {
    "agent": "A program that lets a language model use tools; an MCP client.",
    "catalog": "Everything the upstreams offer, under the names agents see.",
    "downstream": "The agents' side of the gateway.",
    "era": "Legacy (initialize handshake, sessions) or modern (stateless): how a peer speaks MCP.",
    "gateway": "One process between agents and many MCP servers.",
    "upstream": "One MCP server behind the gateway.",
}
READS: Final = ToolAnnotations(read_only_hint=True, idempotent_hint=True, open_world_hint=False)

server = MCPServer(
    "toolbox",
    title="Demonstration toolbox",
    version="1.0.0",
    instructions="Small tools that need nothing: sums, word counts, the time, a glossary of the gateway's words.",
    log_level="WARNING",
)


class WordCount(BaseModel):
    """What `word_count` found."""

    characters: int
    words: int
    lines: int


@server.tool(annotations=READS)
async def add(a: int, b: int) -> int:
    """Add two whole numbers."""
    return a + b


@server.tool(annotations=READS)
async def word_count(text: str) -> WordCount:
    """Count the characters, words and lines of a text."""
    return WordCount(characters=len(text), words=len(text.split()), lines=len(text.splitlines()))


@server.tool(annotations=READS)
async def now(
    utc_offset: Annotated[float, Field(ge=-12, le=14, description="Hours from UTC, e.g. 5.5")] = 0,
) -> str:
    """Tell the date and time at an offset from UTC, as ISO 8601."""
    return (datetime.now(UTC) + timedelta(hours=utc_offset)).strftime("%Y-%m-%dT%H:%M:%S")


@server.tool(annotations=READS)
async def lookup(term: Annotated[str, Field(description="A word such as 'upstream'")]) -> str:
    """Explain one of the gateway's words."""
    try:
        return GLOSSARY[term.strip().lower()]
    except KeyError:
        raise ToolError(f"no entry for {term!r}; known words: {', '.join(GLOSSARY)}") from None


@server.resource("toolbox://glossary", mime_type="text/markdown")
async def glossary() -> str:
    """The whole glossary as a Markdown list."""
    return "\n".join(f"- **{term}**: {meaning}" for term, meaning in GLOSSARY.items())


@server.resource("toolbox://glossary/{term}", mime_type="text/plain")
async def glossary_entry(term: str) -> str:
    """One entry of the glossary."""
    return GLOSSARY.get(term, f"no entry for {term!r}")


@server.prompt()
async def explain(term: str) -> str:
    """Ask for an explanation of one of the gateway's words for a newcomer."""
    return f"Explain to a newcomer what {term!r} means here. The glossary says: {GLOSSARY.get(term, 'nothing')}"


if __name__ == "__main__":
    server.run()
