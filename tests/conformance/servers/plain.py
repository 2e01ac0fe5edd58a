"""The tools and prompts that answer without asking anybody."""

import asyncio
import json
from collections.abc import Mapping
from typing import Any

from registry import IMAGE, SOUND, TEXT, WATCHED, Caller, Json, added, embedded, message, prompt, text, tool, tool_with


@tool
async def test_simple_text(caller: Caller, arguments: Mapping[str, Any]) -> Any:
    """One text."""
    return "This is a simple text response for testing."


@tool
async def who_answers(caller: Caller, arguments: Mapping[str, Any]) -> Any:
    """Which of several servers with the same tools this one is."""
    return caller.server


@tool
async def test_image_content(caller: Caller, arguments: Mapping[str, Any]) -> Any:
    """One image."""
    return [{"type": "image", "data": IMAGE, "mimeType": "image/png"}]


@tool
async def test_audio_content(caller: Caller, arguments: Mapping[str, Any]) -> Any:
    """One sound."""
    return [{"type": "audio", "data": SOUND, "mimeType": "audio/wav"}]


@tool
async def test_embedded_resource(caller: Caller, arguments: Mapping[str, Any]) -> Any:
    """One resource with its content."""
    return [embedded("test://embedded-resource", "text/plain", "This is an embedded resource content.")]


@tool
async def test_multiple_content_types(caller: Caller, arguments: Mapping[str, Any]) -> Any:
    """A text, an image and a resource."""
    return [
        text("Multiple content types test:"),
        {"type": "image", "data": IMAGE, "mimeType": "image/png"},
        embedded("test://mixed-content-resource", "application/json", '{"test":"data","value":123}'),
    ]


@tool
async def test_error_handling(caller: Caller, arguments: Mapping[str, Any]) -> Any:
    """Always fails."""
    raise RuntimeError("This tool intentionally returns an error for testing")


@tool_with(region={**TEXT, "x-mcp-header": "Region"}, required=[])
async def test_x_mcp_header(caller: Caller, arguments: Mapping[str, Any]) -> Any:
    """Has an argument that also travels as a header."""
    return f"region={arguments.get('region', '<none>')}"


SCHEMA_2020_12: Json = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "$defs": {"address": {"$anchor": "addressDef", "type": "object", "properties": {"street": TEXT, "city": TEXT}}},
    "properties": {
        "name": TEXT,
        "address": {"$ref": "#/$defs/address"},
        "contactMethod": {"type": "string", "enum": ["phone", "email"]},
        "phone": TEXT,
        "email": TEXT,
    },
    "allOf": [{"anyOf": [{"required": ["phone"]}, {"required": ["email"]}]}],
    "if": {"properties": {"contactMethod": {"const": "phone"}}, "required": ["contactMethod"]},
    "then": {"required": ["phone"]},
    "else": {"required": ["email"]},
    "additionalProperties": False,
}


async def json_schema_2020_12_tool(caller: Caller, arguments: Mapping[str, Any]) -> Any:
    """Has a schema with what JSON Schema 2020-12 brought."""
    return json.dumps(arguments, sort_keys=True)


tool(json_schema_2020_12_tool, SCHEMA_2020_12)


# Tools that tell something while they run.


@tool
async def test_tool_with_logging(caller: Caller, arguments: Mapping[str, Any]) -> Any:
    """Three log messages."""
    for step in ("Tool execution started", "Tool processing data", "Tool execution completed"):
        await caller.log(step)
        await asyncio.sleep(0.05)
    return "Tool with logging executed successfully"


@tool
async def test_logging_tool(caller: Caller, arguments: Mapping[str, Any]) -> Any:
    """One log message, for those who want any."""
    await caller.log("This is only for callers that asked for a log level")
    return "logged"


@tool
async def test_tool_with_progress(caller: Caller, arguments: Mapping[str, Any]) -> Any:
    """Progress of 0, 50 and 100."""
    for done in (0, 50, 100):
        await caller.progress(done, 100)
        await asyncio.sleep(0.05)
    return "Tool with progress executed successfully"


@tool
async def test_reconnection(caller: Caller, arguments: Mapping[str, Any]) -> Any:
    """Closes its stream before it answers."""
    await caller.hang_up()
    await asyncio.sleep(0.2)
    return "Reconnection test completed"


async def _toggle(caller: Caller, what: str, name: str) -> str:
    added.symmetric_difference_update({name})
    await caller.changed(what)
    return f"{what} changed"


@tool
async def test_trigger_tool_change(caller: Caller, arguments: Mapping[str, Any]) -> Any:
    """Adds a tool, or takes it away again."""
    return await _toggle(caller, "tools", "test_dynamic_tool")


@tool
async def test_trigger_prompt_change(caller: Caller, arguments: Mapping[str, Any]) -> Any:
    """Adds a prompt, or takes it away again."""
    return await _toggle(caller, "prompts", "test_dynamic_prompt")


@tool
async def touch_watched_resource(caller: Caller, arguments: Mapping[str, Any]) -> Any:
    """Tells the subscribers of the watched resource that it changed."""
    await caller.changed(WATCHED)
    return "touched"


# Prompts.


@prompt()
async def test_simple_prompt(caller: Caller, arguments: Mapping[str, Any]) -> Any:
    """One text."""
    return [message(text("This is a simple prompt for testing."))]


@prompt("arg1", "arg2")
async def test_prompt_with_arguments(caller: Caller, arguments: Mapping[str, Any]) -> Any:
    """A text with two arguments."""
    return [message(text(f"Prompt with arguments: arg1='{arguments['arg1']}', arg2='{arguments['arg2']}'"))]


@prompt("resourceUri")
async def test_prompt_with_embedded_resource(caller: Caller, arguments: Mapping[str, Any]) -> Any:
    """A resource with its content, and a text."""
    resource = embedded(arguments["resourceUri"], "text/plain", "Embedded resource content for testing.")
    return [message(resource), message(text("Please process the embedded resource above."))]


@prompt()
async def test_prompt_with_image(caller: Caller, arguments: Mapping[str, Any]) -> Any:
    """An image and a text."""
    image = {"type": "image", "data": IMAGE, "mimeType": "image/png"}
    return [message(image), message(text("Please analyze the image above."))]
