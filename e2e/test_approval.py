"""A person approves calls of agents by others: the official SDKs for Python (version 1) and TypeScript (both versions).

`tests/acceptance/test_approval.py` does the same with the Python SDK of today, in both eras and over all transports.
"""

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


CLIENTS = ["python-http", "python-sse", "typescript-legacy", "typescript-modern"]


@pytest.fixture(params=CLIENTS)
def call(request: pytest.FixtureRequest, launcher: Any, tools: Any, tmp_path: Path) -> Any:
    """`call("accept", [CALL])`: what a client gets that does this with every question."""
    language, _, kind = request.param.partition("-")

    def run(action: str, calls: list[Any], **settings: Any) -> dict[str, Any]:
        command = [sys.executable, "-m", "gateway_core.demo.stdio_server"]
        upstream = {"name": "demo", "transport": "stdio", "command": command[0], "args": command[1:]}
        approval = {"name": "security_approval", "always": ["add"], **settings.pop("approval", {})}
        proxy = {"transport": "sse", "upstreams": [upstream], "plugins": [approval], **settings}
        gateway = launcher.gateway(proxy, upstreams=1)
        if language == "typescript":
            arguments = (gateway.url, kind, action, json.dumps(calls))
            done = tools.run_node("approval/typescript.mjs", *arguments, home=tmp_path)
        else:
            url = gateway.url if kind == "http" else f"{gateway.base}/sse"
            program = [str(LEGACY_PYTHON), str(HERE / "approval" / "python1.py"), url, kind, action, json.dumps(calls)]
            done = subprocess.run(program, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    return run


def test_an_accepted_call_is_executed(call: Any) -> None:
    found = call("accept", [CALL, CALL])
    assert found["ends"] == ["3", "3"]
    assert len(found["asked"]) == 2
    assert "Server: demo\nTool: add\n" in found["asked"][0]


@pytest.mark.parametrize("call", CLIENTS[:3], indirect=True)
def test_an_approval_may_last_for_the_session(call: Any) -> None:
    found = call("accept", [CALL, CALL], approval={"remember": "session"})
    assert found["ends"] == ["3", "3"]
    assert len(found["asked"]) == 1


def test_a_declined_call_is_refused(call: Any) -> None:
    (end,) = call("decline", [CALL])["ends"]
    assert end.startswith("-31003")
    assert "add was not called: the user declined it" in end


def test_an_answer_that_comes_too_late_does_not_count(call: Any, request: pytest.FixtureRequest) -> None:
    (end,) = call("late", [CALL], approval={"lifetime": 1})["ends"]
    if "modern" in request.node.callspec.id:  # the question was the end of its request
        assert end.startswith("-32602")
        assert "requestState is not valid" in end
    else:
        assert end.startswith("-31003")
        assert "no answer within 1 s" in end


@pytest.mark.parametrize("call", ["typescript-modern"], indirect=True)
def test_an_approval_counts_for_its_arguments_and_once(call: Any) -> None:
    altered, approved, again = call("by-hand", [CALL])["ends"]
    assert approved == "3"
    assert "requestState is not valid" in altered
    assert "requestState is not valid" in again
