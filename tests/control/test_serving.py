"""How endpoints get queries and bodies, and how event streams begin, go on and end."""

import asyncio
import io
import json
from collections.abc import AsyncIterator
from typing import Annotated, Any

import aiohttp
import pytest
from msgspec import Meta, Struct

from gateway_core.control import listener, serving
from gateway_core.control.endpoint import Asked, Endpoint, Event, EventStream, Problem


class Query(Struct):
    limit: Annotated[int, Meta(ge=1, le=9)] = 5
    deep: bool = False


class Body(Struct, forbid_unknown_fields=True):
    name: str
    value: int = 0


async def _echo(asked: Asked[Query, Body]) -> dict[str, Any]:
    if asked.body.name == "wrong":
        raise Problem(409, "not hush now", {"Retry-After": "3"}, more=1)
    return {"limit": asked.query.limit, "deep": asked.query.deep, "name": asked.body.name, "by": asked.right}


ECHO = Endpoint("PUT", "/admin/echo", "change", "Echo", dict[str, Any], _echo, query=Query, body=Body)


@pytest.fixture
async def echo(start: Any) -> Any:
    plane = await start("sesame", None, ECHO)

    async def send(body: Any = b'{"name": "a"}', query: str = "", **headers: str) -> tuple[int, dict[str, Any]]:
        headers = {"Authorization": "Bearer sesame", "Content-Type": "application/json", **headers}
        async with plane.http.put(f"{plane.control.address}/admin/echo{query}", data=body, headers=headers) as answer:
            return answer.status, await answer.json()

    return send


async def test_query_and_body_are_decoded(echo: Any) -> None:
    assert await echo() == (200, {"limit": 5, "deep": False, "name": "a", "by": "change"})
    assert await echo(query="?limit=9&deep=true") == (200, {"limit": 9, "deep": True, "name": "a", "by": "change"})


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ("?limit=x", "the query is wrong: Expected `int`, got `str` - at `$.limit`"),
        ("?limit=10", "the query is wrong: Expected `int` <= 9 - at `$.limit`"),
        ("?limti=1&deep=true", "the query has an unknown parameter: 'limti'"),
        ("?limit=1&limit=2", "the query has the parameter 'limit' more than once"),
    ],
)
async def test_a_wrong_query_is_refused_with_the_reason(echo: Any, query: str, reason: str) -> None:
    assert await echo(query=query) == (422, {"error": reason})


async def test_an_endpoint_without_a_query_takes_none_but_probes_may_have_one(plane: Any) -> None:
    async with plane.get("/admin/status?x=1") as answer:
        assert answer.status == 422
    async with plane.get("/healthz?verbose=1", None) as answer:
        assert answer.status == 200


@pytest.mark.parametrize(
    ("body", "status", "reason"),
    [
        (b"{", 400, "the body is not JSON"),
        (b"", 400, "the body is not JSON"),
        (b'{"name": "\xff"}', 400, "the body is not JSON"),
        (b"[]", 422, "the body is wrong: Expected `object`, got `array`"),
        (b'{"name": 1}', 422, "the body is wrong: Expected `str`, got `int` - at `$.name`"),
        (b'{"name": "a", "other": 1}', 422, "the body is wrong: Object contains unknown field `other`"),
        (b" " * (serving.MAX_BODY + 1), 413, f"the body is larger than {serving.MAX_BODY} bytes"),
    ],
)
async def test_a_wrong_body_is_refused_with_the_reason(echo: Any, body: bytes, status: int, reason: str) -> None:
    assert await echo(io.BytesIO(body)) == (status, {"error": reason})


@pytest.mark.parametrize("headers", [{"Content-Type": "text/plain"}, {"Content-Encoding": "gzip"}])
async def test_a_body_that_is_not_said_to_be_json_is_refused(echo: Any, headers: dict[str, str]) -> None:
    """Pages of other sites may send text/plain without asking first."""
    status, answer = await echo(**headers)
    assert status == 415
    assert "application/json" in answer["error"]


async def test_a_problem_has_its_status_its_members_and_no_secrets(echo: Any) -> None:
    assert await echo(b'{"name": "wrong"}') == (409, {"error": "not [REDACTED] now", "more": 1})


async def test_the_right_is_checked_before_the_body_is_read(echo: Any) -> None:
    status, _ = await echo(b"{", Authorization="Bearer other")
    assert status == 401


class Source:
    """Events that a test puts into a queue; None ends them."""

    def __init__(self) -> None:
        self.events: asyncio.Queue[Event[dict[str, Any]] | None] = asyncio.Queue()
        self.asked: list[str] = []
        self.closed = 0

    async def open(self, asked: Asked[None, None]) -> AsyncIterator[Event[dict[str, Any]]]:
        self.asked.append(asked.last_event_id)
        return self._each()

    async def _each(self) -> AsyncIterator[Event[dict[str, Any]]]:
        try:
            while (event := await self.events.get()) is not None:
                yield event
        finally:
            self.closed += 1

    @property
    def endpoint(self) -> EventStream[None, dict[str, Any]]:
        return EventStream("/admin/flow", "read", "A flow", dict[str, Any], self.open)


@pytest.fixture
def source() -> Source:
    return Source()


@pytest.fixture
async def streaming(start: Any, source: Source) -> Any:
    return await start("sesame", None, source.endpoint)


async def until(condition: Any) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.01)


async def test_events_are_sent_as_they_come_without_secrets(streaming: Any, source: Source) -> None:
    async with streaming.get("/admin/flow", **{"Last-Event-ID": "7"}) as answer:
        assert answer.status == 200
        assert answer.headers["Content-Type"] == "text/event-stream"
        assert answer.headers["Cache-Control"] == "no-store"
        assert await answer.content.readuntil(b"\n\n") == b": open\n\n"
        source.events.put_nowait(Event("8", {"word": "hush\n"}))
        assert (await answer.content.readuntil(b"\n\n")).splitlines() == [
            b"id: 8",
            b"event: changes",
            b"data: " + json.dumps({"word": "[REDACTED]\n"}, separators=(",", ":")).encode(),
            b"",
        ]
        source.events.put_nowait(None)
        assert await answer.read() == b""
    assert source.asked == ["7"]
    assert source.closed == 1


async def test_a_silent_stream_gets_comments(streaming: Any, source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "KEEP_ALIVE", 0.05)
    async with streaming.get("/admin/flow") as answer:
        await answer.content.readuntil(b"open\n\n")
        assert await answer.content.readuntil(b"\n\n") == b": alive\n\n"
        source.events.put_nowait(Event("1", {}))
        await answer.content.readuntil(b"id: 1\n")


async def test_a_stream_outlives_requests_and_ends_at_its_time(
    streaming: Any, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener, "STREAM_TIME", 6.0)
    monkeypatch.setattr(listener, "CONNECTION_TIME", 1.5)
    async with streaming.get("/admin/flow") as answer:
        await answer.content.readuntil(b"open\n\n")
        await asyncio.sleep(2.0)
        source.events.put_nowait(Event("1", {}))
        await answer.content.readuntil(b"id: 1\n")
        with pytest.raises(aiohttp.ClientError):
            await answer.read()
    await until(lambda: source.closed)


async def test_a_stream_ends_with_its_reader(streaming: Any, source: Source) -> None:
    async with streaming.get("/admin/flow") as answer:
        await answer.content.readuntil(b"open\n\n")
        answer.close()
    await until(lambda: source.closed)


async def test_a_reader_that_takes_nothing_is_left(
    streaming: Any, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "STALL", 0.2)
    for number in range(200):
        source.events.put_nowait(Event(str(number), {"text": "x" * 100_000}))
    _, writer = await asyncio.open_connection(streaming.control.host, streaming.control.port, limit=1000)
    writer.write(b"GET /admin/flow HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer sesame\r\n\r\n")
    await until(lambda: source.closed)
    assert not source.events.empty(), "the events were read, although their reader took none"
    writer.close()


async def test_streams_are_bounded_and_lock_no_operator_out(
    streaming: Any, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener, "MAX_STREAMS", 2)
    monkeypatch.setattr(listener, "MAX_CONNECTIONS", 2)
    async with streaming.get("/admin/flow"), streaming.get("/admin/flow") as second:
        async with streaming.get("/admin/flow") as third:
            assert third.status == 503
            assert "too many" in (await third.json())["error"]
        for _ in range(4):
            async with streaming.get("/admin/status") as answer:
                assert answer.status == 200
        idle = [await asyncio.open_connection(streaming.control.host, streaming.control.port) for _ in range(3)]
        source.events.put_nowait(Event("1", {}))
        source.events.put_nowait(Event("2", {}))
        await second.content.readuntil(b"id: ")
        for _, writer in idle:
            writer.close()
    await until(lambda: source.closed == 2)
    async with streaming.get("/admin/flow") as again:
        assert again.status == 200


async def test_a_stream_needs_the_token_and_its_end_is_that_of_the_control_plane(
    streaming: Any, source: Source
) -> None:
    async with streaming.get("/admin/flow", None) as answer:
        assert answer.status == 401
    async with streaming.get("/admin/flow") as answer:
        await answer.content.readuntil(b"open\n\n")
        await streaming.control.close()
        with pytest.raises(aiohttp.ClientError):
            await answer.read()
    await until(lambda: source.closed)
