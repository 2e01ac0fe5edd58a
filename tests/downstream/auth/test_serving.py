"""Requests and streams of callers, over real sockets: what begins with credentials ends with them."""

import asyncio
import json
from typing import Any

import aiohttp
import pytest

from gateway_core.config import ProfileConfig, UpstreamConfig
from gateway_core.downstream.auth.authentication import STRANGERS
from gateway_core.downstream.auth.caller import in_profile
from tests.downstream.auth.keys import Keys, bearer, call


@pytest.mark.parametrize("transport", ["listen", "GET", "HTTP+SSE"])
@pytest.mark.parametrize("revoked", [True, False])
async def test_a_stream_ends_when_its_credentials_are_refused(
    start: Any, helpers: Any, transport: str, revoked: bool
) -> None:
    keys = Keys()
    keys.remember = 0.3
    world = await start(authenticators=[keys], transport="sse")
    headers = {"Accept": "text/event-stream, application/json", **bearer("alice")}
    if transport == "listen":
        given, body = helpers.modern("subscriptions/listen", {"notifications": {"toolsListChanged": True}})
        opening = world.http.post(world.url, json=body, headers={**given, **headers})
    elif transport == "GET":
        opening = world.http.get(world.url, headers={**await world.initialize(**bearer("alice")), **headers})
    else:
        opening = world.http.get(f"{world.base}/sse", headers=headers)
    async with opening as stream:
        assert stream.status == 200
        asked = len(keys.asked)
        if revoked:
            keys.revoked.add("alice")
            async with asyncio.timeout(20):
                with pytest.raises(aiohttp.ClientError):
                    await stream.content.read()
        else:
            keys.broken = True  # nothing is known for a while, so the stream stays
            while len(keys.asked) < asked + 1:
                await asyncio.sleep(0.05)
            keys.broken = False
            await asyncio.sleep(0.3)
            assert not stream.content.at_eof()


async def test_a_refused_client_takes_no_place(start: Any, helpers: Any) -> None:
    world = await start(authenticators=[Keys()], max_connections=1)
    for name in ("wrong", "wrong"):  # looked at, and remembered
        async with aiohttp.ClientSession() as world.http:
            assert (await call(world, helpers, "modern", bearer(name))).status == 401
            assert world.server.connections == 0
    async with aiohttp.ClientSession() as world.http:
        assert (await call(world, helpers, "modern", bearer("alice"))).status == 200
        assert world.server.connections == 1


@pytest.mark.parametrize("transport", ["listen", "HTTP+SSE"])
async def test_a_stream_ends_when_its_credentials_prove_other_rights(start: Any, helpers: Any, transport: str) -> None:
    keys = Keys()
    keys.remember, keys.groups = 0.3, ["staff"]
    world = await start(authenticators=[keys], transport="sse")
    headers = {"Accept": "text/event-stream, application/json", **bearer("alice")}
    given, body = helpers.modern("subscriptions/listen", {"notifications": {"toolsListChanged": True}})
    opening = (
        world.http.post(world.url, json=body, headers={**given, **headers})
        if transport == "listen"
        else world.http.get(f"{world.base}/sse", headers=headers)
    )
    async with opening as stream:
        keys.groups = []
        async with asyncio.timeout(20):
            with pytest.raises(aiohttp.ClientError):
                await stream.content.read()


async def _until(condition: Any) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.01)


def _raw(headers: dict[str, str], body: dict[str, Any]) -> tuple[bytes, bytes]:
    payload = json.dumps(body).encode()
    given = {"Host": "localhost", "Content-Type": "application/json", "Content-Length": len(payload), **headers}
    lines = "".join(f"{name}: {value}\r\n" for name, value in given.items())
    return f"POST /mcp HTTP/1.1\r\n{lines}\r\n".encode(), payload


@pytest.mark.parametrize("who", ["address", "principal", "unknown key"])
async def test_a_body_behind_a_proxy_counts_for_the_client_and_not_for_the_proxy(
    start: Any, helpers: Any, who: str
) -> None:
    proxies = {"networks": ["127.0.0.1"]}
    world = await start(trusted_proxies=proxies, authenticators=[] if who == "address" else [Keys()], anonymous=True)
    given, body = helpers.modern("tools/call", {"name": "echo", "arguments": {"text": "x" * 50_000}})
    headers = {**given, "X-Forwarded-For": "203.0.113.9", **({} if who == "address" else bearer("alice"))}
    owner = "203.0.113.9"
    if who == "principal":
        assert (await world.post(body, headers)).status == 200
        owner = "alice|keys"
    head, payload = _raw(headers, body)
    reader, writer = await asyncio.open_connection("127.0.0.1", world.server.port)
    writer.write(head + payload[:-1])
    await _until(lambda: world.budget.held_by(owner) > 0)
    assert world.budget.held_by("127.0.0.1") == 0
    writer.write(payload[-1:])
    assert b"200 OK" in await reader.readline()
    await _until(lambda: world.budget.held_by(owner) == 0)
    writer.close()


async def test_bodies_with_unknown_credentials_have_one_share_however_many_networks_send_them(
    start: Any, helpers: Any
) -> None:
    keys = Keys()
    keys.remember = 0.05
    world = await start(trusted_proxies={"networks": ["127.0.0.1"]}, authenticators=[keys])
    given, body = helpers.modern("tools/call", {"name": "echo", "arguments": {"text": "x" * 50_000}})
    assert (await world.post(body, {**given, **bearer("alice")})).status == 200
    await asyncio.sleep(0.1)  # until the plugin has to be asked again
    writers = []
    for name, address in [
        ("alice", "203.0.113.1"),
        ("eve", "203.0.113.1"),
        ("eve", "203.0.113.2"),
        ("", "203.0.113.3"),
    ]:
        headers = {
            **given,
            **({"X-Forwarded-For": address} if name != "alice" else {}),
            **(bearer(name) if name else {}),
        }
        head, payload = _raw(headers, body)
        _, writer = await asyncio.open_connection("127.0.0.1", world.server.port)
        writer.write(head + payload[:-1])
        writers.append(writer)
        owner = "alice|keys" if name == "alice" else STRANGERS
        before = world.budget.held_by(owner)
        await _until(lambda owner=owner, before=before: world.budget.held_by(owner) > before)
    assert not any(world.budget.held_by(f"203.0.113.{number}") for number in (1, 2, 3))
    for writer in writers:
        writer.close()


async def test_what_a_client_behind_a_proxy_does_not_read_counts_for_it(start: Any, helpers: Any) -> None:
    world = await start(trusted_proxies={"networks": ["127.0.0.1"]})
    given, body = helpers.modern("tools/call", {"name": "big", "arguments": {"bytes": 16_000_000}})
    head, payload = _raw({**given, "X-Forwarded-For": "203.0.113.9"}, body)
    _, writer = await asyncio.open_connection("127.0.0.1", world.server.port)
    writer.write(head + payload)
    await _until(lambda: world.budget.held_by("203.0.113.9") > 1_000_000)
    assert world.budget.held_by("127.0.0.1") == 0
    writer.transport.abort()
    await _until(lambda: world.budget.held_by("203.0.113.9") == 0)


async def test_callers_are_not_remembered_with_what_their_requests_present(start: Any, helpers: Any) -> None:
    upstream = UpstreamConfig(name="a", transport="http", url="http://t/mcp", forward={"K": "header:X-K"})  # type: ignore[arg-type]
    world = await start(upstreams=(upstream,), profiles=(ProfileConfig(name="small", default=True),))
    in_profile.cache_clear()
    seen = []
    begin = world.pipeline.begin

    def noting(exchange: Any, params: Any) -> Any:
        seen.append((exchange.agent.principal.profile, exchange.agent.presented.header("x-k")))
        return begin(exchange, params)

    world.pipeline.begin = noting
    for number in range(5):
        assert (await call(world, helpers, "modern", {"X-K": f"secret-{number}"})).status == 200
    assert seen == [("small", f"secret-{number}") for number in range(5)]
    assert in_profile.cache_info().currsize <= 1
