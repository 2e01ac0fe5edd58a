"""`drain`, `resume`, `disable` and `enable`, with a real process."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.timeout(180)


@pytest.fixture
def config(with_server: Any) -> Path:
    found: Path = with_server / ".radium" / "mcp-proxy.toml"
    found.write_text(f"# The servers of the team.\n{found.read_text()}")
    return found


@pytest.fixture
def running(config: Path, spawn: Any, wait_for_upstream: Any) -> Any:
    gateway = spawn("start", "--watch")
    wait_for_upstream()
    return gateway


def state(rad: Any) -> tuple[str, int]:
    found = json.loads(rad("status", "--json").stdout)
    return found["upstreams"][0]["state"], found["generation"]


def test_an_upstream_is_drained_and_resumed(running: Any, rad: Any) -> None:
    done = rad("drain", "calculator")
    assert (done.returncode, done.stderr) == (0, "calculator gets no new calls; 0 calls in flight\n")
    assert state(rad) == ("draining", 1)
    refused = rad("call", "add", "--arg", "a=1", "--arg", "b=2")
    assert refused.returncode == 1
    assert "an operator keeps new calls from it" in refused.stdout + refused.stderr
    done = rad("resume", "calculator")
    assert (done.returncode, done.stderr) == (0, "calculator gets calls again\n")
    assert state(rad) == ("healthy", 1)
    for command in ("drain", "resume", "disable", "enable"):
        done = rad(command, "no/such")
        assert done.returncode == 1
        kind = "upstream" if command in {"disable", "enable"} else "enabled upstream"
        assert done.stderr == f"error: there is no {kind} 'no/such'; `rad mcp proxy status` lists them\n"


def test_an_upstream_is_disabled_and_enabled_in_the_file_and_reloaded_once(
    running: Any, rad: Any, config: Path, wait_for: Any, status: Any
) -> None:
    before = config.read_text()
    done = rad("disable", "calculator")
    assert (done.returncode, done.stdout.splitlines()) == (
        0,
        ["applied: 1 change, generation 2", "  upstream calculator: disabled"],
    )
    assert state(rad) == ("disabled", 2)
    assert config.read_text().replace("enabled = false\n", "") == before
    found = json.loads(rad("enable", "calculator", "--json").stdout)
    assert (found["generation"], found["changes"][0]["how"]) == (3, "enabled")
    config.write_text(config.read_text() + "\n# by an editor\n")
    config.write_text(config.read_text().replace("[mcp.proxy]\n", "[mcp.proxy]\ntimeout = 5.0\n", 1))
    wait_for(lambda: status()["generation"] == 4, 60)


def test_without_a_gateway_it_is_exit_code_3(rad: Any, config: Path) -> None:
    for command in ("drain", "resume", "disable", "enable"):
        assert rad(command, "calculator").returncode == 3
