"""A FastMCP 4 server: it asks its client by answering `input_required`, and goes on when the call comes again."""

from __future__ import annotations

from fastmcp import Context, FastMCP
from mcp_types import (
    CreateMessageRequest,
    CreateMessageRequestParams,
    ElicitRequest,
    ElicitRequestFormParams,
    InputRequest,
    InputRequiredResult,
    SamplingMessage,
    TextContent,
)
from parts import register, run

server: FastMCP = FastMCP("fastmcp4")
register(server)

QUESTION = ElicitRequest(
    params=ElicitRequestFormParams(
        message="Who are you?",
        requested_schema={"type": "object", "properties": {"value": {"type": "string"}}, "required": ["value"]},
    )
)
PROMPT = SamplingMessage(role="user", content=TextContent(text="Name a colour"))


def required(request: InputRequest) -> InputRequiredResult:
    return InputRequiredResult(input_requests={"question": request})


@server.tool
async def ask(ctx: Context) -> str | InputRequiredResult:
    """Asks the user for a name."""
    if ctx.input_responses is None:
        return required(QUESTION)
    answer = ctx.input_responses["question"]
    return f"you are {answer.content['value']}" if answer.action == "accept" else answer.action


@server.tool
async def sample(ctx: Context) -> str | InputRequiredResult:
    """Asks the client's model."""
    if ctx.input_responses is None:
        return required(CreateMessageRequest(params=CreateMessageRequestParams(messages=[PROMPT], max_tokens=20)))
    return f"the model says {ctx.input_responses['question'].content.text}"


@server.completion
async def complete(ref, argument, context) -> list[str]:
    """Names that begin as the argument does."""
    return [name for name in ("Ada", "Alan", "Grace") if name.startswith(argument.value)]


if __name__ == "__main__":
    run(server)
