"""Agents log in by their own OAuth support: the official SDKs, both eras, and a certified authorization server."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx2
import pytest
from mcp.client.auth import AuthorizationCodeResult, OAuthClientProvider
from mcp.client.auth.extensions.client_credentials import ClientCredentialsOAuthProvider
from mcp.client.client import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.auth import OAuthClientInformationFull, OAuthClientMetadata, OAuthToken
from pydantic import AnyUrl

sys.path.insert(0, str(Path(__file__).parent))

from browser import log_in
from conftest import Gateway, wait_until

from tests.ports import free_port

CALLBACK = AnyUrl("http://127.0.0.1:9/callback")


@dataclass
class World:
    """A gateway, the authorization server that it trusts, and a second one that it does not."""

    gateway: Gateway
    issuer: str
    stranger: str
    log: Any

    def token(self, issuer: str | None = None, resource: str | None = None, **form: str) -> str:
        """An access token by the client-credentials grant."""
        return token_for(resource or self.gateway.url, issuer or self.issuer, **form)

    def post(self, token: str | None) -> httpx2.Response:
        """A modern tools/list."""
        meta = {
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
            "io.modelcontextprotocol/clientCapabilities": {},
        }
        headers = {
            "Accept": "application/json, text/event-stream",
            "MCP-Protocol-Version": "2026-07-28",
            "Mcp-Method": "tools/list",
        }
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        body = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {"_meta": meta}}
        return httpx2.post(self.gateway.url, json=body, headers=headers, timeout=60)


def token_for(resource: str, issuer: str, **form: str) -> str:
    """An access token by the client-credentials grant."""
    given = {"grant_type": "client_credentials", "scope": "mcp", "resource": resource, **form}
    answer = httpx2.post(f"{issuer}/token", data=given, auth=("machine", "machine-secret"), timeout=60)
    assert answer.status_code == 200, answer.text
    found: str = answer.json()["access_token"]
    return found


@pytest.fixture(scope="module")
def world(session_launcher: Any, tools: Any) -> World:
    launcher = session_launcher
    issuer, _ = launcher.authorization_server(tools)
    stranger, _ = launcher.authorization_server(tools, "other-authorization-server")
    upstream, port = free_port(), free_port()
    launcher.http_server("behind-login", upstream)
    settings = {
        "port": port,
        "upstreams": [{"name": "demo", "transport": "http", "url": f"http://127.0.0.1:{upstream}/mcp"}],
        "plugins": [
            {
                "name": "auth_jwt",
                "audience": f"http://127.0.0.1:{port}/mcp",
                "required_scopes": ["mcp"],
                "issuers": [{"issuer": issuer, "token_types": ["at+jwt"]}],
            }
        ],
    }
    gateway = launcher.start(launcher.write(settings, "login-gateway"), port, "login-gateway")
    wait_until(lambda: gateway.upstream("demo")["state"] == "healthy", "the upstream is healthy")
    return World(gateway, issuer, stranger, log=lambda: launcher.processes.log("login-gateway"))


# -- agents -----------------------------------------------------------------------------------------------------------


@dataclass
class Storage:
    """What an agent keeps of its logins."""

    client: OAuthClientInformationFull | None = None
    tokens: list[OAuthToken] = field(default_factory=list)

    async def get_tokens(self) -> OAuthToken | None:
        return self.tokens[-1] if self.tokens else None

    async def set_tokens(self, tokens: OAuthToken) -> None:
        self.tokens.append(tokens)

    async def get_client_info(self) -> OAuthClientInformationFull | None:
        return self.client

    async def set_client_info(self, client_info: OAuthClientInformationFull) -> None:
        self.client = client_info


class Person(OAuthClientProvider):
    """The SDK's code flow, with a person who logs in at once."""

    def __init__(self, url: str, storage: Storage, name: str) -> None:
        metadata = OAuthClientMetadata(
            client_name="agent", redirect_uris=[CALLBACK], token_endpoint_auth_method="none", scope="mcp"
        )
        super().__init__(url, metadata, storage, self._open, self._came_back)
        self._name = name
        self._callback = ""

    async def _open(self, url: str) -> None:
        self._callback = log_in(url, self._name)

    async def _came_back(self) -> AuthorizationCodeResult:
        query = {name: values[0] for name, values in parse_qs(urlsplit(self._callback).query).items()}
        return AuthorizationCodeResult(code=query["code"], state=query.get("state"), iss=query.get("iss"))


async def call(world: World, auth: httpx2.Auth, mode: str) -> str:
    async with (
        httpx2.AsyncClient(auth=auth, timeout=60) as http,
        Client(
            streamable_http_client(world.gateway.url, http_client=http), mode=mode, read_timeout_seconds=60
        ) as client,
    ):
        result = await client.call_tool("echo", {"text": "hello"})
        found: str = result.content[0].text
        return found


def claims(token: OAuthToken | str) -> dict[str, Any]:
    text = token if isinstance(token, str) else token.access_token
    found: dict[str, Any] = json.loads(base64.urlsafe_b64decode(text.split(".")[1] + "=="))
    return found


@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_a_program_logs_in_with_its_credentials(world: World, mode: str) -> None:
    storage = Storage()
    auth = ClientCredentialsOAuthProvider(
        world.gateway.url, storage, "machine", "machine-secret", scope="mcp", issuer=world.issuer
    )
    assert "hello" in await call(world, auth, mode)
    assert claims(storage.tokens[-1])["aud"] == world.gateway.url


@pytest.mark.parametrize("registered", [True, False], ids=["known", "registers"])
@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_a_person_logs_in_with_a_browser(world: World, mode: str, registered: bool) -> None:
    name = f"alice-{mode}-{registered}"
    client = OAuthClientInformationFull(
        client_id="desktop", redirect_uris=[CALLBACK], token_endpoint_auth_method="none", issuer=world.issuer
    )
    storage = Storage(client if registered else None)
    assert "hello" in await call(world, Person(world.gateway.url, storage, name), mode)
    assert claims(storage.tokens[-1])["sub"] == name
    wait_until(lambda: f"{name}|{world.issuer}" in world.log(), "the log names the person")
    # With the same tokens, the next connection needs no login.
    assert "hello" in await call(world, Person(world.gateway.url, storage, "another"), mode)
    assert len(storage.tokens) == 1


@pytest.mark.parametrize("kind", ["machine", "person"])
@pytest.mark.parametrize("era", ["legacy", "modern"])
def test_the_typescript_sdk_logs_in(world: World, tools: Any, tmp_path: Path, era: str, kind: str) -> None:
    done = tools.run_node("login.mjs", world.gateway.url, era, kind, world.issuer, sys.executable, home=tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"hello from {kind}" in json.loads(done.stdout)["content"][0]["text"]


def test_keys_and_logins_work_side_by_side(launcher: Any, tools: Any, tmp_path: Path) -> None:
    issuer, _ = launcher.authorization_server(tools)
    upstream, port = free_port(), free_port()
    launcher.http_server("behind-both", upstream)
    login = {"audience": f"http://127.0.0.1:{port}/mcp", "required_scopes": ["mcp"], "issuers": [{"issuer": issuer}]}
    settings = {
        "port": port,
        "upstreams": [{"name": "demo", "transport": "http", "url": f"http://127.0.0.1:{upstream}/mcp"}],
        "plugins": [{"name": "auth_apikey"}, {"name": "auth_jwt", **login}],
    }
    config = launcher.write(settings)
    add = [str(launcher.rad), "mcp", "proxy", "keys", "add", "bob", "--config", str(config)]
    made = subprocess.run(add, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False)
    assert made.returncode == 0, made.stderr
    world = World(launcher.start(config, port), issuer, "", None)
    wait_until(lambda: world.gateway.upstream("demo")["state"] == "healthy", "the upstream is healthy")
    assert world.post(made.stdout.strip()).status_code == 200
    assert world.post(world.token()).status_code == 200
    assert world.post(made.stdout.strip()[:-1]).status_code == 401
    for era in ("legacy", "modern"):
        done = tools.run_node("login.mjs", world.gateway.url, era, "person", issuer, sys.executable, home=tmp_path)
        assert done.returncode == 0, done.stderr


# -- what is refused --------------------------------------------------------------------------------------------------


def test_every_token_that_proves_nothing_gets_the_same_answer(world: World) -> None:
    good = world.token()
    assert world.post(good).status_code == 200
    header, payload, signature = good.split(".")
    other = base64.urlsafe_b64encode(json.dumps({**claims(good), "sub": "root"}).encode()).rstrip(b"=").decode()
    none = base64.urlsafe_b64encode(b'{"alg":"none","typ":"at+jwt"}').rstrip(b"=").decode()
    bad = {
        "nothing": None,
        "no token": "hello",
        "changed": f"{header}.{other}.{signature}",
        "unsigned": f"{none}.{payload}.",
        "without a scope": world.token(scope=""),
        "with another scope": world.token(scope="files.read"),
        "for another resource": world.token(resource="https://other.example.com/mcp"),
        "of another server": world.token(world.stranger),
    }
    seen = {}
    for what, token in bad.items():
        answer = world.post(token)
        headers = {name: value for name, value in answer.headers.items() if name != "date"}
        seen[what] = (answer.status_code, headers, answer.text)
    first = seen["nothing"]
    assert {what: answer for what, answer in seen.items() if answer != first} == {}
    assert first[0] == 401
    where = f"{world.gateway.base}/.well-known/oauth-protected-resource/mcp"
    assert first[1]["www-authenticate"] == f'Bearer resource_metadata="{where}", scope="mcp"'


def test_the_metadata_is_public_and_names_the_authorization_server(world: World) -> None:
    for path in ("oauth-protected-resource", "oauth-protected-resource/mcp"):
        answer = httpx2.get(f"{world.gateway.base}/.well-known/{path}", timeout=60)
        assert answer.status_code == 200
        assert answer.json() == {
            "resource": world.gateway.url,
            "authorization_servers": [world.issuer],
            "bearer_methods_supported": ["header"],
            "scopes_supported": ["mcp"],
        }


def alone(launcher: Any, issuer: str, port: int, **settings: Any) -> World:
    """A gateway without upstreams that trusts `issuer`."""
    plugin = {"name": "auth_jwt", "audience": f"http://127.0.0.1:{port}/mcp", "issuers": [{"issuer": issuer}]}
    config = launcher.write({"port": port, "plugins": [{**plugin, **settings}], "upstreams": []})
    return World(launcher.start(config, port), issuer, "", lambda: launcher.processes.log("gateway"))


def test_a_token_ends_when_it_expires(launcher: Any, tools: Any) -> None:
    issuer, _ = launcher.authorization_server(tools, token_seconds=10)
    world = alone(launcher, issuer, free_port(), leeway=0.0)
    assert world.post(world.token(scope="mcp")).status_code == 200, "the keys are fetched"
    token = world.token()
    assert world.post(token).status_code == 200
    wait_until(lambda: time.time() >= claims(token)["exp"], "the token expires")
    assert world.post(token).status_code == 401


def test_the_log_names_the_reason_and_has_no_token(world: World) -> None:
    token = world.token(resource="https://elsewhere.example.com/mcp")
    assert world.post(token).status_code == 401
    wait_until(lambda: "was refused: auth_jwt: the token is refused: it" in world.log(), "a line says why")
    for part in token.split("."):
        assert part not in world.log()


def test_an_authorization_server_that_is_gone_is_no_verdict(launcher: Any, tools: Any) -> None:
    issuer, server = launcher.authorization_server(tools)
    port = free_port()
    token = token_for(f"http://127.0.0.1:{port}/mcp", issuer)
    server.terminate()
    server.wait(60)
    world = alone(launcher, issuer, port)
    answer = world.post(token)
    assert answer.status_code == 503
    assert "www-authenticate" not in answer.headers
    wait_until(lambda: f"the keys of {issuer} could not be fetched" in world.log(), "the log says why")
