"""Client credentials, with a token endpoint of the tests' own on a real socket."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs

import pytest
from loguru import logger
from pydantic import SecretStr

from gateway_core.api import Principal
from gateway_core.config import AuthConfig, UpstreamConfig
from gateway_core.errors import NotSent, RefusedUpstream
from gateway_core.exchange.exchange import Agent, Exchange
from gateway_core.upstream.auth import Challenge, documents, tokens
from gateway_core.upstream.auth.tokens import RenewalCounts

SECRET = "s3cr3t:/ä&"
CALL = ("tools/call", {"name": "t", "arguments": {}})


class Endpoint:
    """A token endpoint: counts, checks the client, and answers what the test says."""

    def __init__(self) -> None:
        self.url = ""
        self.forms: list[dict[str, str]] = []
        self.basic: list[str | None] = []
        self.life: Any = 3600
        self.delay = 0.0
        self.override: tuple[int, str] | None = None
        self.only_body = False

    def answer(self, headers: dict[str, str], form: dict[str, str]) -> tuple[int, str]:
        self.forms.append(form)
        given = headers.get("authorization")
        self.basic.append(base64.b64decode(given.removeprefix("Basic ")).decode() if given else None)
        if self.override is not None:
            return self.override
        if self.only_body and "client_secret" not in form:
            return 401, json.dumps({"error": "invalid_client", "error_description": SECRET})
        token: dict[str, Any] = {"access_token": f"token-{len(self.forms)}", "token_type": "Bearer"}
        if self.life is not None:
            token["expires_in"] = self.life
        return 200, json.dumps(token)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            headers = {k.lower(): v for k, _, v in (line.partition(": ") for line in head[1:] if line)}
            body = (await reader.readexactly(int(headers["content-length"]))).decode()
            await asyncio.sleep(self.delay)
            status, text = self.answer(headers, {k: v[0] for k, v in parse_qs(body).items()})
            writer.write(
                f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\n"
                f"Location: http://127.0.0.1:1/\r\nContent-Length: {len(text.encode())}\r\n\r\n{text}".encode()
            )


@pytest.fixture
async def endpoint(listen_on: Any) -> Endpoint:
    found = Endpoint()
    found.url = f"http://127.0.0.1:{await listen_on(found.serve)}/token?tenant=hidden"
    return found


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Move the clock that tokens live by."""
    moved = 0.0
    real = time.monotonic

    def move(seconds: float) -> None:
        nonlocal moved
        moved += seconds

    monkeypatch.setattr(tokens.time, "monotonic", lambda: real() + moved)
    return move


def settings(endpoint: Endpoint, **more: Any) -> AuthConfig:
    return AuthConfig(token_url=endpoint.url, client_id="the client", client_secret=SecretStr(SECRET), **more)


async def protected(scripted: Any, connect: Any, endpoint: Endpoint, valid: Callable[[str], bool], **more: Any) -> Any:
    """An upstream that answers 401 to tokens that are not `valid`, and a connection to it."""

    async def script(seen: Any, writer: Any) -> None:
        if valid(seen.headers.get("authorization", "")):
            body = json.dumps({"jsonrpc": "2.0", "id": seen.message["id"], "result": {"ok": True}})
            head = f"HTTP/1.1 200 X\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
            writer.write((head + body).encode())
        else:
            writer.write(b"HTTP/1.1 401 X\r\nWWW-Authenticate: Bearer\r\nContent-Length: 0\r\n\r\n")

    server = await scripted(script)
    return await connect(server.url, auth=settings(endpoint), **more), server


async def test_one_token_serves_all_requests(scripted: Any, connect: Any, endpoint: Endpoint) -> None:
    link, server = await protected(scripted, connect, endpoint, lambda value: value == "Bearer token-1")
    await asyncio.gather(*[link.connection.request(*CALL) for _ in range(20)])
    assert len(endpoint.forms) == 1
    assert {seen.headers["authorization"] for seen in server.seen} == {"Bearer token-1"}


async def test_the_secret_goes_into_a_header_and_scope_and_resource_into_the_body(
    scripted: Any, connect: Any, endpoint: Endpoint
) -> None:
    async def script(seen: Any, writer: Any) -> None:
        raise AssertionError

    auth_config = settings(endpoint, scope="a b", resource="https://mcp.example.com/mcp")
    await connect((await scripted(script)).url, auth=auth_config)
    assert endpoint.forms == [
        {"grant_type": "client_credentials", "scope": "a b", "resource": "https://mcp.example.com/mcp"}
    ]
    assert endpoint.basic == ["the+client:s3cr3t%3A%2F%C3%A4%26"]


async def test_an_endpoint_that_wants_the_secret_in_the_body_gets_it_there_from_then_on(
    scripted: Any, connect: Any, endpoint: Endpoint, clock: Any
) -> None:
    endpoint.only_body = True
    link, _ = await protected(scripted, connect, endpoint, lambda value: True)
    assert [form.get("client_secret") for form in endpoint.forms] == [None, SECRET]
    assert endpoint.forms[1]["client_id"] == "the client"
    assert endpoint.basic[1] is None
    clock(4000)
    await link.connection.request(*CALL)
    assert [form.get("client_secret") for form in endpoint.forms] == [None, SECRET, SECRET]


async def test_a_refused_token_is_renewed_once_and_the_request_sent_again(
    scripted: Any, connect: Any, endpoint: Endpoint
) -> None:
    revoked: set[str] = set()
    link, server = await protected(scripted, connect, endpoint, lambda value: value not in revoked)
    await link.connection.request(*CALL)
    revoked.add("Bearer token-1")
    replies = await asyncio.gather(*[link.connection.request(*CALL) for _ in range(10)])
    assert all(reply.result for reply in replies)
    assert len(endpoint.forms) == 2
    assert server.seen[-1].headers["authorization"] == "Bearer token-2"
    assert await link.http.tokens.challenged(
        "Bearer token-1", 401, Challenge()
    )  # a late 401 to the old token changes nothing
    assert len(endpoint.forms) == 2


async def test_a_new_token_that_is_refused_too_ends_the_attempts(
    scripted: Any, connect: Any, endpoint: Endpoint, clock: Any
) -> None:
    link, server = await protected(scripted, connect, endpoint, lambda value: False)
    for _ in range(3):
        with pytest.raises(RefusedUpstream) as caught:
            await link.connection.request(*CALL)
        assert caught.value.status == 401
    assert len(endpoint.forms) == 2
    assert len(server.of("tools/call")) == 4  # twice, then once each
    clock(31)
    with pytest.raises(RefusedUpstream):
        await link.connection.request(*CALL)
    assert len(endpoint.forms) == 3


async def test_a_401_without_oauth_is_final(scripted: Any, connect: Any) -> None:
    async def script(seen: Any, writer: Any) -> None:
        writer.write(b"HTTP/1.1 401 X\r\nContent-Length: 0\r\n\r\n")

    server = await scripted(script)
    link = await connect(server.url)
    with pytest.raises(RefusedUpstream):
        await link.connection.request(*CALL)
    assert len(server.of("tools/call")) == 1


async def test_a_token_is_renewed_ahead_of_its_expiry_without_holding_calls_up(
    scripted: Any, connect: Any, endpoint: Endpoint, clock: Any
) -> None:
    link, server = await protected(scripted, connect, endpoint, lambda value: True)
    clock(3600 - 61)
    await link.connection.request(*CALL)
    assert len(endpoint.forms) == 1
    clock(2)
    endpoint.delay = 0.2
    await asyncio.gather(*[link.connection.request(*CALL) for _ in range(5)])
    assert {seen.headers["authorization"] for seen in server.of("tools/call")} == {"Bearer token-1"}
    await asyncio.sleep(0.3)
    await link.connection.request(*CALL)
    assert server.seen[-1].headers["authorization"] == "Bearer token-2"
    assert len(endpoint.forms) == 2


async def test_an_expired_token_is_not_sent(scripted: Any, connect: Any, endpoint: Endpoint, clock: Any) -> None:
    link, server = await protected(scripted, connect, endpoint, lambda value: True)
    clock(3601)
    await asyncio.gather(*[link.connection.request(*CALL) for _ in range(5)])
    assert {seen.headers["authorization"] for seen in server.of("tools/call")} == {"Bearer token-2"}
    assert len(endpoint.forms) == 2


@pytest.mark.parametrize(("life", "uses"), [(None, 1), ("junk", 1), ("3600", 2), (40, 2), (0, 2)])
async def test_lives_of_all_kinds(
    scripted: Any, connect: Any, endpoint: Endpoint, clock: Any, life: Any, uses: int
) -> None:
    endpoint.life = life
    link, _ = await protected(scripted, connect, endpoint, lambda value: True)
    clock(100_000)
    endpoint.life = 10_000_000
    await link.connection.request(*CALL)
    assert len(endpoint.forms) == uses


@pytest.mark.parametrize(
    ("status", "text", "reason"),
    [
        (500, f"stack trace with {SECRET}", "HTTP 500"),
        (400, json.dumps({"error": "invalid_scope", "error_description": SECRET}), r"HTTP 400 \(invalid_scope\)"),
        (401, json.dumps({"error": SECRET}), "HTTP 401"),
        (302, "", "HTTP 302"),
        (200, "<html>", "no usable access_token"),
        (200, json.dumps({"access_token": ""}), "no usable access_token"),
        (200, json.dumps({"access_token": "a\r\nX-Evil: 1"}), "no usable access_token"),
        (200, json.dumps({"access_token": "a", "token_type": "mac"}), "not a bearer token"),
        (200, json.dumps({"access_token": "a", "junk": "x" * 70_000}), "larger than 65536 bytes"),
    ],
)
async def test_a_failing_endpoint_means_not_sent_and_no_secret_is_told(
    scripted: Any, connect: Any, endpoint: Endpoint, status: int, text: str, reason: str
) -> None:
    async def script(seen: Any, writer: Any) -> None:
        raise AssertionError

    logged: list[str] = []
    sink = logger.add(logged.append, level=logging.DEBUG, format="{message} {exception}")
    endpoint.override = (status, text)
    server = await scripted(script)
    link = await connect(server.url, auth=settings(endpoint), opened=False)
    with pytest.raises(NotSent, match=reason) as caught:
        await link.connection.open(None)
    logger.remove(sink)
    assert "upstream 'fixture' from 127.0.0.1" in caught.value.reason
    assert caught.value.retry_after == pytest.approx(1, abs=0.5)
    assert server.seen == []
    for words in (caught.value.reason, *logged):
        assert SECRET not in words
        assert "s3cr3t" not in words
        assert "tenant" not in words


async def test_a_failing_endpoint_is_left_alone_for_longer_and_longer(
    scripted: Any, connect: Any, endpoint: Endpoint, clock: Any
) -> None:
    endpoint.override = (500, "")
    link = await connect("http://127.0.0.1:1/mcp", auth=settings(endpoint), opened=False)
    waits = []
    for _ in range(7):
        for _ in range(3):
            with pytest.raises(NotSent) as caught:
                await link.http.tokens.authorization()
        waits.append(caught.value.retry_after)
        clock(caught.value.retry_after)
    assert waits == [pytest.approx(n, abs=0.2) for n in (1, 2, 4, 8, 16, 30, 30)]
    assert len(endpoint.forms) == 7
    endpoint.override = None
    assert await link.http.tokens.authorization() == "Bearer token-8"


async def test_a_token_outlives_a_failed_renewal(scripted: Any, connect: Any, endpoint: Endpoint, clock: Any) -> None:
    link, _ = await protected(scripted, connect, endpoint, lambda value: True)
    endpoint.override = (500, "")
    clock(3600 - 30)
    for _ in range(5):
        assert (await link.connection.request(*CALL)).result
        await asyncio.sleep(0.02)
    assert len(endpoint.forms) == 2
    clock(31)
    attempt = Exchange(Agent(Principal("t"), "modern", "2026-07-28"), "tools/call")
    with pytest.raises(NotSent):
        await link.connection.request(*CALL, exchange=attempt)
    assert not attempt.sent


async def test_counts_of_renewals_agree_with_the_endpoint(
    scripted: Any, connect: Any, endpoint: Endpoint, clock: Any
) -> None:
    link, _ = await protected(scripted, connect, endpoint, lambda value: True)
    tokens = link.http.tokens
    clock(3601)
    await asyncio.gather(*[link.connection.request(*CALL) for _ in range(5)])
    assert tokens.counts == RenewalCounts(renewed=2)
    assert len(endpoint.forms) == 2
    endpoint.override = (500, "")
    clock(3601)
    for _ in range(3):
        with pytest.raises(NotSent):
            await link.connection.request(*CALL)
    assert tokens.counts == RenewalCounts(renewed=2, failed=1)
    assert len(endpoint.forms) == 3


async def test_a_closed_client_has_not_failed_to_renew(connect: Any, endpoint: Endpoint) -> None:
    endpoint.delay = 0.3
    link = await connect("http://127.0.0.1:1/mcp", auth=settings(endpoint), opened=False)
    waiting = asyncio.create_task(link.http.tokens.authorization())
    await asyncio.sleep(0.05)
    await link.http.close()
    with pytest.raises(NotSent):
        await waiting
    assert link.http.tokens.counts == RenewalCounts()


async def test_the_time_of_expiry_is_that_of_the_token(
    scripted: Any, connect: Any, endpoint: Endpoint, clock: Any
) -> None:
    link = await connect("http://127.0.0.1:1/mcp", auth=settings(endpoint), opened=False)
    tokens = link.http.tokens
    assert tokens.expires_at is None
    await tokens.authorization()
    assert tokens.expires_at == pytest.approx(time.time() + 3600, abs=60)
    clock(3700)
    assert tokens.expires_at == pytest.approx(time.time() - 100, abs=60), "it stays while there is no other token"
    endpoint.life = None
    await tokens.authorization()
    assert tokens.expires_at is None


async def test_a_slow_endpoint_is_bounded(connect: Any, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "TIMEOUT", 0.1)
    endpoint.delay = 1.0
    link = await connect("http://127.0.0.1:1/mcp", auth=settings(endpoint), opened=False)
    with pytest.raises(NotSent, match=r"no answer within 0.1 s"):
        await link.http.tokens.authorization()


async def test_an_endpoint_that_is_not_there(connect: Any) -> None:
    config = AuthConfig(token_url="http://127.0.0.1:1/token", client_id="c", client_secret=SecretStr("abcdef"))
    link = await connect("http://127.0.0.1:1/mcp", auth=config, opened=False)
    with pytest.raises(NotSent, match=r"from 127\.0\.0\.1: not reachable"):
        await link.http.tokens.authorization()


async def test_one_cancelled_request_does_not_end_the_renewal_for_others(connect: Any, endpoint: Endpoint) -> None:
    endpoint.delay = 0.2
    link = await connect("http://127.0.0.1:1/mcp", auth=settings(endpoint), opened=False)
    first, second = (
        asyncio.create_task(link.http.tokens.authorization()),
        asyncio.create_task(link.http.tokens.authorization()),
    )
    await asyncio.sleep(0.05)
    first.cancel()
    assert await second == "Bearer token-1"
    assert first.cancelled()
    assert len(endpoint.forms) == 1


async def test_closing_ends_a_renewal_under_way(connect: Any, endpoint: Endpoint) -> None:
    endpoint.delay = 0.3
    link = await connect("http://127.0.0.1:1/mcp", auth=settings(endpoint), opened=False)
    waiting = asyncio.create_task(link.http.tokens.authorization())
    await asyncio.sleep(0.05)
    await link.http.close()
    with pytest.raises(NotSent, match="closing"):
        await waiting


async def test_the_token_wins_over_a_configured_header(scripted: Any, connect: Any, endpoint: Endpoint) -> None:
    headers = {"authorization": "Bearer configured", "X-Api-Key": "k"}
    _, server = await protected(scripted, connect, endpoint, lambda value: True, headers=headers)
    assert server.seen[0].headers["authorization"] == "Bearer token-1"
    assert server.seen[0].headers["x-api-key"] == "k"


def test_settings_do_not_show_the_secret(endpoint: Endpoint) -> None:
    config = UpstreamConfig(name="x", transport="http", url="http://127.0.0.1:1/", auth=settings(endpoint))
    assert "s3cr3t" not in repr(config)


async def test_the_gateway_learns_each_access_token_as_a_secret(
    scripted: Any, connect: Any, endpoint: Endpoint, clock: Any
) -> None:
    link, _ = await protected(scripted, connect, endpoint, lambda value: True)
    for number in (1, 2):
        await link.connection.request(*CALL)
        assert link.http.tokens._held.clean_line(b"got token-%d" % number) == b"got [REDACTED]"
        clock(4000)
