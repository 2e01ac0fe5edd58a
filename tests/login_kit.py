"""A tracker that needs a login: an MCP server with one tool, and its authorization server, on one port of loopback."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import threading
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from yarl import URL

PROTECTED = "/.well-known/oauth-protected-resource/mcp"
METADATA = "/.well-known/oauth-authorization-server"


@dataclass
class Tracker:
    """What it knows and what it was asked. A test may change all of it at any time."""

    origin: str = ""
    valid: set[str] = field(default_factory=set)
    """Access tokens that it accepts."""
    codes: dict[str, str] = field(default_factory=dict)
    """Codes that were not exchanged yet, with their challenge."""
    refresh: set[str] = field(default_factory=set)
    denies: bool = False
    """Whether the person declines."""
    forbids: bool = False
    """Whether it refuses every token because it lacks a scope."""
    revoked: list[str] = field(default_factory=list)
    calls: list[tuple[str, str]] = field(default_factory=list)
    """Method and `Authorization` of each MCP request."""
    person: str = ""
    """Who sits at the browser; the tool then says on whose behalf it is called."""
    people: dict[str, str] = field(default_factory=dict)
    """Codes, access and refresh tokens, with the person who logged in."""
    scope: str = "issues:read"
    """The scope of its challenge."""
    moved: tuple[int, str] | None = None
    """Status and location of the redirect that each MCP request gets."""
    redirects: list[str] = field(default_factory=list)
    """The redirect URIs of the authorization requests."""
    registered: int = 0
    issued: int = 0
    life: float = 3600
    """Seconds for which access tokens are valid, as it says."""
    renewable: bool = True
    """Whether it gives refresh tokens."""
    failing: bool = False
    """Whether its token endpoint answers with an error of the server."""
    refused: list[str] = field(default_factory=list)
    """The grants of the token requests that got no token."""

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        pages = {
            PROTECTED: self._protected,
            METADATA: self._metadata,
            "/register": self._register,
            "/authorize": self._authorize,
            "/token": self._token,
            "/revoke": self._revoke,
            "/mcp": self._mcp,
        }
        if request.path not in pages:
            raise web.HTTPNotFound
        return await pages[request.path](request)

    async def _protected(self, _: web.BaseRequest) -> web.StreamResponse:
        return web.json_response({"resource": f"{self.origin}/mcp", "authorization_servers": [self.origin]})

    async def _metadata(self, _: web.BaseRequest) -> web.StreamResponse:
        endpoints = {"authorization": "authorize", "token": "token", "registration": "register", "revocation": "revoke"}
        found = {f"{name}_endpoint": f"{self.origin}/{path}" for name, path in endpoints.items()}
        return web.json_response({"issuer": self.origin, "code_challenge_methods_supported": ["S256"], **found})

    async def _register(self, _: web.BaseRequest) -> web.StreamResponse:
        self.registered += 1
        return web.json_response({"client_id": f"client-{self.registered}"}, status=201)

    async def _authorize(self, request: web.BaseRequest) -> web.StreamResponse:
        query = request.query
        self.redirects.append(query["redirect_uri"])
        answer = {"state": query["state"], "iss": self.origin}
        if self.denies:
            answer["error"] = "access_denied"
        else:
            answer["code"] = f"code-{len(self.codes)}-{self.issued}"
            self.codes[answer["code"]] = query["code_challenge"]
            self.people[answer["code"]] = self.person
        raise web.HTTPFound(URL(query["redirect_uri"]).update_query(answer))

    async def _token(self, request: web.BaseRequest) -> web.StreamResponse:
        form = await request.post()
        if self.failing:
            self.refused.append(str(form["grant_type"]))
            return web.json_response({"error": "server_error"}, status=503)
        if form["grant_type"] == "client_credentials":
            fits = True
        elif form["grant_type"] == "refresh_token":
            fits = form["refresh_token"] in self.refresh
            self.refresh.discard(str(form["refresh_token"]))
        else:
            digest = hashlib.sha256(str(form["code_verifier"]).encode()).digest()
            fits = self.codes.pop(str(form["code"]), "") == base64.urlsafe_b64encode(digest).decode().rstrip("=")
        if not fits:
            self.refused.append(str(form["grant_type"]))
            return web.json_response({"error": "invalid_grant"}, status=400)
        self.issued += 1
        access, refresh = f"hidden-access-{self.issued}", f"hidden-refresh-{self.issued}"
        self.valid.add(access)
        self.refresh.add(refresh)
        self.people[access] = self.people[refresh] = self.people.get(
            str(form.get("code", form.get("refresh_token"))), ""
        )
        answer = {"access_token": access, "token_type": "Bearer", "expires_in": self.life}
        return web.json_response(answer | ({"refresh_token": refresh} if self.renewable else {}))

    async def _revoke(self, request: web.BaseRequest) -> web.StreamResponse:
        token = str((await request.post())["token"])
        self.revoked.append(token)
        self.valid.discard(token)
        return web.Response()

    async def _mcp(self, request: web.BaseRequest) -> web.StreamResponse:
        given = request.headers.get("Authorization", "")
        message = await request.json() if request.method == "POST" else {"method": request.method}
        self.calls.append((message["method"], given))
        if self.moved is not None:
            return web.Response(status=self.moved[0], headers={"Location": self.moved[1]})
        if given.removeprefix("Bearer ") not in self.valid:
            return web.Response(status=401, headers={"WWW-Authenticate": f'Bearer scope="{self.scope}"'})
        if self.forbids:
            wanted = 'Bearer error="insufficient_scope", scope="issues:write"'
            return web.Response(status=403, headers={"WWW-Authenticate": wanted})
        tool = {"name": "search", "inputSchema": {"type": "object"}}
        about = {"supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}}}
        results: dict[str, Any] = {
            "server/discover": about,
            "tools/list": {"tools": [tool]},
            "tools/call": {"content": [{"type": "text", "text": f"you are {self.people.get(given[7:]) or given}"}]},
        }
        if message["method"] not in results:
            return web.Response(status=405)
        result = {"resultType": "complete", **results[message["method"]]}
        return web.json_response({"jsonrpc": "2.0", "id": message["id"], "result": result})


class Served:
    """A tracker in a thread, for tests that run `rad` as a child process."""

    def __init__(self) -> None:
        self.tracker = Tracker()
        self._loop = asyncio.new_event_loop()
        self._runner: web.ServerRunner | None = None
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(30)

    async def _start(self) -> None:
        self._runner = web.ServerRunner(web.Server(self.tracker.answer), shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.tracker.origin = f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    def close(self) -> None:
        assert self._runner is not None
        asyncio.run_coroutine_threadsafe(self._runner.cleanup(), self._loop).result(30)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(30)
        self._loop.close()
