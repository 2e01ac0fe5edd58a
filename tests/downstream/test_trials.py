"""Requests of operators: the same path as that of agents, and questions in the modern manner."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from gateway_core.api import OPERATOR
from gateway_core.config import loads
from gateway_core.downstream.trials import Trials
from gateway_core.errors import UnknownProfile
from gateway_core.gateway import Gateway
from gateway_core.mcp.names import CLIENT_CAPABILITIES_KEY, PROTOCOL_VERSION_KEY

pytestmark = [pytest.mark.timeout(180), pytest.mark.asyncio(loop_scope="module")]
TOML = """
[mcp.proxy]
enable = true

[[mcp.proxy.upstreams]]
name = "asker"
transport = "stdio"
command = "{python}"
args = ["{asker}"{extra}]

[[mcp.proxy.upstreams]]
name = "tickets"
transport = "stdio"
command = "{python}"
args = ["{desk}", "wiki"]

[[mcp.proxy.profiles]]
name = "few"
tools = ["add"]

[[mcp.proxy.plugins]]
name = "security_policy"

[[mcp.proxy.plugins.rules]]
tools = ["search"]
principals = ["operator|control-plane"]
then = "deny"
reason = "not for operators"

[[mcp.proxy.plugins.rules]]
then = "allow"
"""
TESTS = Path(__file__).resolve().parents[1]


ERAS = ["modern", "legacy"]


@asynccontextmanager
async def running(folder: Path, era: str) -> AsyncIterator[Gateway]:
    """A gateway over a server that asks, of one era, and one with other things."""
    text = TOML.format(
        python=sys.executable,
        asker=TESTS / "pipeline/input_required/asker.py",
        desk=TESTS / "acceptance/servers/desk.py",
        extra=', "--legacy-only"' if era == "legacy" else "",
    )
    made = Gateway(loads(text, folder / "mcp-proxy.toml"))
    await made.start(listen=False)
    await made.wait_first_discovery(60)
    try:
        yield made
    finally:
        await made.stop()


@pytest_asyncio.fixture(params=ERAS, scope="module", loop_scope="module")
async def gateway(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Gateway]:
    """One gateway for all tests that leave it as it was."""
    async with running(tmp_path_factory.mktemp("trials"), request.param) as made:
        yield made


@pytest_asyncio.fixture(loop_scope="module")
async def own_gateway(tmp_path: Path) -> AsyncIterator[Gateway]:
    """A gateway for one test."""
    async with running(tmp_path, "modern") as made:
        yield made


@pytest.fixture
def trials(gateway: Gateway) -> Trials:
    return gateway.downstream.trials


def content(response: dict[str, Any]) -> str:
    return str(response["result"]["content"][0]["text"])


async def test_each_kind_of_request_gets_the_response_of_its_server(trials: Trials) -> None:
    found = await trials.run("tools/call", {"name": "add", "arguments": {"a": 2, "b": 3}})
    assert content(found.response) == "5"
    assert found.request["method"] == "tools/call"
    assert found.request["params"]["_meta"][PROTOCOL_VERSION_KEY] == "2026-07-28"
    assert found.response["id"] == found.request["id"]
    assert found.exchange
    page = await trials.run("resources/read", {"uri": "page://home"})
    assert page.response["result"]["contents"][0]["uri"] == "page://home"
    prompt = await trials.run("prompts/get", {"name": "tour"})
    assert prompt.response["result"]["messages"][0]["role"] == "user"


async def test_a_question_ends_the_request_and_the_next_one_brings_the_answer(trials: Trials) -> None:
    params: dict[str, Any] = {"name": "greet", "arguments": {"who": "Ada", "rounds": 2}}
    found = await trials.run("tools/call", params)
    for name in ("one", "two"):
        result = found.response["result"]
        assert result["resultType"] == "input_required"
        ((key, asked),) = result["inputRequests"].items()
        assert asked["method"] == "elicitation/create"
        answer = {"action": "accept", "content": {"name": name}}
        given = {**params, "inputResponses": {key: answer}, "requestState": result["requestState"]}
        found = await trials.run("tools/call", given)
    assert content(found.response) == "Ada: one two"


async def test_policies_judge_the_operator_as_a_verified_principal(trials: Trials) -> None:
    assert (OPERATOR.id, OPERATOR.verified) == ("operator|control-plane", True)
    found = await trials.run("tools/call", {"name": "search", "arguments": {"query": "x"}})
    assert "not for operators" in found.response["error"]["message"]
    allowed = await trials.run("tools/call", {"name": "edit", "arguments": {"page": "x"}})
    assert content(allowed.response) == "x is changed"


async def test_a_profile_narrows_what_can_be_tried(trials: Trials) -> None:
    seen = await trials.run("tools/call", {"name": "add", "arguments": {"a": 1, "b": 1}}, "few")
    assert content(seen.response) == "2"
    hidden = await trials.run("tools/call", {"name": "edit", "arguments": {"page": "x"}}, "few")
    assert "error" in hidden.response
    with pytest.raises(UnknownProfile):
        await trials.run("tools/call", {"name": "add"}, "other")


async def test_what_is_not_admitted_is_an_error_response(trials: Trials) -> None:
    wrong = await trials.run("tools/call", {"name": "add", "_meta": {PROTOCOL_VERSION_KEY: "1999-01-01"}})
    assert wrong.response["error"]["code"] == -32022
    assert wrong.exchange == ""
    odd = await trials.run("tools/call", {"name": "add", "_meta": {CLIENT_CAPABILITIES_KEY: 7}})
    assert "must be an object" in odd.response["error"]["message"]


async def test_a_request_while_the_gateway_stops_is_refused_in_its_response(own_gateway: Gateway) -> None:
    trials, gate = own_gateway.downstream.trials, own_gateway.downstream.gate
    gate.close()
    stopping = await trials.run("tools/call", {"name": "add", "arguments": {"a": 1, "b": 1}})
    assert "stopping" in stopping.response["error"]["message"]
    assert gate.in_flight == 0


async def test_a_request_during_a_restart_is_refused_in_its_response(own_gateway: Gateway) -> None:
    """The next process continues no connection of an operator, so the request cannot wait for it."""
    trials, gate = own_gateway.downstream.trials, own_gateway.downstream.gate
    gate.close(defer=True)
    found = await trials.run("tools/call", {"name": "add", "arguments": {"a": 1, "b": 1}})
    assert "restarting" in found.response["error"]["message"]
    assert found.response["error"]["data"]["retryAfterMs"]
    assert gate.in_flight == 0


async def test_a_cancelled_trial_cancels_its_call(own_gateway: Gateway) -> None:
    gateway = own_gateway
    for upstream in gateway.pool.upstreams:
        upstream.limiter._limit = 0  # no call gets a place
    waiting = asyncio.ensure_future(
        gateway.downstream.trials.run("tools/call", {"name": "add", "arguments": {"a": 1, "b": 1}})
    )
    async with asyncio.timeout(30):
        while not gateway.live.listing():
            await asyncio.sleep(0.01)
    assert gateway.live.listing()[0]["agent"] == OPERATOR.id
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    async with asyncio.timeout(30):
        while gateway.downstream.gate.in_flight:
            await asyncio.sleep(0.01)
