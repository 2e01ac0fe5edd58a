"""No secret that the gateway holds reaches an agent, the log or the control plane."""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from mcp import Client, MCPError

from tests.acceptance.conftest import SERVERS, listening, wait_until
from tests.ports import free_port
from tests.servers.forks import Fork

TOKEN = "ghp_hu5hAbC9dEfGh1JkLmN0pQrStUvWxYz2"
PASSWORD = 'hu5h "pass" wörd/1'
BEARER = "sk-live-Hu5hQrStUvWxYz27aBcDeF4"
STATE_KEY = "St4teKeyHu5hQrStUvWxYz27aBcDeF4Q"
HEADERS = f'{{ Authorization = "Bearer {BEARER}", X-Region = "eu-west-1" }}'
CONFIG = """
[mcp.proxy]
enable = true
port = {port}
state_keys = ["%s"]

[mcp.proxy.log]
level = "DEBUG"
format = "%s"

[[mcp.proxy.upstreams]]
name = "files"
transport = "stdio"
command = "%s"
args = ["%s", "--password", '%s', "--region", "eu-west-1"]
env = { API_TOKEN = "%s", TZ = "Europe/Oslo" }

[[mcp.proxy.upstreams]]
name = "web"
transport = "http"
url = "http://127.0.0.1:%d/mcp"
headers = %s

[[mcp.proxy.plugins]]
name = "security_redact"
builtin = false
patterns = []
"""


def secrets_in(text: str) -> list[str]:
    """The secrets that a text contains, in any form that JSON allows."""
    forms = [
        *(TOKEN, BEARER, STATE_KEY),
        PASSWORD,
        json.dumps(PASSWORD)[1:-1],
        json.dumps(PASSWORD, ensure_ascii=False),
    ]
    return [secret for secret in forms if secret in text]


@pytest.mark.parametrize(("mode", "form"), [("legacy", "json"), ("2026-07-28", "text")])
async def test_servers_cannot_pass_on_secrets_of_the_gateway(gateway: Any, mode: str, form: str) -> None:
    port = free_port()
    server = SERVERS / "telltale.py"
    web = Fork(server, "--http", str(port))
    try:
        await asyncio.to_thread(wait_until, lambda: listening(port))
        rad = gateway(CONFIG % (STATE_KEY, form, sys.executable, server, PASSWORD, TOKEN, port, HEADERS))
        await asyncio.to_thread(wait_until, rad.is_healthy)
        seen = await _everything(rad, mode)
    finally:
        web.kill()
        web.wait(60)
    assert "eu-west-1" in seen, "what is no secret stays"
    assert seen.count("[REDACTED]") > 10
    assert secrets_in(seen) == []
    pages = rad.run("status", "--json").stdout + rad.run("tools", "--json").stdout
    assert "[REDACTED]" in pages
    assert secrets_in(pages) == []
    for line in ("stderr of the server", "tools/call web:tell", "env.API_TOKEN of upstream files"):
        await asyncio.to_thread(wait_until, lambda line=line: line in rad.log.read_text(), what=line)
    log = rad.log.read_text()
    assert secrets_in(log) == []
    assert TOKEN[9:] not in log, "a value over two lines"
    if form == "json":
        lines = [json.loads(line) for line in log.splitlines() if line.startswith('{"')]
        (line,) = [line for line in lines if line["message"] == "tools/call web:tell"]
        assert {"method", "tool", "principal", "session", "upstream", "outcome"} <= line.keys()
        assert (line["tool"], line["upstream"], line["outcome"]) == ("web:tell", "web", "ok")
    reports = [line for line in log.splitlines() if "a secret of the gateway" in line]
    assert sum("env.API_TOKEN of upstream files" in line for line in reports) == 1, reports


async def _everything(rad: Any, mode: str) -> str:
    """All that an agent gets when it tries to get at the secrets."""
    seen: list[Any] = []

    async def progress(*what: Any) -> None:
        seen.append(what)

    async with Client(rad.url, mode=mode, read_timeout_seconds=60) as agent:
        for name in ("files:tell", "web:tell", "files:fail"):
            seen.append(await agent.call_tool(name, {}, progress_callback=progress))
        for path in (rad.config, Path(rad.config).with_suffix(".pid")):
            seen.append(await agent.call_tool("files:read", {"path": str(path)}))
        listed = await agent.list_tools()
        seen += [listed, await agent.list_resources()]
        for resource in (await agent.list_resources()).resources:
            seen.append(await agent.read_resource(resource.uri))
        with pytest.raises(MCPError) as problem:
            await agent.call_tool(f"nothing-{TOKEN}", {})
        seen.append(repr(problem.value))
    shown = " ".join(it if isinstance(it, str) else str(getattr(it, "model_dump_json", it.__repr__)()) for it in seen)
    token = json.loads(Path(rad.config).with_suffix(".pid").read_text())["token"]
    assert token not in shown, "the change token in the pid file"
    return shown
