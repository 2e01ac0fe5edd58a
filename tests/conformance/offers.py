"""Features of a test server besides its tools: questions during a call, and one of each other kind."""

from typing import Any

from mcp.server.mcpserver import Context, MCPServer
from mcp.shared.exceptions import UrlElicitationRequiredError
from mcp.types import (
    Completion,
    ElicitRequest,
    ElicitRequestFormParams,
    ElicitRequestURLParams,
    ElicitResult,
    InputRequiredResult,
)

SCHEMA: Any = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}


def is_modern(ctx: Context) -> bool:
    return ctx.protocol_version is not None and ctx.protocol_version >= "2026"


def add_questions(server: MCPServer) -> None:
    """Tools that ask, each in the way of its caller's era."""

    @server.tool()
    async def greet(ctx: Context) -> str | InputRequiredResult:
        """Ask for a name, and greet it."""
        answer: Any
        if not is_modern(ctx):
            answer = await ctx.session.elicit_form("Your name?", SCHEMA, related_request_id=ctx.request_id)
        elif ctx.request_state is None:
            question = ElicitRequest(params=ElicitRequestFormParams(message="Your name?", requested_schema=SCHEMA))
            return InputRequiredResult(input_requests={"name": question}, request_state="asked")
        else:
            answer = (ctx.input_responses or {})["name"]
        assert isinstance(answer, ElicitResult)
        return f"Hello, {(answer.content or {}).get('name')}"

    @server.tool()
    async def visit(ctx: Context, url: str) -> str | InputRequiredResult:
        """Have the user open a URL."""
        if not is_modern(ctx):
            await ctx.session.elicit_url("Open it", url, "id", related_request_id=ctx.request_id)
        elif ctx.input_responses is None:
            question = ElicitRequest(params=ElicitRequestURLParams(mode="url", message="Open it", url=url))
            return InputRequiredResult(input_requests={"visit": question})
        return "visited"

    visited: set[str] = set()

    @server.tool()
    def needs_visit(url: str) -> str:
        """Refuse until the user has opened a URL; the second call counts as that."""
        if url not in visited:
            visited.add(url)
            raise UrlElicitationRequiredError(
                [ElicitRequestURLParams(mode="url", message="Open it", url=url, elicitation_id="id")]
            )
        return "visited"


def add_others(server: MCPServer, name: str) -> None:
    """One resource, template and prompt, and what completes an argument."""

    @server.resource(f"memo://{name}/today", name="today")
    def today() -> str:
        return f"{name}: today"

    @server.resource(f"memo://{name}/{{day}}/note", name="note")
    def note(day: str) -> str:
        return f"{name}: {day}"

    @server.prompt()
    def brief(topic: str) -> str:
        """A brief."""
        return f"{name}: {topic}"

    @server.completion()
    async def complete(ref: Any, argument: Any, context: Any) -> Completion:
        return Completion(values=[f"{argument.value}!"])
