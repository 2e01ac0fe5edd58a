"""A protected upstream and an authorization server, real HTTP servers whose every word a test decides."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote_plus

import pytest
from aiohttp import web
from loguru import logger
from multidict import CIMultiDict
from pydantic import SecretStr
from yarl import URL

from gateway_core.config import AuthConfig, LimitsConfig, UpstreamConfig
from gateway_core.errors import NotSent
from gateway_core.upstream.auth import Challenge, Login, Logins, tokens
from gateway_core.upstream.auth.code_flow import CodeFlow
from gateway_core.upstream.auth.logins import GATEWAY
from gateway_core.upstream.transports.client import HttpClient

SECRET = "s3cr3t:/ä&"
CLIENT = "the client"
REDIRECT = "http://127.0.0.1:8765/callback"
PROTECTED = "/.well-known/oauth-protected-resource"
METADATA = "/.well-known/oauth-authorization-server"
OPENID = "/.well-known/openid-configuration"


@dataclass
class ClientContext:
    """An HTTP server: documents by path, 404 for all else; remembers who asked for what."""

    origin: str = ""
    documents: dict[str, Any] = field(default_factory=dict)
    """Path -> JSON value, or a ready answer (a function that makes one)."""
    asked: list[str] = field(default_factory=list)
    headers: list[CIMultiDict[str]] = field(default_factory=list)

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        self.asked.append(request.path)
        self.headers.append(CIMultiDict(request.headers))
        document = self.documents.get(request.path)
        if document is None:
            raise web.HTTPNotFound
        return await document(request) if callable(document) else web.json_response(document)


@dataclass
class Resource(ClientContext):
    """The upstream: `/mcp` wants a token with some scopes, `/open` wants none."""

    needs: set[str] = field(default_factory=set)
    challenge: dict[str, str] = field(default_factory=dict)
    """Parameters of the 401."""
    tokens: dict[str, set[str]] = field(default_factory=dict)
    """Tokens that are valid, with their scopes."""
    used: list[str] = field(default_factory=list)
    """The `Authorization` of each request to `/mcp`."""
    insatiable: bool = False
    """Ask for a scope that was never heard of, each time."""

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.path == "/open":
            return web.json_response({})
        if request.path != "/mcp":
            return await super().answer(request)
        self.used.append(request.headers.get("Authorization", ""))
        scopes = self.tokens.get(self.used[-1].removeprefix("Bearer "))
        if scopes is None:
            return self._refuse(401, self.challenge)
        needs = {f"new-{len(self.used)}"} if self.insatiable else self.needs
        if needs - scopes:
            words = {"error": "insufficient_scope", "scope": " ".join(sorted(needs)), "error_description": SECRET}
            return self._refuse(403, words)
        return web.json_response({"ok": True})

    @staticmethod
    def _refuse(status: int, words: dict[str, str]) -> web.Response:
        parameters = ", ".join(f'{name}="{value}"' for name, value in words.items())
        return web.Response(status=status, headers={"WWW-Authenticate": f"Bearer {parameters}".strip()})


@dataclass
class Authority(ClientContext):
    """The authorization server."""

    resource: Resource = field(default_factory=Resource)
    forms: list[dict[str, str]] = field(default_factory=list)
    basic: list[str] = field(default_factory=list)
    """The client's secret in a header, one for each token request; empty where there was none."""
    grants: bool = True
    """Whether a token has the scopes that were asked for."""
    valid: bool = True
    """Whether the upstream takes the tokens."""
    refuses: tuple[int, str] | None = None
    methods: set[str] = field(default_factory=set)
    """Ways to prove who one is that it takes; all when empty."""
    codes: dict[str, dict[str, str]] = field(default_factory=dict)
    """Codes that were not exchanged yet, with the authorization request."""
    refresh: dict[str, str] = field(default_factory=dict)
    """Refresh tokens that are valid, with their scope."""
    offline: bool = True
    """Whether a login gets a refresh token."""
    life: float | None = 3600
    delay: float = 0.0
    """Seconds until a token request is answered."""
    clients: list[dict[str, Any]] = field(default_factory=list)
    """What clients registered with."""
    registration: dict[str, Any] = field(default_factory=dict)
    """Members of the answer to a registration, in place of the usual ones."""
    revoked: list[str] = field(default_factory=list)

    def publish_logins(self, **members: Any) -> str:
        """Have metadata of a server with the code flow, registration and revocation; returns the issuer."""
        self.documents["/register"] = self.register
        self.documents["/revoke"] = self.revoke
        endpoints = {"authorization_endpoint": "authorize", "registration_endpoint": "register"}
        endpoints["revocation_endpoint"] = "revoke"
        found = {name: f"{self.origin}/{path}" for name, path in endpoints.items()}
        return self.publish(**{**found, "code_challenge_methods_supported": ["S256"], **members})

    def approve(self, address: URL, **changes: Any) -> dict[str, list[str]]:
        """Let a person log in at an authorization address; the query with which the browser comes back."""
        code = f"code-{len(self.codes) + len(self.forms) + 1}"
        self.codes[code] = dict(address.query)
        query = {"code": [code], "state": [address.query["state"]], **changes}
        return {name: value for name, value in query.items() if value is not None}

    async def register(self, request: web.BaseRequest) -> web.StreamResponse:
        self.clients.append(json.loads(await request.text()))
        answer = {"client_id": f"registered-{len(self.clients)}", **self.registration}
        return web.json_response(answer, status=int(answer.pop("status", 201)))

    async def revoke(self, request: web.BaseRequest) -> web.StreamResponse:
        self.revoked.append(str((await request.post())["token"]))
        return web.json_response({})

    def exchanged(self, form: dict[str, str]) -> web.Response | str:
        """The scope of the token for a code or a refresh token, or the refusal. Both are good for one use."""
        invalid = web.json_response({"error": "invalid_grant", "error_description": SECRET}, status=400)
        if form["grant_type"] == "refresh_token":
            scope = self.refresh.pop(form["refresh_token"], None)
            return invalid if scope is None else scope
        request = self.codes.pop(form["code"], {})
        digest = hashlib.sha256(form["code_verifier"].encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).decode().rstrip("=")
        same = ("redirect_uri", "resource")
        fits = all(request.get(name) == form.get(name) for name in same) and request.get("code_challenge") == challenge
        return request.get("scope", "") if fits else invalid

    async def token(self, request: web.BaseRequest) -> web.StreamResponse:
        form = {name: str(value) for name, value in (await request.post()).items()}
        self.forms.append(form)
        given = request.headers.get("Authorization", "")
        self.basic.append(unquote_plus(base64.b64decode(given.removeprefix("Basic ")).decode()))
        method = "client_secret_basic" if given else "client_secret_post" if "client_secret" in form else "none"
        if self.methods and method not in self.methods:
            return web.json_response({"error": "invalid_client", "error_description": SECRET}, status=401)
        if self.refuses is not None:
            status, error = self.refuses
            return web.json_response({"error": error, "error_description": SECRET}, status=status)
        token = f"token-{len(self.forms)}"
        answer: dict[str, Any] = {"access_token": token, "token_type": "Bearer", "expires_in": self.life}
        scope = form.get("scope", "")
        await asyncio.sleep(self.delay)
        if form["grant_type"] != "client_credentials":
            found = self.exchanged(form)
            if not isinstance(found, str):
                return found
            scope = found
            if self.offline:
                answer["refresh_token"] = f"refresh-{len(self.forms)}"
                self.refresh[answer["refresh_token"]] = scope
        if self.valid:
            self.resource.tokens[token] = set(scope.split()) if self.grants else set()
        return web.json_response(answer)

    def publish(self, path: str = METADATA, *, tenant: str = "", **members: Any) -> str:
        """Have metadata at `path`; returns the issuer."""
        issuer = self.origin + tenant
        document = {"issuer": issuer, "token_endpoint": f"{self.origin}/token", **members}
        self.documents[path] = document
        self.documents["/token"] = self.token
        return issuer


@dataclass
class World:
    """Both servers, a third one where nobody should ask, and clients of the upstream."""

    resource: Resource
    authority: Authority
    elsewhere: ClientContext = field(default_factory=ClientContext)
    clients: list[HttpClient] = field(default_factory=list)
    flows: list[CodeFlow] = field(default_factory=list)
    logins: Logins = field(default_factory=Logins)

    def protect(self, path: str = f"{PROTECTED}/mcp", **members: Any) -> None:
        """Have protected resource metadata at `path` that leads to the authority."""
        document = {"resource": f"{self.resource.origin}/mcp", "authorization_servers": [self.authority.origin]}
        self.resource.documents[path] = {**document, **members}

    def login_client(self, **auth: Any) -> HttpClient:
        """A client of the upstream that uses the login in `logins`."""
        return self._client({"grant": "authorization_code", **auth}, self.logins)

    def flow(self, last: Login | None = None, *, url: str | None = None, **auth: Any) -> CodeFlow:
        """A login at the upstream that has not begun; the upstream was reached before."""
        client = self._client(None, None, url)
        client.access.addresses.add("127.0.0.1")
        config = AuthConfig(grant="authorization_code", **auth)
        self.flows.append(CodeFlow(client.url, config, client.access, last))
        return self.flows[-1]

    async def log_in(self, challenge: Challenge | None = None, **auth: Any) -> Login:
        """Log in, and keep the login."""
        flow = self.flow(self.logins.of(GATEWAY, "fixture"), **auth)
        address = await flow.begin(challenge or Challenge(), REDIRECT)
        login = await flow.finish(self.authority.approve(address))
        await self.logins.change(GATEWAY, "fixture", lambda _: login)
        return login

    def client(self, *, url: str | None = None, headers: dict[str, str] | None = None, **auth: Any) -> HttpClient:
        keys: dict[str, Any] = {"client_id": CLIENT, **auth}
        if "private_key" not in keys and keys.get("token_endpoint_auth_method") != "none":
            keys.setdefault("client_secret", SecretStr(SECRET))
        return self._client(keys, None, url, headers)

    def _client(
        self,
        auth: dict[str, Any] | None,
        logins: Logins | None,
        url: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> HttpClient:
        config = UpstreamConfig(
            name="fixture",
            transport="http",
            url=url or f"{self.resource.origin}/mcp",
            headers=headers or {},
            auth=None if auth is None else AuthConfig(**auth),
        )
        self.clients.append(HttpClient(config, LimitsConfig(), logins=logins))
        return self.clients[-1]

    async def status(self, client: HttpClient, path: str = "/mcp") -> int:
        """Send one request; the status of its answer."""
        response = await client.open("POST", {}, body=b"{}", url=URL(self.resource.origin + path))
        response.close()
        return response.status

    async def refusal(self, client: HttpClient) -> str:
        """Why there is no token."""
        with pytest.raises(NotSent) as caught:
            await self.status(client)
        assert SECRET not in caught.value.reason
        assert "s3cr3t" not in caught.value.reason
        return caught.value.reason


@asynccontextmanager
async def served(host: ClientContext) -> AsyncIterator[None]:
    """Serve on a free port of loopback."""
    runner = web.ServerRunner(web.Server(host.answer), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host.origin = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield
    await runner.cleanup()


@pytest.fixture
async def world() -> AsyncIterator[World]:
    """An upstream and its authorization server; neither publishes anything yet."""
    made = World(Resource(), Authority())
    made.authority.resource = made.resource
    async with AsyncExitStack() as stack:
        for host in (made.resource, made.authority, made.elsewhere):
            await stack.enter_async_context(served(host))
        yield made
        for user in (*made.clients, *made.flows):
            await user.close()


@pytest.fixture
def logged() -> Iterator[list[str]]:
    """The lines of the log."""
    lines: list[str] = []
    sink = logger.add(lines.append, level="DEBUG", format="{message} {exception}")
    yield lines
    logger.remove(sink)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Move the clock that tokens live by."""
    moved = 0.0
    real = tokens.time.monotonic

    def move(seconds: float) -> None:
        nonlocal moved
        moved += seconds

    monkeypatch.setattr(tokens.time, "monotonic", lambda: real() + moved)
    return move
