"""How browsers get a cookie, keep it and lose it."""

import asyncio
import re
from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway_core.control import browsers
from gateway_core.control.access import PAGE_KEY
from gateway_core.control.browsers import Browser, BrowserSessions
from gateway_core.control.endpoint import Asked, Event, EventStream
from tests.control.conftest import READ


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_code_makes_one_session_with_its_right() -> None:
    known = BrowserSessions()
    code = known.issue("read")
    assert known.waiting() == [code.id]
    session = known.enter(code.secret)
    assert session is not None
    assert (session.right, known.session(session.secret, session.page_key)) == ("read", session)
    assert known.enter(code.secret) is None
    assert known.waiting() == []
    assert known.session(code.secret, "") is None
    assert code.secret not in repr(code)
    assert session.page_key not in repr(session)


def test_a_session_needs_its_cookie_and_its_page_key() -> None:
    known = BrowserSessions()
    one, other = (known.enter(known.issue("read").secret) for _ in range(2))
    assert one is not None
    assert other is not None
    assert len({one.secret, one.page_key, other.secret, other.page_key}) == 4
    for key in ("", "x", "ä", "\udcff", other.page_key, one.secret):
        assert known.session(one.secret, key) is None
    assert known.session(one.page_key, one.page_key) is None
    assert known.session(one.secret, one.page_key) is one


def test_a_kept_session_without_a_page_key_ends() -> None:
    clock = Clock()
    whole, half = Browser("1", "s", "read", clock.now + 1, "key"), Browser("2", "t", "change", clock.now + 1)
    known = BrowserSessions([whole, half], clock)
    assert known.session("t", "") is None
    assert [one for one, _ in known.sessions()] == [whole]
    assert known.session("s", "key") is whole


def test_an_empty_secret_matches_nothing() -> None:
    clock = Clock()
    known = BrowserSessions([Browser("1", "", "change", clock.now + 1, "key")], clock)
    assert known.session("", "key") is None


@pytest.mark.parametrize("offered", ["", "x", "ä\udcff"])
def test_what_was_not_issued_is_no_session(offered: str) -> None:
    known = BrowserSessions()
    known.issue("read")
    assert known.enter(offered) is None
    assert known.session(offered, offered) is None


def test_codes_and_sessions_end_at_their_time() -> None:
    clock = Clock()
    known = BrowserSessions(clock=clock)
    late, code = known.issue("read"), known.issue("change")
    session = known.enter(code.secret)
    assert session is not None
    clock.now += browsers.CODE_TIME
    assert known.enter(late.secret) is None
    assert [(one.id, left) for one, left in known.sessions()] == [
        (session.id, browsers.SESSION_TIME - browsers.CODE_TIME)
    ]
    clock.now += browsers.SESSION_TIME - browsers.CODE_TIME
    assert known.session(session.secret, session.page_key) is None
    assert known.sessions() == []


def test_codes_and_sessions_are_bounded_and_the_oldest_go() -> None:
    known = BrowserSessions()
    codes = [known.issue("read") for _ in range(browsers.MAX_CODES + 1)]
    assert len(known.waiting()) == browsers.MAX_CODES
    assert known.enter(codes[0].secret) is None
    sessions = [known.enter(known.issue("read").secret) for _ in range(browsers.MAX_SESSIONS + 1)]
    assert len(known.sessions()) == browsers.MAX_SESSIONS
    assert sessions[0] is not None
    assert sessions[-1] is not None
    assert known.session(sessions[0].secret, sessions[0].page_key) is None
    assert known.session(sessions[-1].secret, sessions[-1].page_key) is sessions[-1]


async def log_in(plane: Any, right: str = "change") -> Any:
    url = f"{plane.control.address}/admin/browser-logins"
    async with plane.http.post(url, json={"right": right}, headers={"Authorization": "Bearer sesame"}) as answer:
        assert answer.status == 200
        return await answer.json()


async def enter(plane: Any, path: str, **headers: str) -> Any:
    async with plane.http.get(plane.control.address + path, allow_redirects=False, headers=headers) as answer:
        return answer


def signed_in(answer: Any) -> dict[str, str]:
    """The headers that a browser sends after this answer."""
    return {
        "Cookie": answer.headers["Set-Cookie"].partition(";")[0],
        PAGE_KEY: answer.headers["Location"].partition("#key=")[2],
    }


async def test_a_browser_enters_once_and_gets_a_cookie_that_no_page_can_read(plane: Any) -> None:
    made = await log_in(plane)
    assert made["url"] == plane.control.address + made["path"]
    answer = await enter(plane, made["path"], **{"Sec-Fetch-Site": "cross-site"})
    assert answer.status == 303
    assert re.fullmatch(r"/ui/#key=[\w-]{43}", answer.headers["Location"])
    name, value, *attributes = [part.strip() for part in answer.headers["Set-Cookie"].replace("=", ";", 1).split(";")]
    assert name == f"radium-{plane.control.port}"
    assert {*attributes} == {"HttpOnly", "SameSite=Strict", "Path=/", "Max-Age=43200"}
    assert value not in made["path"]
    async with plane.get("/admin/me", None, **signed_in(answer)) as me:
        assert (await me.json())["right"] == "change"
    again = await enter(plane, made["path"])
    assert again.status == 403
    assert "Set-Cookie" not in again.headers


async def test_looking_at_the_head_of_the_address_does_not_use_it_up(plane: Any) -> None:
    made = await log_in(plane)
    async with plane.get(made["path"], None, method="HEAD") as answer:
        assert answer.status == 404
    assert (await enter(plane, made["path"])).status == 303


async def test_only_who_may_change_lets_browsers_in(plane: Any) -> None:
    for authorization, status in [(f"Bearer {READ}", 403), (None, 401)]:
        for method in ("POST", "GET"):
            async with plane.get("/admin/browser-logins", authorization, method=method) as answer:
                assert answer.status == status
    assert plane.operations.browsers.waiting() == []


async def test_operators_see_who_waits_and_who_entered_but_no_secrets(plane: Any) -> None:
    first, second = await log_in(plane), await log_in(plane, "read")
    await enter(plane, second["path"])
    async with plane.get("/admin/browser-logins") as answer:
        found = await answer.json()
    assert found["waiting"] == [first["id"]]
    (browser,) = found["browsers"]
    assert browser["right"] == "read"
    assert set(browser) == {"id", "right", "seconds"}


async def test_a_browser_logs_out_and_its_streams_end(start: Any) -> None:
    events: asyncio.Queue[Event[dict[str, int]]] = asyncio.Queue()

    async def flow(_: Asked[None, None]) -> AsyncIterator[Event[dict[str, int]]]:
        async def each() -> AsyncIterator[Event[dict[str, int]]]:
            while True:
                yield await events.get()

        return each()

    plane = await start("sesame", None, EventStream("/admin/flow", "read", "A flow", dict[str, int], flow))
    made = await log_in(plane, "read")
    browser = signed_in(await enter(plane, made["path"]))
    async with plane.get("/admin/flow", None, **browser) as stream:
        await stream.content.readuntil(b"open\n\n")
        here = {**browser, "Origin": plane.control.address}
        async with plane.get("/admin/browser-logout", None, method="POST", **here) as answer:
            assert await answer.json() == {"ended": True}
        events.put_nowait(Event("1", {"secret": 1}))
        assert await stream.read() == b""
    async with plane.get("/admin/me", None, **browser) as answer:
        assert answer.status == 401


async def test_a_token_has_no_browser_to_log_out(plane: Any) -> None:
    async with plane.get("/admin/browser-logout", method="POST") as answer:
        assert await answer.json() == {"ended": False}
