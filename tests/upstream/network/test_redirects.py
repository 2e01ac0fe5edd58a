"""Redirects: followed inside the origin, named in the error beyond it."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from gateway_core.errors import DeliveryError, OutcomeUnknown, RefusedUpstream
from gateway_core.upstream.network.redirects import MAX_REDIRECTS

CALL = ("tools/call", {"name": "t", "arguments": {"n": 1}})


def result(seen: Any) -> bytes:
    reply = json.dumps({"jsonrpc": "2.0", "id": seen.message.get("id"), "result": {"n": 1}})
    return f"HTTP/1.1 200 X\r\nContent-Type: application/json\r\nContent-Length: {len(reply)}\r\n\r\n{reply}".encode()


def redirect(status: int, location: str, more: str = "") -> bytes:
    return f"HTTP/1.1 {status} X\r\nLocation: {location}\r\n{more}Content-Length: 3\r\n\r\nyou".encode()


@pytest.mark.parametrize("status", [307, 308])
@pytest.mark.parametrize("location", ["/mcp/", "mcp/?a=b", "http://HOST/mcp/", "//HOST/mcp/", "/mcp/#part"])
async def test_a_redirect_inside_the_origin_is_followed(
    scripted: Any, connect: Any, status: int, location: str
) -> None:
    async def script(seen: Any, writer: Any) -> None:
        there = location.replace("HOST", seen.headers["host"])
        writer.write(redirect(status, there) if seen.path == "/mcp" else result(seen))

    server = await scripted(script)
    link = await connect(server.url, headers={"X-Api-Key": "k"})
    for _ in range(2):
        assert json.loads((await link.connection.request(*CALL)).result) == {"n": 1}
    calls = server.of("tools/call")
    assert [seen.path for seen in calls[:2]] == ["/mcp", "/mcp/?a=b" if "?" in location else "/mcp/"]
    assert calls[0].body == calls[1].body
    assert calls[1].headers["x-api-key"] == "k"
    assert server.connections == 1


async def test_a_server_is_found_where_it_redirects_from_the_start(scripted: Any, connect: Any) -> None:
    async def script(seen: Any, writer: Any) -> None:
        if seen.path == "/mcp":
            writer.write(redirect(307, "/mcp/"))
        else:
            about = {"supportedVersions": ["2026-07-28"], "capabilities": {}}
            reply = {"jsonrpc": "2.0", "id": seen.message["id"], "result": about}
            text = json.dumps(reply)
            head = f"HTTP/1.1 200 X\r\nContent-Type: application/json\r\nContent-Length: {len(text)}\r\n\r\n"
            writer.write(f"{head}{text}".encode())

    link = await connect((await scripted(script, era="none")).url)
    assert link.connection.info.era == "modern"


async def test_a_cookie_that_comes_with_a_redirect_is_sent_to_its_destination(scripted: Any, connect: Any) -> None:
    async def script(seen: Any, writer: Any) -> None:
        known = seen.headers.get("cookie") == "checked=1"
        writer.write(result(seen) if known else redirect(307, "/mcp", "Set-Cookie: checked=1\r\n"))

    server = await scripted(script)
    link = await connect(server.url)
    for _ in range(2):
        assert (await link.connection.request(*CALL)).error is None
    assert len(server.of("tools/call")) == 3


@pytest.mark.parametrize("status", [307, 308])
async def test_another_origin_is_named_and_gets_nothing(scripted: Any, connect: Any, status: int) -> None:
    async def elsewhere(seen: Any, writer: Any) -> None:
        raise AssertionError

    other = await scripted(elsewhere, era="none")

    async def script(seen: Any, writer: Any) -> None:
        writer.write(redirect(status, f"{other.url}?key=secret"))

    server = await scripted(script)
    link = await connect(server.url, headers={"X-Api-Key": "secret"})
    with pytest.raises(RefusedUpstream, match=f"redirects to http://127.0.0.1:{other.port}, another origin") as caught:
        await link.connection.request(*CALL)
    assert "secret" not in caught.value.reason
    assert other.connections == 0
    assert len(server.of("tools/call")) == 1


@pytest.mark.parametrize(
    "location",
    ["https://127.0.0.1:PORT/mcp", "http://user:password@127.0.0.1:PORT/mcp", "http://localhost:PORT/mcp"],
)
async def test_what_only_looks_like_the_origin_gets_nothing(scripted: Any, connect: Any, location: str) -> None:
    async def script(seen: Any, writer: Any) -> None:
        writer.write(redirect(307, location.replace("PORT", seen.headers["host"].partition(":")[2])))

    server = await scripted(script)
    link = await connect(server.url)
    with pytest.raises(RefusedUpstream) as caught:
        await link.connection.request(*CALL)
    assert "password" not in caught.value.reason
    assert len(server.of("tools/call")) == 1


@pytest.mark.parametrize("location", ["", "http://[", "/" * 5000, "ftp://127.0.0.1/", "/a\r\nLocation: /b", "/\x80"])
async def test_a_location_that_leads_nowhere_is_an_error(scripted: Any, connect: Any, location: str) -> None:
    async def script(seen: Any, writer: Any) -> None:
        writer.write(f"HTTP/1.1 307 X\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n".encode("latin-1"))

    link = await connect((await scripted(script)).url)
    with pytest.raises(DeliveryError, match="307"):
        await link.connection.request(*CALL)


async def test_a_circle_of_redirects_ends(scripted: Any, connect: Any) -> None:
    async def script(seen: Any, writer: Any) -> None:
        writer.write(redirect(307, "/b" if seen.path == "/mcp" else "/mcp"))

    server = await scripted(script)
    link = await connect(server.url)
    with pytest.raises(RefusedUpstream, match="more than"):
        await link.connection.request(*CALL)
    assert len(server.of("tools/call")) == MAX_REDIRECTS + 1


@pytest.mark.parametrize("status", [301, 302, 303])
async def test_a_redirect_that_makes_a_get_of_a_call_is_not_followed(scripted: Any, connect: Any, status: int) -> None:
    async def script(seen: Any, writer: Any) -> None:
        writer.write(redirect(status, "/login"))

    server = await scripted(script)
    link = await connect(server.url)
    with pytest.raises(OutcomeUnknown, match=f"HTTP {status} to http://127.0.0.1"):
        await link.connection.request(*CALL)
    assert [seen.path for seen in server.of("tools/call")] == ["/mcp"]


async def test_a_destination_that_does_not_answer_leaves_the_outcome_unknown(scripted: Any, connect: Any) -> None:
    async def script(seen: Any, writer: Any) -> None:
        if seen.path == "/mcp":
            writer.write(redirect(307, "/mcp/"))
        else:
            writer.close()

    server = await scripted(script)
    link = await connect(server.url)
    with pytest.raises(OutcomeUnknown):
        await link.connection.request(*CALL)
    assert len(server.of("tools/call")) == 2


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_the_stream_of_a_server_is_found_where_it_redirects(scripted: Any, connect: Any, status: int) -> None:
    async def script(seen: Any, writer: Any) -> None:
        if seen.verb == "GET" and seen.path == "/mcp":
            writer.write(redirect(status, "/stream"))
        elif seen.verb == "GET":
            notice = '{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}'
            writer.write(f"HTTP/1.1 200 X\r\nContent-Type: text/event-stream\r\n\r\ndata: {notice}\n\n".encode())
            await seen.hang_up()
        else:
            writer.write(result(seen))

    server = await scripted(script, era="legacy", session="s-1")
    link = await connect(server.url)
    await server.until("GET", 2)
    async with asyncio.timeout(5):
        while not link.notifications:
            await asyncio.sleep(0.01)
