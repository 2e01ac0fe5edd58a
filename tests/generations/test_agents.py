"""What agents notice of a reload: authentication, streams, subscriptions, and requests that are under way."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from loguru import logger
from mcp import Client
from mcp.client.sse import sse_client

import gateway_core.hooks.loader
from gateway_core import PluginConfig
from gateway_core.config import PluginEntry
from gateway_core.hooks import LoadedPlugin
from gateway_core.mcp.names import CALLS
from tests.downstream.auth.keys import Keys
from tests.generations.conftest import MODERN, Stand, served, text

pytestmark = pytest.mark.timeout(180)
META = {"io.modelcontextprotocol/protocolVersion": MODERN, "io.modelcontextprotocol/clientCapabilities": {}}
HEADERS = {"MCP-Protocol-Version": MODERN, "Accept": "application/json, text/event-stream"}
KEYS = [{"name": "test_keys"}, {"name": "conflict_autoprefix"}]
NO_KEYS = [{"name": "conflict_autoprefix"}]


@pytest.fixture
def keys(monkeypatch: pytest.MonkeyPatch) -> Keys:
    """Lets files enable a plugin that knows `Bearer key-NAME`."""
    made, real = Keys(PluginConfig()), gateway_core.hooks.loader.load

    def load(entries: Sequence[PluginEntry], source: str, **more: Any) -> tuple[LoadedPlugin, ...]:
        rest = real([one for one in entries if one.name != "test_keys"], source, **more)
        own = LoadedPlugin("test_keys", made, "1", "d", ("authenticate",), "reject", frozenset(CALLS))
        return (own, *rest) if len(rest) < len(entries) else rest

    monkeypatch.setattr(gateway_core.hooks.loader, "load", load)
    return made


def request(method: str, number: int = 1, **params: Any) -> tuple[dict[str, str], bytes]:
    """Headers and body of a modern request."""
    headers = {**HEADERS, "Mcp-Method": method, "Content-Type": "application/json"}
    if "name" in params:
        headers["Mcp-Name"] = params["name"]
    body = {"jsonrpc": "2.0", "id": number, "method": method, "params": {**params, "_meta": META}}
    return headers, json.dumps(body).encode()


async def test_an_open_connection_has_to_prove_itself_once_keys_are_needed(stand: Stand, keys: Keys) -> None:
    """Its handler is remembered, and must not outlive the configuration."""
    await stand.start(served("one"), plugins=NO_KEYS)
    headers, body = request("tools/call", name="one_pid", arguments={})
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=1)) as http:

        async def call(**more: str) -> int:
            async with http.post(f"{stand.gateway.address}/mcp", data=body, headers={**headers, **more}) as answer:
                await answer.read()
                return answer.status

        assert [await call() for _ in range(3)] == [200] * 3
        await stand.reload(served("one"), plugins=KEYS)
        assert await call() == 401
        assert await call(Authorization="Bearer key-ann") == 200
        await stand.reload(served("one"), plugins=NO_KEYS)
        assert await call() == 200


async def test_remembered_verdicts_outlive_a_reload_that_leaves_authentication_alone(stand: Stand, keys: Keys) -> None:
    await stand.start(served("one"), plugins=KEYS)
    headers, body = request("tools/call", name="one_pid", arguments={})
    headers["Authorization"] = "Bearer key-ann"
    async with aiohttp.ClientSession() as http:
        for timeout in (50.0, 51.0, 52.0):
            async with http.post(f"{stand.gateway.address}/mcp", data=body, headers=headers) as answer:
                assert answer.status == 200
            await stand.reload(served("one"), plugins=KEYS, timeout=timeout)
    assert len(keys.asked) == 1


async def test_log_and_record_name_the_generation_that_judged_credentials(stand: Stand, keys: Keys) -> None:
    """Both after a reload that keeps the remembered verdicts, and after one that does not."""
    plugins = [*KEYS, {"name": "audit_log", "sync": "each"}]
    lines: list[tuple[int, str]] = []
    sink = logger.add(lambda line: lines.append((line.record["extra"]["generation"], line.record["message"])), level=30)
    await stand.start(served("one"), plugins=plugins)
    headers, body = request("tools/call", name="one_pid", arguments={})
    changes: list[dict[str, Any]] = [{}, {"timeout": 50.0}, {"anonymous": True}]
    async with aiohttp.ClientSession() as http:
        for number, change in enumerate(changes):
            if change:
                await stand.reload(served("one"), plugins=plugins, **change)
            for name in (f"ann{number}", "wrong"):
                headers["Authorization"] = f"Bearer key-{name}"
                async with http.post(f"{stand.gateway.address}/mcp", data=body, headers=headers) as answer:
                    assert answer.status == (401 if name == "wrong" else 200)
    await stand.settled()
    await stand.gateway.stop()
    logger.remove(sink)
    record = [json.loads(line) for line in stand.path.with_name("audit.jsonl").read_text().splitlines()]
    judged = [one for one in record if one["type"] == "authentication"]
    accepted = [one["generation"] for one in judged if one["decision"] == "allow"]
    assert accepted == [1, 2, 3]
    assert next(one["generation"] for one in judged if one["decision"] == "refuse") == 1
    assert [number for number, text in lines if "was refused" in text] == [1, 3]


async def test_a_body_that_is_on_its_way_is_judged_by_the_new_configuration(stand: Stand, keys: Keys) -> None:
    await stand.start(served("one"), plugins=NO_KEYS)
    headers, body = request("tools/call", name="one_pid", arguments={})
    reader, writer = await asyncio.open_connection("127.0.0.1", int(stand.gateway.address.rpartition(":")[2]))
    lines = [f"{name}: {value}" for name, value in {**headers, "Host": "127.0.0.1"}.items()]
    head = "\r\n".join(["POST /mcp HTTP/1.1", *lines, f"Content-Length: {len(body)}", "", ""])
    writer.write(head.encode() + body[:20])
    await writer.drain()
    async with asyncio.timeout(60):
        while not any(one._handler is not None for one in stand.gateway._server.http._open):  # type: ignore[union-attr]
            await asyncio.sleep(0.01)
    await stand.reload(served("one"), plugins=KEYS)
    writer.write(body[20:])
    assert b" 401 " in await reader.readline()
    writer.close()


async def test_credentials_that_a_plugin_looks_at_are_judged_again_by_the_new_configuration(
    stand: Stand, keys: Keys
) -> None:
    await stand.start(served("one"), plugins=KEYS)
    headers, body = request("tools/call", name="one_pid", arguments={})
    keys.gate.clear()
    async with aiohttp.ClientSession() as http:
        asking = asyncio.ensure_future(http.post(f"{stand.gateway.address}/mcp", data=body, headers=headers))
        async with asyncio.timeout(60):
            while not keys.asked:
                await asyncio.sleep(0.01)
        await stand.reload(served("one"), plugins=NO_KEYS)
        assert len(stand.gateway._reloads.live) == 2  # the plugin is still at work
        keys.gate.set()
        answer = await asking
        assert answer.status == 200
        answer.release()
    await stand.settled()


@pytest.mark.parametrize("credentials", ["", "Bearer key-ann"])
async def test_an_open_stream_ends_when_its_credentials_are_refused_now(
    stand: Stand, keys: Keys, credentials: str
) -> None:
    await stand.start(served("one"), plugins=KEYS, anonymous=True)
    headers, body = request("subscriptions/listen", notifications={"toolsListChanged": True})
    if credentials:
        headers["Authorization"] = credentials
    async with (
        aiohttp.ClientSession() as http,
        http.post(f"{stand.gateway.address}/mcp", data=body, headers=headers) as stream,
    ):
        assert stream.status == 200
        assert b"acknowledged" in await stream.content.readuntil(b"\n\n")
        keys.revoked.add("ann")
        await stand.reload(served("one"), plugins=KEYS)
        async with asyncio.timeout(60):
            with suppress(aiohttp.ClientError):
                while await stream.content.readline():
                    pass


async def test_a_stream_whose_credentials_still_count_goes_on(stand: Stand, keys: Keys) -> None:
    await stand.start(served("one"), plugins=KEYS, anonymous=True)
    headers, body = request("subscriptions/listen", notifications={"toolsListChanged": True})
    headers["Authorization"] = "Bearer key-ann"
    async with (
        aiohttp.ClientSession() as http,
        http.post(f"{stand.gateway.address}/mcp", data=body, headers=headers) as stream,
    ):
        await stream.content.readuntil(b"\n\n")
        await stand.reload(served("one"), plugins=KEYS)
        async with asyncio.timeout(60):
            while len(keys.asked) < 2:
                await asyncio.sleep(0.05)
            await stand.reload(served("one"), served("two"), plugins=KEYS)
            assert b"tools/list_changed" in await stream.content.readuntil(b"\n\n")


async def test_an_unchanged_plugin_keeps_its_counts_and_a_changed_one_begins_again(stand: Stand) -> None:
    def limited(calls: int) -> dict[str, Any]:
        return {"plugins": [{"name": "security_ratelimit", "rate_limit_per_minute": calls}]}

    await stand.start(served("one"), **limited(2))
    async with stand.client() as client:
        for _ in range(2):
            await text(client, "one_pid")
        await stand.reload(served("one"), served("two"), **limited(2))
        with pytest.raises(Exception, match="limit"):
            await text(client, "one_pid")
        await stand.reload(served("one"), served("two"), **limited(3))
        await text(client, "one_pid")


async def test_limits_of_the_gateway_move(stand: Stand, tmp_path: Path) -> None:
    await stand.start(served("one"))
    limits = {"in_flight": 7, "sessions": 8, "sessions_per_principal": 9, "session_idle": 10.0, "page_size": 1}
    limits |= {"parked_calls": 11, "parked_per_principal": 12, "request_body": 300_000, "memory": 2**30}
    await stand.reload(served("one"), limits=limits, max_connections=13, question_timeout=14.0, max_timeout=75.0)
    gateway = stand.gateway
    downstream, server = gateway.downstream, gateway._server
    assert server is not None
    assert (downstream.gate.limit, downstream.gate.shares._of_principal) == (7, 4)
    store: Any = downstream.sessions._store
    assert (store._limit, store._per_principal, store._idle) == (8, 9, 10.0)
    parking = gateway.input_required.parking
    assert (parking._limit, parking._per_principal, parking._wait) == (11, 12, 14.0)
    assert (server.http.max_body, server.http._admitted._limit) == (300_000, 13)
    assert gateway.budget.limit == 2**30
    assert (gateway.pipeline.max_timeout, gateway.pipeline.question_timeout) == (75.0, 14.0)
    async with stand.client() as client:
        assert (await client.list_tools()).next_cursor is not None


async def test_hosts_that_agents_and_operators_may_use_move(stand: Stand) -> None:
    await stand.start(served("one"))
    await stand.gateway.start_control("127.0.0.1", 0)
    urls = (f"{stand.gateway.address}/mcp", f"{stand.gateway.control.address}/admin/status")
    async with aiohttp.ClientSession() as http:

        async def statuses() -> list[int]:
            found = []
            for url in urls:
                async with http.get(url, headers={"Host": "gw.example.com"}) as answer:
                    found.append(answer.status)
            return found

        assert set(await statuses()) <= {403, 421}
        await stand.reload(served("one"), allowed_hosts=["gw.example.com"])
        assert not set(await statuses()) & {403, 421}


async def test_an_agent_on_http_sse_goes_on_over_reloads(stand: Stand) -> None:
    """Calls in flight, calls that begin afterwards, and notices come over the stream that was open before."""
    changed = asyncio.Event()

    async def noticed(message: Any) -> None:
        if type(message).__name__ == "ToolListChangedNotification":
            changed.set()

    await stand.start(served("one"), transport="sse")
    async with Client(
        sse_client(f"{stand.gateway.address}/sse"), mode="legacy", read_timeout_seconds=60, message_handler=noticed
    ) as client:
        before = await text(client, "one_pid")
        waiting = asyncio.ensure_future(text(client, "one_wait", seconds=1.0))
        async with asyncio.timeout(60):
            while not stand.gateway._reloads.in_flight:
                await asyncio.sleep(0.01)
        await stand.reload(served("one"), served("two"), transport="sse")
        assert await text(client, "one_pid") == before
        assert await waiting == "waited"
        await text(client, "two_pid")
        async with asyncio.timeout(60):
            await changed.wait()
        await stand.reload(served("one"), transport="sse", timeout=31.0)
        assert await text(client, "one_pid") == before
    async with asyncio.timeout(60):
        while len(stand.gateway.sessions):
            await asyncio.sleep(0.01)


async def test_open_streams_outlive_a_reload_that_disables_http_sse(stand: Stand) -> None:
    await stand.start(served("one"), transport="sse")
    url = f"{stand.gateway.address}/sse"
    async with Client(sse_client(url), mode="legacy", read_timeout_seconds=60) as client:
        before = await text(client, "one_pid")
        await stand.reload(served("one"), transport="http")
        assert await text(client, "one_pid") == before
        async with aiohttp.ClientSession() as http, http.get(url) as answer:
            assert answer.status == 404
        await stand.reload(served("one"), transport="http", timeout=31.0)
        assert await text(client, "one_pid") == before
        await stand.reload(served("one"), transport="sse")
        assert await text(client, "one_pid") == before
    await stand.reload(served("one"), transport="http")
    async with aiohttp.ClientSession() as http:
        for address in (url, url.replace("/sse", "/messages?session_id=1")):
            async with http.post(address, json={}) as answer:
                assert answer.status == 404


async def test_the_address_for_messages_goes_with_the_last_stream_after_a_reload_has_disabled_http_sse(
    stand: Stand,
) -> None:
    async def statuses(http: aiohttp.ClientSession) -> list[int]:
        found = []
        for method, path in (
            ("POST", "/messages"),
            ("POST", "/messages/"),
            ("GET", "/messages"),
            ("OPTIONS", "/messages"),
        ):
            async with http.request(method, stand.gateway.address + path, json={}) as answer:
                found.append(answer.status)
        return found

    await stand.start(served("one"), transport="sse")
    url = f"{stand.gateway.address}/sse"
    async with aiohttp.ClientSession() as http:
        async with Client(sse_client(url), mode="legacy", read_timeout_seconds=60) as client:
            await stand.reload(served("one"), transport="http")
            assert await statuses(http) == [400, 400, 405, 204]
            await text(client, "one_pid")
        async with asyncio.timeout(60):
            while len(stand.gateway.sessions):
                await asyncio.sleep(0.01)
        assert await statuses(http) == [404, 404, 404, 404]
