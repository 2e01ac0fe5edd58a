"""A person approves calls of agents by others: the official Python SDK, version 1, over both of its transports."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE / "matrix")]

from clients import LEGACY_PYTHON  # noqa: E402 - found on the path above

CALL = ["add", {"a": 1, "b": 2}]


@pytest.fixture(params=["http", "sse"])
def call(request: pytest.FixtureRequest, launcher: Any) -> Any:
    """`call("accept", [CALL])`: what a client gets that does this with every question."""

    def run(action: str, calls: list[Any], **settings: Any) -> dict[str, Any]:
        command = [sys.executable, "-m", "gateway_core.demo.stdio_server"]
        upstream = {"name": "demo", "transport": "stdio", "command": command[0], "args": command[1:]}
        approval = {"name": "security_approval", "always": ["add"], **settings.pop("approval", {})}
        proxy = {"transport": "sse", "upstreams": [upstream], "plugins": [approval], **settings}
        gateway = launcher.gateway(proxy, upstreams=1)
        url = gateway.url if request.param == "http" else f"{gateway.base}/sse"
        program = [str(LEGACY_PYTHON), str(HERE / "approval" / "python1.py")]
        done = subprocess.run(
            [*program, url, request.param, action, json.dumps(calls)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    return run


def test_an_accepted_call_is_executed(call: Any) -> None:
    found = call("accept", [CALL, CALL])
    assert found["ends"] == ["3", "3"]
    assert len(found["asked"]) == 2
    assert "Server: demo\nTool: add\n" in found["asked"][0]


def test_an_approval_may_last_for_the_session(call: Any) -> None:
    found = call("accept", [CALL, CALL], approval={"remember": "session"})
    assert found["ends"] == ["3", "3"]
    assert len(found["asked"]) == 1


def test_a_declined_call_is_refused(call: Any) -> None:
    (end,) = call("decline", [CALL])["ends"]
    assert end.startswith("-31003 add was not called: the user declined it")


def test_an_answer_that_comes_too_late_does_not_count(call: Any) -> None:
    (end,) = call("late", [CALL], approval={"lifetime": 1})["ends"]
    assert end.startswith("-31003")
    assert "no answer within 1 s" in end
