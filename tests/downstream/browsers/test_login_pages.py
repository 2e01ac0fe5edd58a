"""The pages of logins over HTTP: who gets them, and what they say and do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from yarl import URL

from gateway_core.downstream.browsers import login_pages as module
from gateway_core.downstream.browsers import pending_pages
from tests.user_login_kit import URL_AND_FORM, USER, World, url_of, world

LOCAL = """
[mcp.proxy]
enable = true
port = {port}
[[mcp.proxy.upstreams]]
name = "tracker"
transport = "http"
url = "{origin}/mcp"
[mcp.proxy.upstreams.auth]
grant = "authorization_code"
identity = "user"
"""


@pytest.fixture
async def there() -> AsyncIterator[World]:
    async with world() as found:
        yield found


@pytest.fixture
async def url(there: World) -> str:
    return url_of(await there.agent("ada", URL_AND_FORM).call("tracker_login"))


async def test_the_page_says_who_wants_to_connect_to_what(there: World, url: str) -> None:
    status, page, headers = await there.browser().open(url)
    assert status == 200
    assert "An agent of ada (identity confirmed by proxy) wants to use the server tracker at " in page
    assert there.tracker.origin in page
    assert page.count("<button") == 1
    assert headers["Content-Security-Policy"].startswith("default-src 'none'")
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
    assert headers["Cache-Control"] == "no-store"
    assert "Set-Cookie" not in headers
    assert there.tracker.redirects == [], "to look at it does nothing"


async def test_the_button_leads_to_the_authorization_server(there: World, url: str) -> None:
    async with there.http.post(url, allow_redirects=False) as answer:
        address, headers = URL(answer.headers["Location"]), answer.headers
    assert (answer.status, str(address.origin())) == (303, there.tracker.origin)
    assert headers["Referrer-Policy"] == "no-referrer"
    assert address.query["redirect_uri"] == f"{there.base}/oauth/callback"
    assert url.rpartition("/")[2] not in str(address)


@pytest.mark.parametrize(
    ("verb", "path", "status"),
    [
        ("GET", "/oauth/start/unknown", 404),
        ("POST", "/oauth/start/unknown", 404),
        ("GET", "/oauth/start/", 404),
        ("PUT", "/oauth/start/unknown", 405),
        ("GET", "/oauth/callback", 400),
        ("GET", "/oauth/callback?state=unknown&code=x", 400),
        ("GET", "/oauth/callback?state=a&state=b", 400),
        ("GET", "/oauth/callback?" + "&".join(f"a{number}=b" for number in range(50)), 400),
        ("POST", "/oauth/callback", 405),
    ],
)
async def test_what_belongs_to_no_login_is_refused(there: World, verb: str, path: str, status: int) -> None:
    found, page, _ = await there.browser().open(there.base + path, verb)
    assert found == status
    assert "unknown" not in page


async def test_another_site_cannot_press_the_button(there: World, url: str) -> None:
    headers = {"Origin": "https://evil.example"}
    async with there.http.post(url, headers=headers, allow_redirects=False) as answer:
        assert answer.status == 403
    async with there.http.get(url, headers={"Host": "evil.example"}) as answer:
        assert answer.status == 403
    assert there.tracker.registered == 0


async def test_a_failure_is_shown_and_leads_nowhere(there: World, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def none(_: Any) -> Any:
        raise module.Refused("<b>bad</b>")

    monkeypatch.setattr(there.gateway.pool.attempts, "begin", none)
    status, page, _ = await there.browser().open(url, "POST")
    assert (status, "&lt;b&gt;bad&lt;/b&gt;" in page) == (502, True)


async def test_a_browser_on_the_machine_of_a_loopback_gateway_needs_no_proof() -> None:
    async with world(LOCAL, more="") as there:
        attempt = there.gateway.pool.attempts.of(_ada(), "tracker")
        status, page = await there.browser().log_in(attempt.url)
        assert (status, "You are logged in" in page) == (200, True)
        assert attempt.url.startswith(there.base)


async def test_a_gateway_without_such_upstreams_has_no_pages() -> None:
    async with world(LOCAL.replace('identity = "user"', "")) as there:
        for path in ("/oauth/callback", "/oauth/start/x"):
            async with there.http.get(there.base + path) as answer:
                assert (answer.status, answer.content_type) == (404, "application/json")


async def test_pages_that_are_being_made_are_bounded(there: World, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pending_pages, "MAX_PENDING", 1)
    begun, go = asyncio.Event(), asyncio.Event()

    async def wait(_: Any) -> URL:
        begun.set()
        await go.wait()
        return URL("https://auth.example.com")

    monkeypatch.setattr(there.gateway.pool.attempts, "begin", wait)
    first = asyncio.ensure_future(there.http.post(url, allow_redirects=False, headers={USER: "ada"}))
    await begun.wait()
    async with there.http.get(url) as answer:
        assert answer.status == 503
    go.set()
    async with await first as answer:
        assert answer.status == 303
    async with there.http.get(url) as answer:
        assert answer.status == 200


def _ada() -> Any:
    from gateway_core.api import Principal

    return Principal.proven("ada", issuer="test")
