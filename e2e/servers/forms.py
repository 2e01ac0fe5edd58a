"""A server on stdio whose tool needs a form: nested arguments, choices, lists."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from mcp.server.mcpserver import MCPServer
from pydantic import BaseModel, Field

server = MCPServer("forms", version="1")


class Stop(BaseModel):
    """One stop of a journey."""

    place: str
    nights: Annotated[int, Field(ge=1, le=30, description="Nights at this place")] = 1


class Journey(BaseModel):
    """A journey."""

    title: Annotated[str, Field(min_length=2, max_length=40, description="Shown on the invoice")]
    travelers: Annotated[int, Field(ge=1, le=9)]
    class_: Annotated[Literal["economy", "business"], Field(alias="class")] = "economy"
    meals: list[Literal["vegetarian", "vegan", "kosher"]] = []
    budget: float | None = None
    insured: bool = False
    stops: list[Stop] = []
    extras: dict[str, Any] = {}


@server.tool()
async def book(journey: Journey, note: str = "") -> str:
    """Book a journey."""
    return f"{journey.model_dump_json(by_alias=True)} {note}"


if __name__ == "__main__":
    server.run()
