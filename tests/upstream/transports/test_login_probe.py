"""How an upstream is asked, without a token, what it wants."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from aiohttp import web

from gateway_core.config import LimitsConfig, UpstreamConfig
from gateway_core.errors import NotSent
from gateway_core.upstream.transports.client import HttpClient
from gateway_core.upstream.transports.login_probe import challenge_of

Served = Callable[..., Awaitable[tuple[HttpClient, list[tuple[str, str]]]]]
CHALLENGE = {"WWW-Authenticate": 'Bearer scope="a b", resource_metadata="https://x.example/prm"'}


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    """A server that answers each HTTP method as the test says, and a client without tokens."""
    runners: list[Any] = []

    async def serve(**answers: web.Response) -> tuple[HttpClient, list[tuple[str, str]]]:
        seen: list[tuple[str, str]] = []

        async def answer(request: web.BaseRequest) -> web.Response:
            message = await request.json() if request.method == "POST" else {"method": ""}
            seen.append((request.method, message["method"]))
            assert "Authorization" not in request.headers
            return answers.get(request.method, web.Response(status=405))

        runner = web.ServerRunner(web.Server(answer))
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}/mcp"
        client = HttpClient(UpstreamConfig(name="up", transport="http", url=url), LimitsConfig())
        runners.extend([client.close, runner.cleanup])
        return client, seen

    yield serve
    for end in runners:
        await end()


async def test_the_first_401_is_the_challenge(served: Served) -> None:
    client, seen = await served(POST=web.Response(status=401, headers=CHALLENGE))
    challenge = await challenge_of(client, is_sse=False)
    assert challenge.scopes == ("a", "b")
    assert challenge.resource_metadata == "https://x.example/prm"
    assert seen == [("POST", "tools/list")]
    assert client.access.addresses == {"127.0.0.1"}


async def test_a_server_that_lists_without_a_token_is_asked_for_its_stream_too(served: Served) -> None:
    client, seen = await served(GET=web.Response(status=401, headers=CHALLENGE))
    assert (await challenge_of(client, is_sse=False)).scopes == ("a", "b")
    assert seen == [("POST", "tools/list"), ("GET", "")]


async def test_the_older_transport_has_only_the_stream(served: Served) -> None:
    client, seen = await served(GET=web.Response(status=401))
    assert (await challenge_of(client, is_sse=True)).scopes == ()
    assert seen == [("GET", "")]


async def test_a_server_that_wants_no_token_gives_no_challenge(served: Served) -> None:
    client, _ = await served()
    challenge = await challenge_of(client, is_sse=False)
    assert (challenge.scopes, challenge.resource_metadata) == ((), None)


async def test_a_server_that_is_not_there_says_so() -> None:
    client = HttpClient(UpstreamConfig(name="up", transport="http", url="http://127.0.0.1:1/mcp"), LimitsConfig())
    with pytest.raises(NotSent):
        await challenge_of(client, is_sse=False)
    await client.close()
