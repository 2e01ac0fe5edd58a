"""The official Python SDK, version 1: a `ClientSession` over Streamable HTTP."""

from __future__ import annotations

import asyncio
from typing import Any

import report
from mcp import ClientSession, types
from mcp.client.streamable_http import streamable_http_client
from pydantic import AnyUrl


async def main() -> None:
    url, plan, _ = report.arguments()
    logs, updates, changes = report.Heard(), report.Heard(), report.Heard()

    async def elicited(context: Any, params: Any) -> types.ElicitResult:
        return types.ElicitResult(action="accept", content=plan["elicitation"]["answer"])

    async def sampled(context: Any, params: Any) -> types.CreateMessageResult:
        content = types.TextContent(type="text", text=plan["sampling"]["answer"])
        return types.CreateMessageResult(role="assistant", model="matrix", content=content)

    async def logged(params: types.LoggingMessageNotificationParams) -> None:
        logs.note(str(params.data))

    async def heard(message: Any) -> None:
        note = getattr(message, "root", None)
        if isinstance(note, types.ResourceUpdatedNotification):
            updates.note(str(note.params.uri))
        elif isinstance(note, types.ToolListChangedNotification):
            changes.note("tools")

    async with (
        streamable_http_client(url) as (read, write, _),
        ClientSession(
            read,
            write,
            elicitation_callback=elicited,
            sampling_callback=sampled,
            logging_callback=logged,
            message_handler=heard,
            client_info=types.Implementation(name="matrix-python1", version="1"),
        ) as session,
    ):

        async def connect() -> str:
            return str((await session.initialize()).protocolVersion)

        async def call(needs: dict[str, Any]) -> str:
            result = await session.call_tool(needs["name"], needs["arguments"])
            return report.text(result.content, result.isError)

        async def progress(needs: dict[str, Any]) -> list[list[float | None]]:
            seen: list[list[float | None]] = []

            async def note(progress: float, total: float | None, message: str | None) -> None:
                seen.append([progress, total])

            await session.call_tool(needs["name"], needs["arguments"], progress_callback=note)
            return seen

        async def tools(needs: dict[str, Any]) -> list[str]:
            return [tool.name for tool in (await session.list_tools()).tools]

        async def resources(needs: dict[str, Any]) -> list[str]:
            return [str(each.uri) for each in (await session.list_resources()).resources]

        async def templates(needs: dict[str, Any]) -> list[str]:
            return [each.uriTemplate for each in (await session.list_resource_templates()).resourceTemplates]

        async def read_resource(needs: dict[str, Any]) -> str:
            return report.text((await session.read_resource(AnyUrl(needs["uri"]))).contents)

        async def prompts(needs: dict[str, Any]) -> list[str]:
            return [each.name for each in (await session.list_prompts()).prompts]

        async def prompt(needs: dict[str, Any]) -> str:
            got = await session.get_prompt(needs["name"], needs["arguments"])
            return report.text([message.content for message in got.messages])

        async def complete(needs: dict[str, Any]) -> list[str]:
            ref = types.PromptReference(type="ref/prompt", name=needs["prompt"])
            return (await session.complete(ref, needs["argument"])).completion.values

        async def log(needs: dict[str, Any]) -> list[str]:
            await session.set_logging_level("debug")
            for _ in range(needs["times"]):
                await call(needs)
            return await logs.first()

        async def subscribe(needs: dict[str, Any]) -> list[str]:
            await session.subscribe_resource(AnyUrl(needs["uri"]))
            for _ in range(needs["times"]):
                await call(needs)
            return await updates.first()

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
            "resources/updated": subscribe,
            "tools/list_changed": list_changed,
        }
        report.line(can=["connect", *steps])
        if await report.connected(connect()):
            await report.take(plan, steps)


asyncio.run(main())
