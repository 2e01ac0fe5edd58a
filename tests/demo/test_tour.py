"""The demonstration servers do what their pages say, and the tour ends well, badly and early without leftovers."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from mcp.client.client import Client
from mcp.server.mcpserver import MCPServer

from gateway_core.demo import http_server, stdio_server

TOUR = "import sys; from gateway_core.demo import run; sys.exit(run())"
MODES = pytest.mark.parametrize("mode", ["legacy", "auto"])


def leftovers(home: Path) -> list[str]:
    """Command lines of the processes with this HOME, which every child of the tour inherits."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if f"HOME={home}".encode() in (process / "environ").read_bytes().split(b"\0"):
                found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:
            continue  # it ended, or is another user's
    return found


def start_tour(home: Path, code: str = TOUR) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code],
        env={**os.environ, "HOME": str(home), "TMPDIR": str(home)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 - shells ignore it in the background
    )


@MODES
async def test_the_toolbox_computes_counts_and_explains(mode: str) -> None:
    async with Client(stdio_server.server, mode=mode) as client:
        assert [tool.name for tool in (await client.list_tools()).tools] == ["add", "word_count", "now", "lookup"]
        assert (await client.call_tool("add", {"a": 2, "b": -5})).structured_content == {"result": -3}
        count = (await client.call_tool("word_count", {"text": "one two\nthree"})).structured_content
        assert count == {"characters": 13, "words": 3, "lines": 2}
        meaning = (await client.call_tool("lookup", {"term": " Upstream "})).structured_content
        assert meaning == {"result": "One MCP server behind the gateway."}
        unknown = await client.call_tool("lookup", {"term": "no such"})
        assert unknown.is_error
        assert "known words: agent" in str(unknown.content)


@MODES
async def test_the_toolbox_offers_its_glossary_as_resource_and_prompt(mode: str) -> None:
    async with Client(stdio_server.server, mode=mode) as client:
        whole = (await client.read_resource("toolbox://glossary")).contents[0].text
        assert all(f"**{term}**" in whole for term in stdio_server.GLOSSARY)
        one = (await client.read_resource("toolbox://glossary/agent")).contents[0].text
        assert one == stdio_server.GLOSSARY["agent"]
        prompt = await client.get_prompt("explain", {"term": "era"})
        assert stdio_server.GLOSSARY["era"] in prompt.messages[0].content.text


@MODES
async def test_the_city_server_answers_and_tells_who_it_is(mode: str) -> None:
    async with Client(http_server.build("primary"), mode=mode) as client:
        weather = (await client.call_tool("weather", {"city": "oslo"})).structured_content
        assert weather == {"city": "oslo", "celsius": 7.1, "sky": "light rain", "served_by": "primary"}
        notes = (await client.call_tool("search_notes", {"query": "BACKUP", "limit": 1})).structured_content
        assert notes == {"notes": ["Backups of the primary run at 02:00 UTC."], "served_by": "primary"}
        echo = (await client.call_tool("echo", {"text": "hi"})).structured_content
        assert echo == {"text": "hi", "served_by": "primary"}
        people = (await client.call_tool("lookup", {"city": "Lima", "fact": "population"})).structured_content
        assert people == {"result": "10000000"}
        unknown = await client.call_tool("weather", {"city": "Atlantis"})
        assert unknown.is_error
        assert "known: cairo" in str(unknown.content)


async def test_two_instances_are_replicas_and_only_lookup_clashes_with_the_toolbox() -> None:
    async def schemas(server: MCPServer[object]) -> dict[str, object]:
        async with Client(server) as client:
            return {tool.name: (tool.input_schema, tool.output_schema) for tool in (await client.list_tools()).tools}

    primary, backup = await schemas(http_server.build("primary")), await schemas(http_server.build("backup"))
    toolbox = await schemas(stdio_server.server)
    assert primary == backup
    assert set(primary) & set(toolbox) == {"lookup"}
    assert primary["lookup"] != toolbox["lookup"]


def test_the_tour_succeeds_and_leaves_nothing_behind(tmp_path: Path) -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    tour = start_tour(tmp_path)
    output, _ = tour.communicate(timeout=55)
    assert tour.returncode == 0, output
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    # The promise is 20 seconds. Of processor time, because tests share the machine.
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 20
    for shown in ("primary__lookup", "served by backup", "refused", "retry after", "[REDACTED]", "exit code 0"):
        assert shown in output
    assert leftovers(tmp_path) == []
    assert list(tmp_path.iterdir()) == []


def test_a_failing_step_ends_the_tour_with_1_and_says_what_was_expected(tmp_path: Path) -> None:
    breaking = "from gateway_core.demo import steps; "
    breaking += "steps.RAD = (sys.executable, '-c', 'raise SystemExit(\"no gateway today\")')"
    tour = start_tour(tmp_path, f"import sys; {breaking}; {TOUR}")
    output, _ = tour.communicate(timeout=50)
    assert tour.returncode == 1, output
    assert "Failed: expected the gateway to be ready" in output
    assert "no gateway today" in output
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_tour_ends_its_children(tmp_path: Path, number: signal.Signals) -> None:
    tour = start_tour(tmp_path)
    assert tour.stdout is not None
    lines: list[str] = []
    while "the gateway serves" not in "".join(lines[-1:]):
        line = tour.stdout.readline()
        assert line, "".join(lines)
        lines.append(line)
    assert len(leftovers(tmp_path)) > 2
    tour.send_signal(number)
    output, _ = tour.communicate(timeout=30)
    assert tour.returncode == 130, output
    assert leftovers(tmp_path) == []
    assert list(tmp_path.iterdir()) == []
