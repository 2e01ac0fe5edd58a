"""`rad mcp proxy tools`: the tools that agents see, or one of them with its arguments."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from gateway_core.api import Tool
from gateway_core.cli.client import fetch
from gateway_core.cli.hints import command
from gateway_core.cli.locate import locate
from gateway_core.cli.rendering.pages import show_tools
from gateway_core.cli.rendering.table import show_table
from gateway_core.cli.report import Failed, put_json, say
from gateway_core.cli.running import instance_of
from gateway_core.cli.settings import local_gateway
from gateway_core.cli.tools.arguments import check_text, closest
from gateway_core.cli.tools.example import call_line
from gateway_core.cli.tools.schema import Argument, arguments_of
from gateway_core.config import Config, load
from gateway_core.log.escaping import escape


def tool_page(name: str, profile: str = "") -> str:
    """The page of the control plane that describes one tool."""
    return f"tool?{urlencode({'name': name, 'profile': profile}, quote_via=quote)}"


def tools_page(profile: str = "") -> str:
    """The page of the control plane that lists the tools that the agents of a profile see."""
    return f"tools?{urlencode({'profile': profile})}"


def tools(config: Path | None, name: str | None, *, profile: str = "", as_json: bool) -> None:
    """Print what agents see, or the tool `name`: from the running gateway, or by connecting to the upstreams.

    `profile`: of the agents; empty for those without one.
    """
    check_text(name)
    check_text(profile)
    answer, tool = known_tools(locate(config), name, profile)
    if tool is None:
        put_json(answer) if as_json else show_tools(answer)
        return
    definition = tool["definition"]
    if definition is None:
        raise Failed(_unknown(tool, answer["tools"], profile))
    schema = definition.get("inputSchema")
    example = call_line(tool["name"], schema, profile)
    if as_json:
        put_json({**tool, "example": example})
    else:
        _show(tool, example, arguments_of(schema), profile)


def known_tools(path: Path, name: str | None, profile: str) -> tuple[Mapping[str, Any], Mapping[str, Any] | None]:
    """What the control plane says of all tools that the agents of a profile see, and of the tool `name`: of the running
    gateway, or of one that connects to the upstreams for this.

    The first is empty if the tool `name` is known. Raises `GatewayError`.
    """
    running = instance_of(path)
    if running is None:
        say("no gateway is running for this file: connecting to its upstreams …")
        return asyncio.run(_now(load(path), name, profile))
    tool = None if name is None else fetch(running, tool_page(name, profile))
    is_known = tool is not None and tool["definition"] is not None
    return {} if is_known else fetch(running, tools_page(profile)), tool


def tools_in(answer: Mapping[str, Any]) -> list[Tool]:
    """The tools in what the control plane says of all tools, with no more of their definitions than name and hints."""
    return [
        Tool(
            one["published_name"],
            one["original_name"],
            {"name": one["name"], "annotations": one["annotations"]},
            tuple(one["upstreams"]),
        )
        for one in answer["tools"]
    ]


async def _now(config: Config, name: str | None, profile: str) -> tuple[Mapping[str, Any], Mapping[str, Any] | None]:
    async with local_gateway(config) as gateway:
        return gateway.tools(profile), None if name is None else gateway.tool(name, profile)


def near_name(name: str, tools: Sequence[Mapping[str, Any]]) -> str:
    """The most similar name of these tools, also of the form `upstream:tool`; empty if none is similar."""
    prefix, colon, rest = name.partition(":")
    upstream = closest(prefix, {one for tool in tools for one in tool["upstreams"]}) if colon else ""
    return f"{upstream}:{rest}" if upstream else closest(name, [tool["name"] for tool in tools])


def _unknown(tool: Mapping[str, Any], tools: Sequence[Mapping[str, Any]], profile: str) -> str:
    name, upstreams = tool["name"], ", ".join(tool["upstreams"])
    listed = f"  to list all tools: {command(f'tools --profile {profile}' if profile else 'tools')}"
    if upstreams:
        return f"{upstreams} lists no tool {tool['original_name']}; a call is passed on nevertheless\n{listed}"
    close = near_name(name, tools)
    where = f" in profile {profile}" if profile else ""
    return f"no tool {name}{where}{f'; did you mean {close}?' if close else ''}\n{listed}"


def _show(tool: Mapping[str, Any], example: str, arguments: Sequence[Argument], profile: str) -> None:
    """Print one tool: what it does, its arguments, and a call to paste."""
    definition = tool["definition"]
    print(f"{escape(tool['name'])}, served by {escape(', '.join(tool['upstreams']))}")
    for line in str(definition.get("description") or definition.get("title") or "").strip().splitlines():
        print(f"  {escape(line)}".rstrip())
    print()
    if arguments:
        rows = [
            [one.name, one.kind, "yes" if one.required else _default(one.schema), one.description] for one in arguments
        ]
        show_table(("argument", "type", "required", "description"), rows)
    else:
        print("it takes no arguments")
    by = f", with credentials in RADIUM_TOKEN that get the profile {profile}" if profile else ""
    print(f"\nto call it{by}:\n  {example}")


def _default(schema: Mapping[str, Any]) -> str:
    if schema.get("default") is None:
        return "no"
    return f"no, default {json.dumps(schema['default'], ensure_ascii=False, default=str)}"
