"""Each list of an upstream stands for itself: what fails is reported and tried again, what works is published."""

import asyncio
import json
import random
import time
from collections.abc import Iterator
from typing import Any

import mcp_types as types
import pytest
from loguru import logger

from gateway_core.config import ProxyConfig, UpstreamConfig
from gateway_core.errors import DeliveryError, OutcomeUnknown
from gateway_core.upstream import watch
from gateway_core.upstream.base import ServerInfo
from gateway_core.upstream.lists import gathering
from gateway_core.upstream.lists.gathering import ListRequests, ListRetries
from gateway_core.upstream.upstream import Upstream
from tests.conformance.catalog_kit import LISTS, Offering, tool, until, world
from tests.upstream.conftest import Script, Seen, http, result

QUICK = {"a": "health_check_interval = 0.1"}


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gathering, "SIDE_PATIENCE", 0.3)
    monkeypatch.setattr(gathering, "RETRY_FIRST", 0.05)
    monkeypatch.setattr(watch, "REFRESH_SPACING", 0.0)


@pytest.fixture
def log() -> Iterator[list[str]]:
    lines: list[str] = []
    sink = logger.add(lambda message: lines.append(str(message)), format="{message}", level="INFO")
    yield lines
    logger.remove(sink)


class Faulty(Offering):
    """An offering with a tool, a resource and a template, whose list `broken` goes wrong in the way of `fault`."""

    def __init__(self, broken: str, fault: Any) -> None:
        resource = types.Resource(uri="memo://a", name="a")
        template = types.ResourceTemplate(uri_template="memo://{x}", name="x")
        super().__init__("a", [tool("t")], [resource], [template], announces=False)
        self.broken, self.fault = broken, fault
        self.override = self.answer

    def answer(self, message: dict[str, Any]) -> bytes | None:
        if message["method"] != self.broken or self.fault is None:
            return None
        self.listed.append(self.broken)
        return json.dumps({"resultType": "complete", "ttlMs": 0, "cacheScope": "public", **self.fault}).encode()


MALFORMED: list[Any] = [{}, {"tools": None, "resources": None, "resourceTemplates": None}, {"resultType": "zzz"}]


@pytest.mark.parametrize("broken", LISTS[:3])
@pytest.mark.parametrize("fault", MALFORMED, ids=str)
async def test_a_malformed_list_leaves_the_others_published(broken: str, fault: Any, log: list[str]) -> None:
    a = Faulty(broken, fault)
    async with a.serving(), world(a, each=QUICK) as here:
        (status,) = here.gateway.status()["upstreams"]
        assert (status["state"], status["lists"]) == ("healthy", "incomplete")
        assert any(broken in warning for warning in status["warnings"])
        assert any(broken in warning for warning in here.gateway.tools()["warnings"])
        snapshot = here.gateway.catalog.snapshot
        found = {"tools/list": snapshot.tools, "resources/list": snapshot.resources}
        found["resources/templates/list"] = snapshot.templates
        assert {method: bool(entries) for method, entries in found.items()} == {name: name != broken for name in found}
        assert len([line for line in log if f"{broken} of upstream a failed" in line]) == 1
        a.fault = None
        await until(lambda: here.lists("a") == "current")
        assert here.gateway.catalog.snapshot.tools
        assert here.gateway.catalog.snapshot.resources


async def test_a_list_that_fails_later_keeps_what_was_known() -> None:
    a = Faulty("resources/list", None)
    async with a.serving(), world(a, each=QUICK) as here:
        a.fault = {"resources": None}
        await here.upstream("a").refresh()
        assert here.lists("a") == "incomplete"
        assert list(here.gateway.catalog.snapshot.resources) == ["memo://a"]
        assert "its last known entries stay" in here.gateway.status()["upstreams"][0]["warnings"][0]


async def test_a_list_that_fails_for_good_is_asked_for_ever_more_rarely(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gathering, "RETRY_FIRST", 1000.0)
    monkeypatch.setattr(gathering, "RETRY_MAX", 1000.0)
    a = Faulty("resources/list", {"resources": None})
    async with a.serving(), world(a, each=QUICK) as here:
        for _ in range(3):
            await here.upstream("a").refresh()
        assert a.listed.count("resources/list") == 1
        assert a.listed.count("tools/list") >= 4


async def test_a_silent_list_is_published_without_and_taken_when_it_comes() -> None:
    a = Offering("a", [tool("t")], [types.Resource(uri="memo://a", name="a")], announces=False)
    gate = asyncio.Event()

    async def slow(capabilities: Any) -> list[types.Tool]:
        await gate.wait()
        return a.tools

    a.listing = slow
    async with a.serving(), world(a) as here:
        await until(lambda: here.lists("a") == "incomplete")
        assert list(here.gateway.catalog.snapshot.resources) == ["memo://a"]
        assert here.gateway.status()["upstreams"][0]["state"] == "healthy"
        gate.set()
        await until(lambda: list(here.gateway.catalog.snapshot.tools) == ["t"])
        assert here.lists("a") == "current"


async def test_malformed_entries_are_reported_once_and_everywhere(log: list[str]) -> None:
    listed = {"tools": [{"name": "good", "inputSchema": {}}, {"name": "bad", "inputSchema": 5}, *[{}] * 1000]}
    a = Faulty("tools/list", listed)
    async with a.serving(), world(a, each=QUICK) as here:
        await here.upstream("a").refresh()
        await here.upstream("a").refresh()
        assert await here.agent().tools() == ["good"]
        for warnings in (here.gateway.status()["upstreams"][0]["warnings"], here.gateway.tools()["warnings"]):
            assert "tool 'good' of upstream a is repaired; malformed members: inputSchema.type" in warnings
            assert "tool 'bad' of upstream a is left out: inputSchema is missing or malformed" in warnings
            assert len(warnings) < 30
        assert len([line for line in log if "upstream a is left out" in line]) < 30


CAPABILITIES = {"tools": {}, "prompts": {}, "resources": {}}
ERRORS = [-32700, -32600, -32602, -32603, -32000, -32001, -31001, 0, 7, 404]
TOOLS = {"tools": [{"name": "t", "inputSchema": {"type": "object"}}], "prompts": [{"name": "p"}], "resources": []}


async def _drop(seen: Seen, writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()


async def _silent(seen: Seen, writer: asyncio.StreamWriter) -> None:
    await seen.hang_up()


def _error(code: int) -> Script:
    async def answer(seen: Seen, writer: asyncio.StreamWriter) -> None:
        problem = {"code": code, "message": "no"}
        writer.write(http(200, json.dumps({"jsonrpc": "2.0", "id": seen.message["id"], "error": problem})))

    return answer


def _status(status: int, body: str = "", kind: str = "text/html") -> Script:
    async def answer(seen: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(http(status, body, kind))

    return answer


FAULTS = {
    **{f"error {code}": _error(code) for code in ERRORS},
    **{f"HTTP {status}": _status(status) for status in (400, 401, 403, 404, 405, 429, 500, 501, 502, 503, 204, 202)},
    "a page": _status(200, "<html>Not here</html>"),
    "no JSON": _status(200, "{", "application/json"),
    "a dropped connection": _drop,
    "silence": _silent,
}


@pytest.mark.parametrize("era", ["legacy", "modern"])
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("broken", ["tools/list", "prompts/list"])
async def test_one_list_that_cannot_be_had_over_http(
    scripted: Any,
    fault: str,
    era: str,
    broken: str,
) -> None:
    faulty = True

    async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
        if seen.verb != "POST":
            writer.write(http(405))
        elif seen.method == broken and faulty:
            await FAULTS[fault](seen, writer)
        else:
            hints = {"resultType": "complete", "ttlMs": 0, "cacheScope": "public"}
            writer.write(http(200, json.dumps(result(seen, {**TOOLS, "resourceTemplates": [], **hints}))))

    server = await scripted(script, era=era, capabilities=CAPABILITIES)
    upstream = Upstream(UpstreamConfig(name="a", transport="http", url=server.url), ProxyConfig(), 0)
    try:
        await upstream.connect()
        assert upstream.fetched is not None
        other = "prompt" if broken == "tools/list" else "tool"
        assert upstream.fetched.of(other)
        assert len(upstream.fetched.failures) == 1
        assert broken in upstream.fetched.warnings[0]
        faulty = False
        await asyncio.sleep(0.06)
        assert upstream.published.retry_due or fault == "silence"
        await upstream.refresh()
        assert upstream.fetched.failures == {}
        assert upstream.fetched.of("prompt")
        assert upstream.fetched.of("tool")
    finally:
        await upstream.close()


@pytest.mark.parametrize("fault", ["HTTP 500", "silence", "a dropped connection"])
async def test_a_server_of_which_no_list_can_be_had_is_down(scripted: Any, fault: str) -> None:
    server = await scripted(FAULTS[fault], era="modern", capabilities=CAPABILITIES)
    config = UpstreamConfig(name="a", transport="http", url=server.url, start_timeout=0.5)
    upstream = Upstream(config, ProxyConfig(), 0)
    try:
        with pytest.raises(DeliveryError):
            await upstream.connect()
        assert upstream.fetched is None
    finally:
        await upstream.close()


def test_retries_become_rarer_up_to_ten_minutes_and_start_again_after_a_success(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(gathering, "RETRY_FIRST", 2.0)

    class Highest(random.Random):
        def uniform(self, a: float, b: float) -> float:
            return b

    retries = ListRetries(Highest())
    assert (retries.due, retries.waiting) == (False, frozenset())
    assert [retries.failed("prompt") for _ in range(10)] == [2, 4, 8, 16, 32, 64, 128, 256, 512, 600]
    assert (retries.due, retries.waiting) == (False, {"prompt"})
    later = time.monotonic() + 601
    monkeypatch.setattr(gathering.time, "monotonic", lambda: later)
    assert (retries.due, retries.waiting) == (True, frozenset())
    retries.succeeded("prompt")
    assert not retries.due
    assert retries.failed("prompt") == 2


async def test_a_failure_keeps_no_frames() -> None:
    async def send(method: str, params: Any) -> Any:
        try:
            raise ValueError
        except ValueError:
            raise OutcomeUnknown("it broke") from None

    tasks = gathering.start("a", send, ServerInfo("legacy", "2025-11-25"), ListRequests(["tool"]), timeout=5)
    (failure,) = (await gathering.first_ones(tasks, 5)).values()
    assert isinstance(failure, gathering.Failure)
    assert (failure.error.__traceback__, failure.error.__context__) == (None, None)
    assert failure.reason == "it broke"
