"""Agents log in, and reach a server behind the gateway as themselves: a certified authorization server exchanges their
tokens. The server is another gateway, which accepts only tokens for itself and says who calls."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import httpx2
import pytest
from mcp import MCPError
from mcp.client.client import Client
from mcp.client.streamable_http import streamable_http_client

sys.path.insert(0, str(Path(__file__).parent))

from conftest import Gateway, wait_until
from test_oidc import Person, Storage, token_for

from tests.ports import free_port

USERS = Path(__file__).parents[1] / "tests" / "upstream" / "identities" / "user_server.py"
ERAS = {"legacy": "legacy", "modern": "2026-07-28"}


def settings(port: int, issuer: str, upstream: dict[str, Any]) -> dict[str, Any]:
    issuers = [{"issuer": issuer, "token_types": ["at+jwt"]}]
    plugin = {"name": "auth_jwt", "audience": f"http://127.0.0.1:{port}/mcp", "issuers": issuers}
    return {"port": port, "upstreams": [{"transport": "http", **upstream}], "plugins": [plugin]}


@pytest.fixture(scope="module")
def gateway(session_launcher: Any, tools: Any) -> Gateway:
    """The gateway of the agents, over one that verifies the exchanged tokens, over a server with users."""
    launcher = session_launcher
    issuer, _ = launcher.authorization_server(tools, "exchange-authorization-server")
    launcher.processes.start("users", sys.executable, str(USERS))

    def printed() -> str:
        return str(launcher.processes.log("users").partition("\n")[0])

    wait_until(lambda: printed().isdigit(), "the server with users listens")
    inner, outer = free_port(), free_port()
    forward = {"X-User-Id": "principal.subject"}
    users = {"name": "users", "url": f"http://127.0.0.1:{printed()}/mcp", "forward": forward}
    launcher.start(launcher.write(settings(inner, issuer, users), "inner-gateway"), inner, "inner-gateway")
    auth = {"grant": "token_exchange", "issuer": issuer, "client_id": "exchanger", "client_secret": "exchanger-secret"}
    tracker = {"name": "tracker", "url": f"http://127.0.0.1:{inner}/mcp", "auth": {**auth, "scope": "mcp"}}
    found: Gateway = launcher.start(launcher.write(settings(outer, issuer, tracker), "outer-gateway"), outer, "outer")
    wait_until(lambda: found.upstream("tracker")["state"] == "healthy", "the upstream is healthy")
    return found


async def who(gateway: Gateway, era: str, **http: Any) -> str:
    """The user whom the innermost server sees."""
    async with (
        httpx2.AsyncClient(timeout=60, **http) as session,
        Client(streamable_http_client(gateway.url, http_client=session), mode=ERAS[era]) as client,
    ):
        assert "who" in {tool.name for tool in (await client.list_tools()).tools}
        result: Any = await client.call_tool("who", {})
        return str(json.loads(result.content[0].text)["x-user-id"])


@pytest.mark.parametrize("era", ERAS)
async def test_each_person_is_itself_two_gateways_further(gateway: Gateway, era: str) -> None:
    for name in ("ada", "ben"):
        assert await who(gateway, era, auth=Person(gateway.url, Storage(), f"{name}-{era}")) == f"{name}-{era}"


async def test_the_agents_token_is_of_no_use_at_the_upstream(gateway: Gateway) -> None:
    upstream = gateway.upstream("tracker")
    issuer = json.loads(httpx2.get(f"{gateway.base}/.well-known/oauth-protected-resource/mcp", timeout=60).text)[
        "authorization_servers"
    ][0]
    mine = token_for(gateway.url, issuer)
    headers = {"Authorization": f"Bearer {mine}"}
    assert await who(gateway, "modern", headers=headers) == "machine"
    answer = httpx2.post(f"{upstream['target']}/mcp", json={}, headers=headers, timeout=60)
    assert answer.status_code == 401


async def test_without_a_token_there_is_nothing(gateway: Gateway) -> None:
    with pytest.raises((MCPError, BaseExceptionGroup)):
        await who(gateway, "modern")
