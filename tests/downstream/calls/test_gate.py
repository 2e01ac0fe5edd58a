"""The gate while the gateway restarts: what waits for the next process, and what is served by this one."""

import asyncio
from typing import Any

import pytest

from gateway_core import Principal, hookimpl

CALL = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "echo"}}
LISTEN = {"notifications": {"toolsListChanged": True}}
NAP = {**CALL, "id": 9, "params": {"name": "nap"}}


class Slow:
    """An authenticator that takes its time."""

    credential_headers = ("authorization",)

    @hookimpl
    async def authenticate(self, credentials: Any) -> Principal | None:
        await asyncio.sleep(0.05)
        return Principal.proven("ada", issuer="slow") if credentials.bearer else None


def message(method: str, **params: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 3, "method": method, "params": params}


async def waits(work: Any) -> asyncio.Task[Any]:
    """The request, which is not answered."""
    task: asyncio.Task[Any] = asyncio.ensure_future(work)
    done, _ = await asyncio.wait([task], timeout=0.5)
    assert not done, task.result()
    return task


async def served_after_all(world: Any, waiting: list[asyncio.Task[Any]]) -> list[Any]:
    """The answers of a gateway that stops in place of restarting."""
    world.downstream.gate.close()
    world.server.http.serve_deferred()
    async with asyncio.timeout(20):
        return await asyncio.gather(*waiting)


async def test_new_work_waits_and_is_refused_if_there_is_no_next_process(world: Any, helpers: Any) -> None:
    session = await world.initialize()
    world.downstream.gate.close(defer=True)
    waiting = [
        await waits(work)
        for work in (
            world.post(CALL, session),
            world.post(message("resources/subscribe", uri="test://a"), session),
            world.post(helpers.initialize()),
            world.modern("tools/call", {"name": "echo"}),
            world.modern("subscriptions/listen", LISTEN),
        )
    ]
    answers = await served_after_all(world, waiting)
    assert [answer.json["error"]["code"] for answer in answers] == [-31005] * len(waiting)
    assert world.pipeline.exchanges == []


async def test_a_standalone_stream_waits(world: Any) -> None:
    session = await world.initialize()
    world.downstream.gate.close(defer=True)
    opening = await waits(world.http.get(world.url, headers={**session, "Accept": "text/event-stream"}))
    (response,) = await served_after_all(world, [opening])
    assert response.status == 503
    response.close()


async def test_what_helps_calls_in_flight_is_served(world: Any) -> None:
    session = await world.initialize()
    in_flight = asyncio.ensure_future(world.post(NAP, session))
    await world.pipeline.started.wait()
    world.downstream.gate.close(defer=True)
    assert (await world.post(message("ping"), session)).status == 200
    assert "result" in (await world.post(message("tools/list"), session)).json
    assert (await world.modern("server/discover")).status == 200
    cancel = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 9}}
    assert (await world.post(cancel, session)).status == 202
    assert (await in_flight).json["error"]["message"] == "the request was cancelled"


async def test_requests_of_sessions_that_ended_here_wait(world: Any) -> None:
    session = await world.initialize()
    world.downstream.gate.close(defer=True)
    world.downstream.sessions.end_all()
    waiting = [await waits(world.post(each, session)) for each in (CALL, message("ping"))]
    assert [answer.status for answer in await served_after_all(world, waiting)] == [404, 404]


async def test_a_request_of_an_ended_session_does_not_count_as_rejected(world: Any) -> None:
    session = await world.initialize()
    world.downstream.sessions.end_all()
    world.budget.level, world.budget.tight = 0.93, True
    assert (await world.post(message("ping"), session)).status == 404
    assert world.downstream.gate.rejected == 0


async def test_calls_of_a_batch_are_refused(world: Any) -> None:
    session = await world.initialize(version="2025-03-26")
    world.downstream.gate.close(defer=True)
    answers = (await world.post([CALL, {**message("ping"), "id": 4}], session)).json
    found = {one["id"]: one for one in answers}
    assert found[1]["error"]["code"] == -31005
    assert found[4]["result"] == {}


async def test_a_request_waits_also_after_its_credentials_were_looked_at(start: Any) -> None:
    world = await start(authenticators=[Slow()])
    credentials = {"Authorization": "Bearer x"}
    session = await world.initialize(**credentials)
    world.downstream.gate.close(defer=True)
    other = {**session, "Authorization": "Bearer y"}
    waiting = [await waits(world.post(CALL, each)) for each in (session, other)]
    answers = await served_after_all(world, waiting)
    assert [answer.json["error"]["code"] for answer in answers] == [-31005, -31005]


@pytest.mark.parametrize("defer", [False, True])
async def test_the_connections_of_a_restart_are_left_to_the_next_process(world: Any, defer: bool) -> None:
    session = await world.initialize()
    world.downstream.gate.close(defer=defer)
    if defer:
        task = await waits(world.post(CALL, session))
    world.server.stop_accepting()
    await world.server.close(0.0)
    moved = world.server.moved
    assert (moved is not None) is defer
    if moved is not None:
        assert len(moved.listening) == 1
        assert any(b'"method": "tools/call"' in received for _, received in moved.connections)
        task.cancel()
