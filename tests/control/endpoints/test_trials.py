"""Requests that an operator tries out through the control plane."""

from __future__ import annotations

import asyncio

import pytest

from tests.control.endpoints.conftest import Controlled
from tests.generations.conftest import served

pytestmark = pytest.mark.timeout(120)


async def test_a_request_and_its_response_are_shown_as_they_were(stand: Controlled) -> None:
    await stand.start(served("one"))
    params = {"name": "one_wait", "arguments": {"seconds": 0}}
    status, found = await stand.ask("POST", "try", {"method": "tools/call", "params": params})
    assert status == 200
    assert found["request"]["params"]["name"] == "one_wait"
    assert found["response"]["result"]["content"][0]["text"] == "waited"
    assert found["exchange"]
    assert found["seconds"] > 0
    status, found = await stand.ask("POST", "try", {"method": "tools/call", "params": {"name": "none"}})
    assert status == 200
    assert "error" in found["response"]


async def test_a_request_that_is_none_is_an_error(stand: Controlled) -> None:
    await stand.start(served("one"))
    body = {"method": "tools/call", "params": {"name": "one_pid"}, "profile": "none"}
    assert (await stand.ask("POST", "try", body))[0] == 404
    assert (await stand.ask("POST", "try", {"method": "tools/list", "params": {}}))[0] == 422
    assert (await stand.ask("POST", "try", {"method": "tools/call", "params": []}))[0] == 422


async def test_an_operator_who_leaves_cancels_the_request(stand: Controlled) -> None:
    await stand.start(served("one"))
    params = {"name": "one_wait", "arguments": {"seconds": 60}}
    asking = asyncio.create_task(stand.ask("POST", "try", {"method": "tools/call", "params": params}))
    async with asyncio.timeout(30):
        while not any(call["sent"] for call in stand.gateway.live.listing()):
            await asyncio.sleep(0.01)
        asking.cancel()
        while stand.gateway.live.listing():
            await asyncio.sleep(0.01)
    assert asking.cancelled()
