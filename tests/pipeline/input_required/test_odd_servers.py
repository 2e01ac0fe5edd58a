"""Modern servers whose questions no server of an SDK would ask."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from .test_parking import Agent

Answer = Callable[[dict[str, Any]], web.Response]
QUESTION = {"a": {"method": "elicitation/create", "params": {"message": "?", "requestedSchema": {"type": "object"}}}}


def result(content: dict[str, Any] | str) -> web.Response:
    """The answer to request 1, 2, …: its id is filled in by `modern`."""
    text = content if isinstance(content, str) else json.dumps(content)
    return web.Response(text=f'{{"jsonrpc":"2.0","id":ID,"result":{text}}}', content_type="application/json")


def asking(**members: Any) -> web.Response:
    return result({"resultType": "input_required", "inputRequests": QUESTION, **members})


def done(text: str) -> web.Response:
    return result({"resultType": "complete", "content": [{"type": "text", "text": text}]})


@pytest.fixture
async def modern() -> AsyncIterator[Callable[[Answer], Awaitable[dict[str, Any]]]]:
    """`await modern(answer)`: the keys of an upstream with one tool, `odd`, whose calls `answer` answers."""
    runners = []

    async def start(answer: Answer) -> dict[str, Any]:
        async def post(request: web.Request) -> web.Response:
            message = await request.json()
            hint = {"resultType": "complete", "ttlMs": 60_000, "cacheScope": "public"}
            match message["method"]:
                case "server/discover":
                    made = result({**hint, "supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}}})
                case "tools/list":
                    made = result({**hint, "tools": [{"name": "odd", "inputSchema": {"type": "object"}}]})
                case _:
                    made = answer(message["params"])
            if made.text:
                made.text = made.text.replace("ID", str(message["id"]), 1)
            return made

        app = web.Application(client_max_size=8 * 1024 * 1024)
        app.router.add_post("/mcp", post)
        runner = web.AppRunner(app)
        runners.append(runner)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        return {"name": "odd", "transport": "http", "url": f"http://127.0.0.1:{runner.addresses[0][1]}/mcp"}

    yield start
    for runner in runners:
        await runner.cleanup()


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


async def test_a_question_is_checked_and_its_state_sealed_however_its_type_is_spelled(
    world: Any, modern: Any, http: aiohttp.ClientSession
) -> None:
    spelled = '{"resultType":"input_\\u0072equired","inputRequests":%s,"requestState":"plain"}'

    def answer(params: dict[str, Any]) -> web.Response:
        if params["arguments"] == {"ask": "roots"}:
            return result(spelled % '{"a":{"method":"roots/list"}}')
        return result(spelled % json.dumps(QUESTION))

    async with world(await modern(answer)) as w:
        ann = Agent(w, http)
        asked = await ann.call("odd")
        assert asked["result"]["requestState"] != "plain"
        undeclared = await ann.call("odd", {"ask": "roots"})
        assert "did not declare the capability roots" in undeclared["error"]["message"]


@pytest.mark.parametrize("method", ["elicitation/create", "sampling/createMessage", "roots/list"])
async def test_the_params_of_a_question_are_an_object(
    world: Any, modern: Any, http: aiohttp.ClientSession, method: str
) -> None:
    def answer(params: dict[str, Any]) -> web.Response:
        return asking(inputRequests={"a": {"method": method, "params": [1]}})

    async with world(await modern(answer)) as w:
        refused = await Agent(w, http).call("odd")
        assert refused["error"]["code"] == -31002
        assert f"params of {method} must be an object" in refused["error"]["message"]


async def test_a_state_that_agents_get_they_can_bring_back(
    world: Any, modern: Any, http: aiohttp.ClientSession
) -> None:
    def answer(params: dict[str, Any]) -> web.Response:
        if "requestState" in params:
            return done(str(len(params["requestState"])))
        return asking(requestState="s" * params["arguments"]["size"])

    async with world(await modern(answer)) as w:
        ann = Agent(w, http)
        big = {"size": 700_000}
        asked = (await ann.call("odd", big))["result"]
        back = await ann.call("odd", big, requestState=asked["requestState"], inputResponses={"a": {}})
        assert back["result"]["content"][0]["text"] == "700000"
        refused = await ann.call("odd", {"size": 3_000_000})
        assert refused["error"]["code"] == -31002
        assert "requestState has 3000000 characters" in refused["error"]["message"]


async def test_a_retry_that_its_upstream_refuses_unread_may_be_repeated(
    world: Any, modern: Any, http: aiohttp.ClientSession
) -> None:
    later = iter([web.Response(status=429, headers={"Retry-After": "1"}), done("finished")])

    def answer(params: dict[str, Any]) -> web.Response:
        return next(later) if "requestState" in params else asking(requestState="s")

    async with world(await modern(answer)) as w:
        ann = Agent(w, http)
        state = (await ann.call("odd"))["result"]["requestState"]
        refused = await ann.call("odd", requestState=state, inputResponses={"a": {}})
        assert refused["error"]["data"]["status"] == 429
        back = await ann.call("odd", requestState=state, inputResponses={"a": {}})
        assert back["result"]["content"][0]["text"] == "finished"
        used = await ann.call("odd", requestState=state, inputResponses={"a": {}})
        assert used["error"]["code"] == -32602
