"""Requests and streams of callers, over real sockets: what begins with credentials ends with them."""

import asyncio
from typing import Any

import aiohttp
import pytest

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
