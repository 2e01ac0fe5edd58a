"""Servers that end, or that are given twice, behind a gateway together with others."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mcp import Client

from tests.field import driver, kinds
from tests.field.conftest import until

DYING = Path(__file__).with_name("dying") / "server.py"
ODD = {odd.name: odd for odd in kinds.servers()}


async def tools_of(gateway: Any) -> list[str]:
    async with Client(f"{gateway.address}/mcp", mode="legacy") as client:
        (end,) = await driver.take(client, [{"do": "tools", "with": ""}], 10)
    return sorted(end["got"])


async def test_a_server_that_ends_soon_after_each_start_is_started_ever_more_rarely(
    urls: dict[str, str], start: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway_core.upstream.ejection.BACKOFF_FIRST", 0.1)
    journal = tmp_path / "journal"
    command = [str(DYING), "dying", "soon", str(journal)]
    dying = {"name": "dying", "transport": "stdio", "command": sys.executable, "args": command}
    gateway = await start([dying, ODD["usual-plain"].upstream(urls)])

    def shown() -> dict[str, Any]:
        found: dict[str, Any] = gateway.status()["upstreams"][0]
        return found

    await until(lambda: shown()["state"] == "down" and (shown()["next_retry_in"] or 0) > 0.4, "it waits for longer")
    assert "cannot open the database" in shown()["last_error"]
    assert len(journal.read_text().splitlines()) > 1
    assert gateway.status()["upstreams"][1]["state"] == "healthy"
    assert await tools_of(gateway) == ["dying_add", "dying_echo", "usual-plain_add", "usual-plain_echo"]


async def test_a_command_that_does_not_exist_is_shown_as_that(urls: dict[str, str], start: Callable[..., Any]) -> None:
    missing = {"name": "missing", "transport": "stdio", "command": "no-such-command-here"}
    gateway = await start([missing, ODD["usual-plain"].upstream(urls)])
    await until(lambda: all(it["last_error"] or it["tools"] for it in gateway.status()["upstreams"]), "both were tried")
    assert "no-such-command-here" in gateway.status()["upstreams"][0]["last_error"]
    assert await tools_of(gateway) == ["usual-plain_add", "usual-plain_echo"]


async def test_two_instances_of_one_server_never_answer_for_each_other(start: Callable[..., Any]) -> None:
    left, right = ODD["instances-left"], ODD["instances-right"]
    gateway = await start([left.upstream({}), right.upstream({})])
    await until(lambda: all(it["state"] == "healthy" for it in gateway.status()["upstreams"]), "both are healthy")
    assert await tools_of(gateway) == ["instances-right__where", "where"]
    calls = [{"do": "call", "name": name, "arguments": {}} for name in ("where", "instances-right__where")] * 3
    async with Client(f"{gateway.address}/mcp", mode="legacy") as client:
        ends = await driver.take(client, calls, 10)
    assert [end["got"] for end in ends] == ["in left", "in right"] * 3
