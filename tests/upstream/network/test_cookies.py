"""Cookies that load balancers set, kept for one upstream and one session."""

from __future__ import annotations

import json
from typing import Any

import pytest
from multidict import CIMultiDict
from yarl import URL

from gateway_core.upstream.network.cookies import MAX_COOKIES, MAX_SENT, Cookies

CALL = ("tools/call", {"name": "t", "arguments": {}})
URL_OF = URL("https://host.example/mcp")


def kept(*lines: str, url: URL = URL_OF) -> Cookies:
    """The cookies after one response for each line."""
    cookies = Cookies()
    for line in lines:
        cookies.keep(url, CIMultiDict([("Set-Cookie", line)]))
    return cookies


def answering(*cookies: str) -> Any:
    """A script that sets these cookies with each answer."""

    async def script(seen: Any, writer: Any) -> None:
        reply = json.dumps({"jsonrpc": "2.0", "id": seen.message.get("id"), "result": {}})
        lines = "".join(f"Set-Cookie: {cookie}\r\n" for cookie in cookies)
        head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n{lines}"
        writer.write(f"{head}Content-Length: {len(reply)}\r\n\r\n{reply}".encode())

    return script


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_a_cookie_comes_back_with_the_next_request(scripted: Any, connect: Any, host: str) -> None:
    server = await scripted(answering("AWSALB=abc+/=; Path=/; HttpOnly", "b=2"), era="legacy", session="s-1")
    link = await connect(server.url.replace("127.0.0.1", host))
    assert not any("cookie" in seen.headers for seen in server.seen)
    for _ in range(2):
        await link.connection.request(*CALL)
    await link.connection.close()
    first, second = server.of("tools/call")
    assert "cookie" not in first.headers
    assert second.headers["cookie"] == "AWSALB=abc+/=; b=2"
    assert server.of("DELETE")[0].headers["cookie"] == "AWSALB=abc+/=; b=2"


async def test_a_cookie_of_the_handshake_comes_back(scripted: Any, connect: Any) -> None:
    server = await scripted(answering(), era="legacy", session="s-1", headers={"Set-Cookie": "lb=7"})
    link = await connect(server.url)
    await link.connection.request(*CALL)
    assert server.of("notifications/initialized")[0].headers["cookie"] == "lb=7"
    assert server.of("tools/call")[0].headers["cookie"] == "lb=7"


async def test_sessions_do_not_share_cookies(scripted: Any, connect: Any) -> None:
    server = await scripted(answering("a=1"))
    link, other = await connect(server.url), await connect(server.url)
    await link.connection.request(*CALL)
    await other.connection.request(*CALL)
    assert not any("cookie" in seen.headers for seen in server.seen)


async def test_a_cookie_that_changes_with_each_answer_is_the_last(scripted: Any, connect: Any) -> None:
    numbers = iter(range(100))

    async def script(seen: Any, writer: Any) -> None:
        await answering(f"turn={next(numbers)}")(seen, writer)

    server = await scripted(script)
    link = await connect(server.url)
    for _ in range(4):
        await link.connection.request(*CALL)
    assert [seen.headers.get("cookie") for seen in server.of("tools/call")] == [None, "turn=0", "turn=1", "turn=2"]


async def test_rules_of_path_secure_and_expiry() -> None:
    assert kept("a=1").header(URL_OF) == "a=1"
    assert kept("a=1; Path=/other").header(URL_OF) == ""
    assert kept("a=1; Path=/mcp").header(URL_OF / "sub") == "a=1"
    assert kept("a=1; Secure").header(URL_OF) == "a=1"
    assert kept("a=1; Secure", url=URL("http://host.example/mcp")).header(URL("http://host.example/mcp")) == ""
    assert kept("a=1; Domain=other.example").header(URL_OF) == ""
    assert kept("a=1", "a=; Max-Age=0").header(URL_OF) == ""
    assert kept("a=1; Expires=Thu, 01 Jan 1970 00:00:00 GMT").header(URL_OF) == ""
    assert kept("a=1", "a=; Expires=Thu, 01-Jan-1970 00:00:00 GMT").header(URL_OF) == ""
    assert kept("a=1; Expires=Fri, 01 Jan 2100 00:00:00 GMT").header(URL_OF) == "a=1"
    assert kept('a="x y"').header(URL_OF) == 'a="x y"'
    assert kept("a=1", "a=2").header(URL_OF) == "a=2"


async def test_what_a_header_cannot_hold_is_not_kept() -> None:
    assert kept("a=\x01", "b=\xfc", f"c={'x' * 5000}", "=;;", "", "d=4").header(URL_OF) == "d=4"


async def test_the_number_and_the_size_of_cookies_are_bounded() -> None:
    many = Cookies()
    for batch in range(20):
        many.keep(URL_OF, CIMultiDict([("Set-Cookie", f"n{batch}x{number}={number}") for number in range(100)]))
    assert 0 < many.header(URL_OF).count("=") <= MAX_COOKIES
    large = Cookies()
    large.keep(URL_OF, CIMultiDict([("Set-Cookie", f"n{number}={'x' * 4000}") for number in range(20)]))
    assert 0 < len(large.header(URL_OF)) <= MAX_SENT
