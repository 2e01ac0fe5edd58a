"""`rad mcp proxy tools NAME` and `call` with the schema of a real server, through a running gateway and without one."""

import json
import shlex
import socket
import subprocess
import sys

import pytest

from tests import ports

SERVER = """
import sys
from typing import Annotated, Literal

from mcp.server import MCPServer
from pydantic import Field

server = MCPServer("kinds", version="1.0")

@server.tool()
def kinds(
    count: int,
    ratio: float,
    on: bool,
    tags: list[str],
    where: dict[str, int],
    mode: Literal["fast", "slow"],
    text: str,
    maybe: str | None = None,
    size: Annotated[int, Field(ge=10, description="how large")] = 10,
) -> str:
    "Show what arrived.\\n\\nSecond paragraph."
    return repr((count, ratio, on, tags, where, mode, text, maybe, size))

server.run("streamable-http", port=int(sys.argv[1]))
"""


@pytest.fixture
def kinds(project, environment, wait_for):
    """`project` with a server that all commands of a test use."""
    port = ports.free_port()
    with (
        subprocess.Popen(
            [sys.executable, "-c", SERVER, str(port)], env=environment, stderr=subprocess.DEVNULL
        ) as server,
        socket.socket() as probe,
    ):
        try:
            wait_for(lambda: probe.connect_ex(("127.0.0.1", port)) == 0, 60)
            url = f"http://127.0.0.1:{port}/mcp"
            with (project / ".radium" / "mcp-proxy.toml").open("a") as file:
                file.write(f'[[mcp.proxy.upstreams]]\nname = "kinds"\ntransport = "http"\nurl = "{url}"\n')
            yield project
        finally:
            server.kill()


GIVEN = [
    *("--arg", "count=3", "--arg", "ratio=2", "--arg", "on=false", "--arg", 'tags=["a", "b"]'),
    *("--arg", 'where={"x": 1}', "--arg", "mode=slow", "--arg", "text=5", "--arg", "maybe=null"),
]
ARRIVED = "(3, 2.0, False, ['a', 'b'], {'x': 1}, 'slow', '5', None, 10)\n"


@pytest.mark.parametrize("running", [True, False], ids=["running", "not running"])
@pytest.mark.timeout(180)
def test_a_tool_is_shown_and_called_by_its_schema(kinds, rad, running, wait_for_upstream):
    if running:
        assert rad("start", "--detach").returncode == 0
        wait_for_upstream("kinds")
    try:
        shown = rad("tools", "kinds")
        assert shown.returncode == 0, shown.stderr
        lines = shown.stdout.splitlines()
        assert lines[:4] == ["kinds, served by kinds", "  Show what arrived.", "", "  Second paragraph."]
        assert any(line.split()[:3] == ["count", "integer", "yes"] for line in lines)
        assert any(line.startswith("mode ") and '"fast" or "slow"' in line for line in lines)
        assert any(line.startswith("size ") and line.endswith("how large") and "default 10" in line for line in lines)
        example = lines[-1].strip()
        words = shlex.split(example)
        assert words[:4] == ["rad", "mcp", "proxy", "call"]
        pasted = rad(*words[3:])
        assert pasted.stdout == "(1, 1.0, True, ['text'], {}, 'fast', 'text', None, 10)\n", pasted.stderr
        assert rad("call", "kinds", *GIVEN).stdout == ARRIVED
        explicit = json.loads(rad("tools", "kinds:kinds", "--json").stdout)
        assert explicit["definition"]["inputSchema"]["required"][0] == "count"
        assert explicit["example"].startswith("rad mcp proxy call kinds:kinds --arg count=1")
        wrong = rad("call", "kinds", "--arg", "count=many")
        assert wrong.returncode == 2
        assert "--arg count: must be a whole number" in wrong.stderr
        misspelt = rad("call", "kinds", "--arg", "cuont=1")
        assert "did you mean count?" in misspelt.stderr
        unknown = rad("call", "kidns")
        assert unknown.returncode == 1
        assert "did you mean kinds?" in unknown.stderr
        unlisted = rad("tools", "kidns")
        assert unlisted.returncode == 1
        assert "no tool kidns; did you mean kinds?" in unlisted.stderr
        for command in (("call",), ("tools",)):
            assert "did you mean kinds:kinds?" in rad(*command, "kidns:kinds").stderr
    finally:
        if running:
            rad("stop", "--now")


def test_a_tool_of_a_profile_is_called_by_agents_of_the_profile(project, rad):
    (project / ".radium" / "mcp-proxy.toml").write_text(f"""
[mcp.proxy]
enable = true

[[mcp.proxy.upstreams]]
name = "demo"
transport = "stdio"
command = {json.dumps(sys.executable)}
args = ["-m", "gateway_core.demo.stdio_server"]

[[mcp.proxy.profiles]]
name = "desk"
tools = ["add"]
""")
    shown = rad("tools", "add", "--profile", "desk").stdout
    assert "to call it, with credentials in RADIUM_TOKEN that get the profile desk:\n  rad mcp proxy call add" in shown
    refused = rad("tools", "subtract", "--profile", "desk")
    assert refused.returncode == 1
    assert "no tool subtract in profile desk" in refused.stderr
    assert "to list all tools: rad mcp proxy tools --profile desk" in refused.stderr
