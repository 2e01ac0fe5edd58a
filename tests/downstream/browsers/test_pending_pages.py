"""Pages that are being made: how many, and what a browser that leaves changes."""

import asyncio
import inspect

import pytest

from gateway_core.downstream.browsers import pending_pages
from gateway_core.downstream.browsers.pending_pages import PendingPages
from gateway_core.http1.head import HttpError
from gateway_core.http1.response import Response


async def test_too_many_pages_are_refused_until_one_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pending_pages, "MAX_PENDING", 2)
    pages, go = PendingPages("answering"), asyncio.Event()

    async def making(text: bytes) -> Response:
        await go.wait()
        return Response(text)

    two = [pages.make(making(b"one")), pages.make(making(b"two"))]
    third = making(b"three")
    with pytest.raises(HttpError, match="too many people are answering at present") as refused:
        pages.make(third)
    assert refused.value.status == 503
    assert inspect.getcoroutinestate(third) == inspect.CORO_CLOSED
    go.set()
    await asyncio.gather(*(page.running for page in two))
    assert [page.response().body for page in two] == [b"one", b"two"]
    await pages.make(making(b"four")).running


async def test_an_error_frees_the_place_of_its_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pending_pages, "MAX_PENDING", 1)
    pages = PendingPages("answering")

    async def failing() -> Response:
        raise HttpError(429, "too many guesses")

    for _ in range(2):
        page = pages.make(failing())
        await asyncio.wait([page.running])
        with pytest.raises(HttpError, match="too many guesses"):
            page.response()


async def test_a_browser_that_leaves_does_not_stop_its_page() -> None:
    go, made = asyncio.Event(), asyncio.Event()

    async def making() -> Response:
        await go.wait()
        made.set()
        return Response(b"made")

    page = PendingPages("logging in").make(making())
    page.lost()
    go.set()
    await page.running
    assert made.is_set()
