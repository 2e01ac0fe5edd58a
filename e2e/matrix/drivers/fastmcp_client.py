"""The client of FastMCP, of version 3 as of version 4: whichever is installed where this runs."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import report
from fastmcp import Client, __version__
from fastmcp.client.elicitation import ElicitResult

V3 = __version__.startswith("3.")
if V3:
    from mcp.types import Implementation, PromptReference, ToolListChangedNotification
else:
    from mcp_types import Implementation, PromptReference, ToolListChangedNotification

logging.disable(logging.CRITICAL)


async def main() -> None:
    url, plan, _ = report.arguments()
    logs, changes = report.Heard(), report.Heard()

    async def elicited(message: str, response_type: Any, params: Any, context: Any) -> Any:
        return ElicitResult(action="accept", content=plan["elicitation"]["answer"])

    async def sampled(messages: Any, params: Any, context: Any) -> str:
        answer: str = plan["sampling"]["answer"]
        return answer

    async def logged(message: Any) -> None:
        # FastMCP 3 and 4 send a text as an object with the text in it.
        data = message.data
        logs.note(str(data["msg"] if isinstance(data, dict) and "msg" in data else data))

    async def heard(message: Any) -> None:
        if isinstance(getattr(message, "root", message), ToolListChangedNotification):
            changes.note("tools")

    client = Client(
        url,
        elicitation_handler=elicited,
        sampling_handler=sampled,
        log_handler=logged,
        message_handler=heard,
        client_info=Implementation(name=f"matrix-fastmcp-{__version__}", version="1"),
    )

    async def connect() -> str:
        await client.__aenter__()
        return str(client.initialize_result.protocolVersion if V3 else client.protocol_version)

    async def call(needs: dict[str, Any]) -> str:
        result = await client.call_tool(needs["name"], needs["arguments"], raise_on_error=False)
        return report.text(result.content, result.is_error)

    async def progress(needs: dict[str, Any]) -> list[list[float | None]]:
        seen: list[list[float | None]] = []

        async def note(progress: float, total: float | None, message: str | None) -> None:
            seen.append([progress, total])

        await client.call_tool(needs["name"], needs["arguments"], progress_handler=note)
        return seen

    async def tools(needs: dict[str, Any]) -> list[str]:
        return [tool.name for tool in await client.list_tools()]

    async def resources(needs: dict[str, Any]) -> list[str]:
        return [str(each.uri) for each in await client.list_resources()]

    async def templates(needs: dict[str, Any]) -> list[str]:
        found = await client.list_resource_templates()
        return [each.uriTemplate if V3 else each.uri_template for each in found]

    async def read_resource(needs: dict[str, Any]) -> str:
        return report.text(await client.read_resource(needs["uri"]))

    async def prompts(needs: dict[str, Any]) -> list[str]:
        return [each.name for each in await client.list_prompts()]

    async def prompt(needs: dict[str, Any]) -> str:
        got = await client.get_prompt(needs["name"], needs["arguments"])
        return report.text([message.content for message in got.messages])

    async def complete(needs: dict[str, Any]) -> list[str]:
        ref = PromptReference(type="ref/prompt", name=needs["prompt"])
        return list((await client.complete(ref, needs["argument"])).values)

    async def log(needs: dict[str, Any]) -> list[str]:
        # On a modern connection the level goes with each request.
        meta = None if V3 else {"io.modelcontextprotocol/logLevel": "debug"}
        if V3:
            await client.set_logging_level("debug")
        for _ in range(needs["times"]):
            await client.call_tool(needs["name"], needs["arguments"], meta=meta)
        return await logs.first()

    async def list_changed(needs: dict[str, Any]) -> list[str]:
        await call(needs)
        return await changes.first()

    steps: dict[str, report.Step] = {
        "tools/list": tools,
        "tools/call": call,
        "progress": progress,
        "resources/list": resources,
        "resources/templates/list": templates,
        "resources/read": read_resource,
        "prompts/list": prompts,
        "prompts/get": prompt,
        "completion/complete": complete,
        "elicitation": call,
        "sampling": call,
        "logging": log,
        "tools/list_changed": list_changed,
    }
    if not V3:
        # On its modern connections it has no way to open `subscriptions/listen`.
        del steps["tools/list_changed"]
    report.line(can=["connect", *steps])
    if await report.connected(connect()):
        await report.take(plan, steps)
        await client.close()


asyncio.run(main())
