"""Servers with malformed definitions: each client of the official SDKs lists what can be published, and no less."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
SERVER = HERE / "servers" / "malformed.py"
LISTS = {
    "tools/list": "name",
    "prompts/list": "name",
    "resources/list": "uri",
    "resources/templates/list": "uriTemplate",
}
sys.path.insert(0, str(HERE / "matrix"))
sys.path.insert(0, str(SERVER.parent))

from clients import CLIENTS, Client  # noqa: E402 - found on the path above

SDKS = [client for client in CLIENTS if client.title.startswith(("Python", "TypeScript"))]


@pytest.fixture(scope="module")
def malformed(session_launcher: Any) -> Iterator[Any]:
    """A gateway over two such servers, one of each era."""
    upstreams = [
        {"name": era, "transport": "stdio", "command": sys.executable, "args": [str(SERVER), era]}
        for era in ("legacy", "modern")
    ]
    return session_launcher.gateway({"upstreams": upstreams}, upstreams=2, name="malformed")


def published(era: str) -> dict[str, list[str]]:
    """The names that should be listed of one server, by method."""
    command = [sys.executable, "-c", "import json, malformed; print(json.dumps(malformed.LISTS))", era]
    done = subprocess.run(command, cwd=SERVER.parent, capture_output=True, text=True, check=True, timeout=60)
    lists = dict(zip(LISTS, json.loads(done.stdout).values(), strict=True))
    return {
        method: [entry[key] for entry in lists[method] if isinstance(entry, dict) and "-ok-" in str(entry.get(key))]
        for method, key in LISTS.items()
    }


@pytest.mark.parametrize("client", SDKS, ids=lambda client: client.title)
def test_each_client_lists_everything_that_can_be_published(malformed: Any, tools: Any, client: Client) -> None:
    plan = json.dumps({key: {} for key in LISTS})
    command = [*client.command, malformed.url, plan, client.era]
    done = subprocess.run(
        command, cwd=HERE, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, check=False
    )
    steps = [json.loads(line) for line in done.stdout.splitlines()]
    got = {step["step"]: step for step in steps if "step" in step}
    for method in LISTS:
        expected = published("legacy")[method] + published("modern")[method]
        assert len(expected) > 20
        assert got[method].get("got") == expected, got[method].get("error", done.stderr)


def test_the_operator_is_told_which_entries_and_members(malformed: Any) -> None:
    for command in (("status",), ("check", "--connect")):
        for one in malformed.rad(*command)["upstreams"]:
            assert one["state"] == "healthy"
            assert any("is left out" in warning for warning in one["warnings"])
            assert any(f"tool '{one['name']}-ok-1' of upstream {one['name']} is repaired" in w for w in one["warnings"])
            assert len(one["warnings"]) < 100
    assert len(malformed.rad("tools")["warnings"]) < 200
