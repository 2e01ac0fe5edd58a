"""The official Python SDK, version 2: its `Client`, in the era that it is told (`auto` or `legacy`)."""

from __future__ import annotations

import asyncio
import warnings
from typing import Any

import mcp_types as types
import report
from mcp.client.client import Client
from mcp.shared.exceptions import MCPDeprecationWarning

warnings.simplefilter("ignore", MCPDeprecationWarning)


async def main() -> None:
    url, plan, era = report.arguments()
    logs, updates, changes = report.Heard(), report.Heard(), report.Heard()

    async def elicited(context: Any, params: Any) -> types.ElicitResult:
        return types.ElicitResult(action="accept", content=plan["elicitation"]["answer"])

    async def sampled(context: Any, params: Any) -> types.CreateMessageResult:
        content = types.TextContent(type="text", text=plan["sampling"]["answer"])
        return types.CreateMessageResult(role="assistant", model="matrix", content=content)

    async def logged(params: types.LoggingMessageNotificationParams) -> None:
        logs.note(str(params.data))

    async def heard(message: Any) -> None:
        if isinstance(message, types.ResourceUpdatedNotification):
            updates.note(message.params.uri)
        elif isinstance(message, types.ToolListChangedNotification):
            changes.note("tools")

    client = Client(
        url,
        mode=era,
        elicitation_callback=elicited,
        sampling_callback=sampled,
        logging_callback=logged,
        log_level="debug",
        message_handler=heard,
        client_info=types.Implementation(name=f"matrix-python2-{era}", version="1"),
    )

    async def connect() -> str:
        await client.__aenter__()
        return client.protocol_version

    def modern() -> bool:
        return client.protocol_version >= "2026-07-28"

    async def call(needs: dict[str, Any]) -> str:
        result = await client.call_tool(needs["name"], needs["arguments"])
        return report.text(result.content, bool(result.is_error))

    async def progress(needs: dict[str, Any]) -> list[list[float | None]]:
        seen: list[list[float | None]] = []

        async def note(progress: float, total: float | None, message: str | None) -> None:
            seen.append([progress, total])

        await client.call_tool(needs["name"], needs["arguments"], progress_callback=note)
        return seen

    async def tools(needs: dict[str, Any]) -> list[str]:
        return [tool.name for tool in (await client.list_tools()).tools]

    async def resources(needs: dict[str, Any]) -> list[str]:
        return [each.uri for each in (await client.list_resources()).resources]

    async def templates(needs: dict[str, Any]) -> list[str]:
        return [each.uri_template for each in (await client.list_resource_templates()).resource_templates]

    async def read_resource(needs: dict[str, Any]) -> str:
        return report.text((await client.read_resource(needs["uri"])).contents)

    async def prompts(needs: dict[str, Any]) -> list[str]:
        return [each.name for each in (await client.list_prompts()).prompts]

    async def prompt(needs: dict[str, Any]) -> str:
        got = await client.get_prompt(needs["name"], needs["arguments"])
        return report.text([message.content for message in got.messages])

    async def complete(needs: dict[str, Any]) -> list[str]:
        ref = types.PromptReference(name=needs["prompt"])
        return (await client.complete(ref, needs["argument"])).completion.values

    async def log(needs: dict[str, Any]) -> list[str]:
        if not modern():
            await client.set_logging_level("debug")
        for _ in range(needs["times"]):
            await call(needs)
        return await logs.first()

    async def subscribe(needs: dict[str, Any]) -> list[str]:
        if modern():
            async with client.listen(resource_subscriptions=[needs["uri"]]) as events:
                if not events.honored.resource_subscriptions:
                    raise RuntimeError(report.NOT_HONORED)
                await call_often(needs)
                return [(await anext(aiter(events))).uri]
        await client.subscribe_resource(needs["uri"])
        await call_often(needs)
        return await updates.first()

    async def call_often(needs: dict[str, Any]) -> None:
        for _ in range(needs["times"]):
            await call(needs)

    async def list_changed(needs: dict[str, Any]) -> list[str]:
        if modern():
            async with client.listen(tools_list_changed=True) as events:
                if not events.honored.tools_list_changed:
                    raise RuntimeError(report.NOT_HONORED)
                await call(needs)
                await anext(aiter(events))
                return ["tools"]
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
        "resources/updated": subscribe,
        "tools/list_changed": list_changed,
    }
    report.line(can=["connect", *steps])
    if await report.connected(connect()):
        await report.take(plan, steps)
        await client.__aexit__(None, None, None)


asyncio.run(main())
