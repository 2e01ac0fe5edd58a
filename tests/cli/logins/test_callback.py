"""The address to which the browser returns: who may ask it, and what its pages say."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any

import aiohttp
import pytest

from gateway_core.cli.logins.callback import Callback
from gateway_core.upstream.auth.code_flow import NotOurs
from gateway_core.upstream.auth.documents import Refused
from tests.ports import free_port

Made = Callable[..., Awaitable[tuple[Callback, str]]]


@pytest.fixture
def seen() -> list[Mapping[str, Sequence[str]]]:
    return []


@pytest.fixture
async def made(seen: list[Mapping[str, Sequence[str]]]) -> AsyncIterator[Made]:
    callbacks: list[Callback] = []

    async def make(redirect_uri: str = "http://127.0.0.1/callback", port: int = 0) -> tuple[Callback, str]:
        async def finish(query: Mapping[str, Sequence[str]]) -> None:
            seen.append(query)
            if query.get("state") == ["other"]:
                raise NotOurs("state")
            if "error" in query:
                raise Refused("<b>refused</b>")

        callbacks.append(Callback("<tracker>", finish))
        return callbacks[-1], await callbacks[-1].start(redirect_uri, port)

    yield make
    for callback in callbacks:
        await callback.close()


async def get(url: str, verb: str = "GET", **headers: str) -> tuple[int, str, Mapping[str, str]]:
    async with aiohttp.ClientSession() as session, session.request(verb, url, headers=headers) as answer:
        return answer.status, await answer.text(), answer.headers


async def test_a_good_answer_completes_the_login(made: Made, seen: Any) -> None:
    callback, uri = await made()
    assert uri.startswith("http://127.0.0.1:")
    status, page, headers = await get(f"{uri}?code=a&state=b&state=c")
    assert (status, "You are logged in" in page, "&lt;tracker&gt;" in page) == (200, True, True)
    assert seen == [{"code": ["a"], "state": ["b", "c"]}]
    await callback.wait(20)
    assert headers["Cache-Control"] == "no-store"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["Content-Security-Policy"].startswith("default-src 'none'")
    assert (await get(f"{uri}?code=a"))[0] == 410
    assert len(seen) == 1


async def test_answers_of_other_logins_are_ignored(made: Made) -> None:
    callback, uri = await made()
    for _ in range(3):
        assert (await get(f"{uri}?state=other"))[0] == 400
    with pytest.raises(TimeoutError):
        await callback.wait(0.01)
    assert (await get(f"{uri}?state=own"))[0] == 200
    await callback.wait(20)


async def test_a_failed_login_is_told_to_both(made: Made) -> None:
    callback, uri = await made()
    status, page, _ = await get(f"{uri}?error=x")
    assert status == 400
    assert "&lt;b&gt;refused&lt;/b&gt;" in page
    with pytest.raises(Refused, match="refused"):
        await callback.wait(20)


async def test_only_the_redirect_uri_is_answered(made: Made, seen: Any) -> None:
    _, uri = await made()
    assert (await get(f"{uri}x?state=a"))[0] == 404
    assert (await get(uri.replace("/callback", "/")))[0] == 404
    assert (await get(uri, "POST"))[0] == 404
    assert (await get(f"{uri}?state=a", Host="evil.example"))[0] == 403, "DNS rebinding"
    assert seen == []


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]"])
async def test_the_host_stays_as_it_is_written(made: Made, host: str) -> None:
    _, uri = await made(f"http://{host}/a/b")
    before, _, port = uri.removesuffix("/a/b").rpartition(":")
    assert before == f"http://{host}"
    assert int(port) > 0
    assert (await get(f"{uri}?state=a"))[0] == 200


async def test_a_fixed_port_and_one_of_before_are_used(made: Made) -> None:
    port = free_port()
    first, uri = await made(f"http://127.0.0.1:{port}/callback")
    assert uri == f"http://127.0.0.1:{port}/callback"
    with pytest.raises(OSError, match="in use"):
        await made(port=port)
    await first.close()
    assert (await made(port=port))[1] == uri


async def test_two_answers_at_once_complete_one_login() -> None:
    running = 0

    async def finish(_: Mapping[str, Sequence[str]]) -> None:
        nonlocal running
        running += 1
        await asyncio.sleep(0.1)

    callback = Callback("tracker", finish)
    uri = await callback.start("http://127.0.0.1/callback")
    found = await asyncio.gather(*(get(f"{uri}?state=a") for _ in range(3)))
    assert sorted(status for status, *_ in found) == [200, 410, 410]
    assert running == 1
    await callback.close()
