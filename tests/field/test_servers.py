"""Each odd server behind a gateway: a client gets what is right, or the gateway says why it refuses the server."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from loguru import logger
from mcp import Client

from gateway_core.gateway import Gateway
from gateway_core.upstream.liveness import Liveness
from tests.field import driver, kinds
from tests.field.conftest import until
from tests.field.plan import is_right

LIMIT = 6.0
"""Seconds for one step."""
CHECKS = 0.2
"""Seconds that a check waits for an answer, in place of five."""
TOLERATED = [odd for odd in kinds.servers() if not odd.refused]
CHECKED = [odd for odd in TOLERATED if odd.kind.folder == "ping"]
REFUSED = [odd for odd in kinds.servers() if odd.refused]


async def settled(gateway: Gateway) -> dict[str, Any]:
    """The status of the only upstream, once it was reached or has failed."""

    def upstream() -> dict[str, Any]:
        found: dict[str, Any] = gateway.status()["upstreams"][0]
        return found

    await until(lambda: upstream()["state"] == "healthy" or upstream()["last_error"], "the first attempt has ended")
    return upstream()


@pytest.mark.parametrize("odd", TOLERATED, ids=str)
async def test_a_client_gets_what_is_right(
    odd: kinds.OddServer, urls: dict[str, str], start: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway_core.upstream.liveness.PING_TIMEOUT", CHECKS)
    monkeypatch.setattr("gateway_core.upstream.watch.DOUBT_INTERVAL", CHECKS)
    gateway = await start([odd.upstream(urls)])
    upstream = await settled(gateway)
    assert (upstream["state"], upstream["last_error"]) == ("healthy", None)
    steps = [{**step, "name": step.get("through", step.get("name"))} for step in odd.steps]
    async with Client(f"{gateway.address}/mcp", mode="legacy") as client:
        ends = await driver.take(client, steps, LIMIT)
    wrong = [(step, end) for step, end in zip(steps, ends, strict=True) if not is_right(step, end)]
    assert wrong == []
    assert gateway.status()["upstreams"][0]["state"] == "healthy"


@pytest.mark.parametrize("odd", CHECKED, ids=str)
async def test_health_checks_cost_nothing(
    odd: kinds.OddServer, urls: dict[str, str], start: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    checks: list[None] = []
    check = Liveness.check

    async def counted(self: Liveness, *arguments: Any, **options: Any) -> None:
        checks.append(None)
        await check(self, *arguments, **options)

    monkeypatch.setattr(Liveness, "check", counted)
    monkeypatch.setattr("gateway_core.upstream.liveness.PING_TIMEOUT", CHECKS)
    monkeypatch.setattr("gateway_core.upstream.watch.DOUBT_INTERVAL", CHECKS)
    warnings: list[str] = []
    sink = logger.add(warnings.append, level="WARNING", filter={"gateway_core.log.loop_lag": False})
    try:
        gateway = await start([odd.upstream(urls)])
        await until(lambda: len(checks) > 5 or warnings, "it was checked")
    finally:
        logger.remove(sink)
    assert warnings == []
    assert gateway.status()["upstreams"][0]["state"] == "healthy"


@pytest.mark.parametrize("odd", REFUSED, ids=str)
async def test_a_server_that_is_refused_is_shown_with_a_reason(
    odd: kinds.OddServer, urls: dict[str, str], start: Callable[..., Any]
) -> None:
    gateway = await start([odd.upstream(urls)])
    upstream = await settled(gateway)
    assert upstream["state"] != "healthy"
    assert upstream["last_error"]
