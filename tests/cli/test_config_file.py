"""`config get`, `set` and `unset`, with and without a running gateway."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gateway_core.cli.config_file import parsed

pytestmark = pytest.mark.timeout(180)


@pytest.fixture
def config(with_stdio_server: Any) -> Path:
    found: Path = with_stdio_server / ".radium" / "mcp-proxy.toml"
    key = 'state_keys = ["0123456789abcdef0123456789abcdef"]  # for two gateways'
    found.write_text(f"# The servers.\n{found.read_text().replace('enable = true', f'enable = true{chr(10)}{key}')}")
    return found


def test_without_a_gateway_the_file_is_checked_and_written(config: Path, rad: Any) -> None:
    before = config.read_text()
    done = rad("config", "set", "timeout", "20.0")
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert "no gateway runs" in done.stderr
    assert config.read_text().replace("timeout = 20.0\n", "") == before
    assert rad("config", "get", "timeout").stdout == "20.0\n"
    shown = json.loads(rad("config", "get", "state_keys", "--json").stdout)
    assert shown == {"key": "state_keys", "value": ["[REDACTED]"]}
    assert rad("config", "unset", "timeout").returncode == 0
    assert config.read_text() == before
    assert rad("config", "get", "timeout").returncode == 1
    for key, value in (("timeout", "long"), ("no.such.key", "1"), ("upstreams.none.enabled", "true")):
        assert rad("config", "set", key, value).returncode == 2
    assert config.read_text() == before


def test_a_running_gateway_puts_a_change_in_force_or_keeps_the_file(
    config: Path, rad: Any, spawn: Any, wait_for_upstream: Any
) -> None:
    spawn("start")
    wait_for_upstream()
    done = rad("config", "set", "upstreams.calculator.priority", "3")
    assert done.stdout.splitlines() == [
        "applied: 1 change, generation 2",
        "  upstream calculator: changed (priority 1 -> 3)",
    ], done.stderr
    before = config.read_text()
    assert "priority = 3" in before
    refused = rad("config", "set", "upstreams.calculator.command", "sh")
    assert refused.returncode == 1
    assert "control.allow_commands" in refused.stderr
    wrong = rad("config", "set", "timeout", "long")
    assert wrong.returncode == 1
    assert "mcp.proxy.timeout" in wrong.stderr
    assert config.read_text() == before


@pytest.mark.parametrize(
    ("given", "value"),
    [
        ("20.0", 20.0),
        ("true", True),
        ('["a", "b"]', ["a", "b"]),
        ('{ a = "b" }', {"a": "b"}),
        ('"text"', "text"),
        ("plain text", "plain text"),
        ("", ""),
        ("1\nother = 2", "1\nother = 2"),
    ],
)
def test_a_value_is_toml_or_plain_text(given: str, value: Any) -> None:
    assert parsed(given) == value
