"""The steps of the tour, in order.

Every step acts through the gateway, prints the result, and compares it with the expected one. The first difference ends
the tour with `StepFailed`.
"""

from __future__ import annotations

import asyncio
from typing import Final

from mcp.client.client import Client
from mcp.shared.exceptions import MCPError
from rich.table import Table

from gateway_core.demo.stage import CALLS_PER_MINUTE, RAD, Stage, StepFailed, call, expect, free_port, is_ready

SECRET: Final = "sk-demo-51423-do-not-log"  # noqa: S105  the step searches the log for it


async def start(stage: Stage) -> tuple[asyncio.subprocess.Process, str]:
    stage.step("Start two replicas of one MCP server, and the gateway in front of them and of a stdio server")
    await asyncio.gather(stage.start_server("primary", 0), stage.start_server("backup", 0))
    port = free_port()
    stage.write_config(port)
    stage.say(f"configuration in {stage.config}:")
    stage.show(stage.config.read_text())
    gateway = await stage.children.start("gateway", (*RAD, "start", *stage.options))
    address = f"http://127.0.0.1:{port}"
    await stage.until(
        "the gateway to be ready", lambda: is_ready(f"{address}/readyz"), lambda: gateway.returncode is None
    )
    stage.say(f"the gateway serves {address}/mcp (process {gateway.pid})")
    return gateway, f"{address}/mcp"


async def catalog(stage: Stage, legacy: Client, modern: Client) -> None:
    stage.step("Both agents see one catalog, whatever revision of MCP they speak")

    async def complete() -> bool:
        wanted = {"add", "lookup", "weather"}
        return wanted <= {tool.name for tool in (await legacy.list_tools(cache_mode="bypass")).tools}

    await stage.until("the tools of all three servers to be listed", complete)
    names = [tool.name for tool in (await legacy.list_tools(cache_mode="bypass")).tools]
    modern_names = [tool.name for tool in (await modern.list_tools(cache_mode="bypass")).tools]
    stage.say(f"legacy agent: MCP {legacy.protocol_version}; modern agent: MCP {modern.protocol_version}")
    expect("a modern agent to get a modern revision", modern.protocol_version >= "2026-07-28", modern_names)
    expect("the same names for both agents", names == modern_names, f"{names} and {modern_names}")
    expect("the clash to leave 'lookup' and 'primary__lookup'", {"lookup", "primary__lookup"} <= set(names), names)
    report = await stage.admin("tools")
    table = Table("tool", "served by", "description", box=None, header_style="bold")
    for tool in report["tools"]:
        summary = (tool["description"] or "").split("\n")[0]
        table.add_row(tool["name"], ", ".join(tool["upstreams"]), summary)
    stage.console.print(table)
    clash = next((each for each in report["conflicts"] if each["name"] == "lookup"), None)
    expect("the clash over 'lookup' to be reported", clash is not None, report["conflicts"])
    stage.say("primary and backup offer the same tools with the same schemas: they are replicas")
    stage.say(f"two different tools are called 'lookup': {clash['outcome'] if clash else ''}")


async def routing(stage: Stage, legacy: Client, modern: Client) -> None:
    stage.step("Calls go to the server that has the tool, over its own transport and in its own era")
    total = await call(legacy, "add", a=19, b=23)
    expect("add(19, 23) to be 42", total == {"result": 42}, total)
    stage.say("legacy agent: add(19, 23) = 42, from toolbox over stdio")
    meaning = await call(modern, "lookup", term="upstream")
    expect("toolbox's own lookup", "behind the gateway" in str(meaning), meaning)
    country = await call(modern, "primary__lookup", city="Oslo")
    expect("Oslo to be in Norway", country == {"result": "Norway"}, country)
    stage.say(f"modern agent: lookup('upstream') = {meaning['result']!r}, primary__lookup('Oslo') = 'Norway'")
    echo = await call(modern, "backup:echo", text="hello")
    expect("backup to answer 'backup:echo'", echo["served_by"] == "backup", echo)
    stage.say("modern agent: backup:echo names its server, and backup answers")


async def failover(stage: Stage, legacy: Client, modern: Client) -> None:
    stage.step("The primary crashes, and the next call is served by the backup")
    before = await call(modern, "weather", city="Oslo")
    expect("the primary to serve first", before["served_by"] == "primary", before)
    stage.say(f"weather('Oslo'): {before['celsius']} degrees, served by {before['served_by']}")
    await stage.children.kill(stage.servers["primary"])
    stage.say(f"process {stage.servers['primary'].pid} (primary) was killed")
    for agent, client in (("legacy", legacy), ("modern", modern)):
        after = await call(client, "weather", city="Oslo")
        expect("the backup to serve now", after["served_by"] == "backup", after)
        stage.say(f"{agent} agent: weather('Oslo'): {after['celsius']} degrees, served by {after['served_by']}")
    await stage.start_server("primary", stage.ports["primary"])

    async def recovered() -> bool:
        states = {each["name"]: each["state"] for each in (await stage.admin("status"))["upstreams"]}
        return bool(states["primary"] == "healthy")

    await stage.until("the primary to be healthy again", recovered)
    again = await call(legacy, "weather", city="Oslo")
    expect("the primary to serve again", again["served_by"] == "primary", again)
    stage.say(f"primary was started again: served by {again['served_by']}, and the gateway was not restarted")


async def rate_limit(stage: Stage, modern: Client) -> None:
    stage.step(f"An agent that calls a tool more than {CALLS_PER_MINUTE} times a minute is asked to wait")
    for number in range(1, CALLS_PER_MINUTE + 2):
        try:
            await call(modern, "now")
        except MCPError as refusal:
            wait = (refusal.data or {}).get("retryAfterMs", 0)
            expect("a time after which to try again", wait > 0, refusal.data)
            expect("the limit to leave some calls through", number > 1, f"a refusal of call {number}")
            stage.say(f"call {number}: refused, {refusal.message!r}; retry after {wait / 1000:.1f} s")
            break
    else:
        raise StepFailed("a refusal", f"{CALLS_PER_MINUTE + 1} answers")
    await call(modern, "add", a=1, b=1)
    stage.say("another tool is not affected: add(1, 1) = 2")


async def redaction(stage: Stage, modern: Client) -> None:
    stage.step("Secrets in arguments reach the server that needs them, and never the log")
    notes = await call(modern, "search_notes", query="backup", api_key=SECRET)
    expect("two notes about backups", len(notes["notes"]) == 2, notes)

    async def logged() -> bool:
        return bool(stage.logged("search_notes", "[REDACTED]"))

    await stage.until("a redacted line about search_notes in the log", logged)
    stage.say(f"called search_notes(query='backup', api_key='{SECRET}'); the gateway's log has:")
    stage.show(stage.logged("search_notes", "[REDACTED]"))
    expect("the secret nowhere in the log", SECRET not in stage.log.read_text(), "it in the log")


async def stop(stage: Stage, gateway: asyncio.subprocess.Process) -> None:
    stage.step("Stop")
    await stage.stop()
    try:
        async with asyncio.timeout(5):
            code = await gateway.wait()
    except TimeoutError:
        raise StepFailed("the gateway to end within 5 s of `stop`", "a running process") from None
    expect("the gateway to end with 0", code == 0, code)
    stage.say("the gateway ended with exit code 0")
