"""Clauses on tokens and credentials: 58, 59. The gateway is an OAuth client of its upstreams, and nothing to agents.

Sources: basic/authorization (Resource Parameter Implementation, Access Token Usage) and
basic/authorization/authorization-server-discovery of 2026-07-28.
"""

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web

PROTECTED = "/.well-known/oauth-protected-resource/mcp"
METADATA = "/.well-known/oauth-authorization-server"
SECRET = "s3cr3t-of-the-client"


@dataclass
class Authority:
    """An authorization server, whose metadata names `issuer`, or itself."""

    issuer: str = ""
    origin: str = ""
    forms: list[dict[str, str]] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    """Everything that was sent to it."""

    async def answer(self, request: web.BaseRequest) -> web.Response:
        self.asked.append(f"{request.rel_url} {dict(request.headers)} {await request.text()}")
        if request.path == METADATA:
            return web.json_response({"issuer": self.issuer or self.origin, "token_endpoint": f"{self.origin}/token"})
        if request.path == "/token":
            self.forms.append({name: str(value) for name, value in (await request.post()).items()})
            token = f"token-{len(self.forms)}"
            return web.json_response({"access_token": token, "token_type": "Bearer", "expires_in": 3600})
        raise web.HTTPNotFound


@dataclass
class Resource:
    """An MCP server with one tool, which wants the token `wanted` and names its authorization servers."""

    authorities: list[str] = field(default_factory=list)
    wanted: str = "token-1"
    origin: str = ""
    requests: list[tuple[str, str, str]] = field(default_factory=list)
    """Target, `Authorization`, and body of each request to it."""

    async def answer(self, request: web.BaseRequest) -> web.Response:
        if request.path == PROTECTED:
            return web.json_response({"resource": f"{self.origin}/mcp", "authorization_servers": self.authorities})
        given = request.headers.get("Authorization", "")
        body = await request.text()
        self.requests.append((str(request.rel_url), given, body))
        if given != f"Bearer {self.wanted}":
            return web.Response(status=401, headers={"WWW-Authenticate": "Bearer"})
        message = json.loads(body)
        result = {
            "server/discover": {"supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}}},
            "tools/list": {"tools": [{"name": "open", "inputSchema": {"type": "object"}}]},
            "tools/call": {"content": [{"type": "text", "text": "opened"}]},
        }[message["method"]]
        return web.json_response(
            {"jsonrpc": "2.0", "id": message["id"], "result": {"resultType": "complete", **result}}
        )


@asynccontextmanager
async def served(host: Any) -> AsyncIterator[None]:
    runner = web.ServerRunner(web.Server(host.answer), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host.origin = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield
    await runner.cleanup()


@pytest.fixture
async def servers() -> AsyncIterator[tuple[Resource, Authority, Authority]]:
    """An upstream, the authorization server that it names, and another one."""
    hosts = Resource(), Authority(), Authority()
    async with AsyncExitStack() as stack:
        for host in hosts:
            await stack.enter_async_context(served(host))
        hosts[0].authorities = [hosts[1].origin]
        yield hosts


def upstream(resource: Resource) -> str:
    """The table of the upstream, with credentials."""
    return (
        f'[[mcp.proxy.upstreams]]\nname = "vault"\ntransport = "http"\nurl = "{resource.origin}/mcp"\n'
        f'auth = {{ client_id = "gateway", client_secret = "{SECRET}" }}\n'
    )


async def test_clause_58_a_token_is_for_its_upstream_and_in_the_header_alone(start: Any, servers: Any) -> None:
    resource, authority, _ = servers
    stand = await start("modern", proxy=upstream(resource))
    assert (await stand.modern("tools/call", {"name": "open"})).text == "opened"
    assert [form["resource"] for form in authority.forms] == [f"{resource.origin}/mcp"]
    (_, first, _), *others = resource.requests
    assert first == "", "nobody is told a token before it is asked for"
    for target, given, body in others:
        assert (target, given) == ("/mcp", "Bearer token-1")
        assert "token-1" not in body


async def test_clause_58_what_an_agent_sends_as_its_token_goes_nowhere(start: Any, servers: Any) -> None:
    resource, authority, _ = servers
    stand = await start("modern", "legacy", proxy=upstream(resource))
    session = await stand.initialize()
    token = {"Authorization": "Bearer agents-own"}
    for tool in ("open", "lab0:echo", "lab1:echo"):
        params = {"name": tool, "arguments": {}}
        for answer in (
            await stand.modern("tools/call", params, **token),
            await stand.legacy(session | token, "tools/call", params),
        ):
            assert not answer.json["result"].get("isError")
    arrived = [str(resource.requests), str(authority.asked)]
    arrived += [f"{seen.headers} {seen.body}" for lab in stand.labs.values() for seen in lab.seen]
    assert not any("agents-own" in text for text in arrived)


async def test_clause_58_agents_are_not_sent_to_an_authorization_server(stand: Any) -> None:
    """The gateway takes no tokens of agents: it announces no server for them, and has no endpoints of one."""
    for path in (PROTECTED, METADATA, "/authorize", "/token", "/register"):
        assert (await stand.send("GET", path=path)).status == 404, path


async def test_clause_59_metadata_of_another_issuer_is_not_used(start: Any, servers: Any) -> None:
    resource, authority, other = servers
    authority.issuer = other.origin
    stand = await start("modern", proxy=upstream(resource))
    assert any(METADATA in asked for asked in authority.asked)
    assert not authority.forms
    assert not other.asked
    assert not any(SECRET in asked for asked in authority.asked)
    (vault,) = [one for one in stand.gateway.status()["upstreams"] if one["name"] == "vault"]
    assert vault["state"] != "healthy"


async def test_clause_59_another_authorization_server_gets_no_credentials_of_the_first(
    start: Any, servers: Any
) -> None:
    resource, authority, other = servers
    stand = await start("modern", proxy=upstream(resource))
    assert (await stand.modern("tools/call", {"name": "open"})).text == "opened"
    resource.authorities, resource.wanted = [other.origin], "of another server"
    refused = await stand.modern("tools/call", {"name": "open"})
    assert refused.code == -31001
    assert "set issuer and the credentials of the new one" in refused.json["error"]["message"]
    assert not other.asked
    assert len(authority.forms) == 1
