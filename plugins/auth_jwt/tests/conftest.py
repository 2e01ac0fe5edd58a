"""An authorization server that signs tokens with real keys, and can be slow, wrong, or gone."""

import json
import socket
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jwt
import pytest
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from gateway_auth_jwt.plugin import Jwt

from gateway_core import Principal, Reject
from gateway_core.testing import configured, make_credentials

AUDIENCE = "https://gateway.example.com/mcp"
_MAKERS: dict[str, Callable[[], Any]] = {
    "RS": lambda: rsa.generate_private_key(65537, 2048),
    "PS": lambda: rsa.generate_private_key(65537, 2048),
    "ES256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "ES384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "ES512": lambda: ec.generate_private_key(ec.SECP521R1()),
    "EdDSA": ed25519.Ed25519PrivateKey.generate,
    "Ed448": ed448.Ed448PrivateKey.generate,
}


@dataclass
class Key:
    """A key pair and its JWK."""

    id: str
    algorithm: str
    private: Any
    jwk: dict[str, Any]

    @classmethod
    def make(cls, key_id: str, algorithm: str = "ES256", **members: Any) -> "Key":
        made = (_MAKERS.get(algorithm) or _MAKERS[algorithm[:2]])()
        algorithm = "EdDSA" if algorithm == "Ed448" else algorithm
        jwk = json.loads(jwt.get_algorithm_by_name(algorithm).to_jwk(made.public_key()))
        return cls(key_id, algorithm, made, {**jwk, "kid": key_id, "use": "sig", "alg": algorithm, **members})


@dataclass
class Authority:
    """An issuer. `answers` replaces its answer at a path; `hits` counts the requests for each path."""

    issuer: str = "https://login.example.com"
    keys: list[Key] = field(default_factory=lambda: [Key.make("one")])
    answers: dict[str, Callable[[web.Request], Awaitable[web.StreamResponse]]] = field(default_factory=dict)
    hits: Counter[str] = field(default_factory=Counter)
    metadata: dict[str, Any] = field(default_factory=dict)
    """Members of the metadata that replace the right ones."""

    audience = AUDIENCE
    make_key = staticmethod(Key.make)

    def write(self, folder: Path) -> Path:
        """A file with the keys."""
        path = folder / "keys.json"
        path.write_text(json.dumps(self.key_set))
        return path

    @property
    def key_set(self) -> dict[str, Any]:
        return {"keys": [key.jwk for key in self.keys]}

    def claims(self, **changes: Any) -> dict[str, Any]:
        now = int(time.time())
        given = {
            "iss": self.issuer,
            "sub": "alice",
            "aud": AUDIENCE,
            "exp": now + 300,
            "iat": now,
            "jti": "1",
            "client_id": "agent",
            "scope": "mcp files.read",
            **changes,
        }
        return {name: value for name, value in given.items() if value is not ...}

    def token(self, key: Key | None = None, *, headers: dict[str, Any] | None = None, **changes: Any) -> str:
        """A signed token. `changes` replace claims, and `headers` headers; `...` and None remove one."""
        key = key or self.keys[0]
        given = {"typ": "at+jwt", "kid": key.id, **(headers or {})}
        removed = {name for name, value in given.items() if value is None} - {"typ"}
        header = {name: value for name, value in given.items() if name not in removed}
        payload = json.dumps(self.claims(**changes)).encode()
        return jwt.api_jws.encode(payload, key.private, key.algorithm, header)

    async def serve(self, request: web.Request) -> web.StreamResponse:
        self.hits[request.path] += 1
        if request.path in self.answers:
            return await self.answers[request.path](request)
        if request.path == "/keys":
            return web.json_response(self.key_set)
        if request.path == "/.well-known/oauth-authorization-server":
            return web.json_response({"issuer": self.issuer, "jwks_uri": f"{self.issuer}/keys", **self.metadata})
        return web.Response(status=404)


@pytest.fixture
async def start() -> AsyncIterator[Callable[..., Awaitable[Authority]]]:
    """Starts authorization servers on loopback."""
    runners: list[web.AppRunner] = []

    async def started(*keys: Key, ssl: Any = None, port: int = 0) -> Authority:
        authority = Authority(keys=list(keys) or [Key.make("one")])
        runner = web.ServerRunner(web.Server(authority.serve), shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port, ssl_context=ssl).start()
        runners.append(runner)
        scheme = "http" if ssl is None else "https"
        authority.issuer = f"{scheme}://127.0.0.1:{runner.addresses[0][1]}"
        return authority

    yield started
    for runner in runners:
        await runner.cleanup()


@pytest.fixture
def authority() -> Authority:
    """An authorization server without a network: its keys are in a file."""
    return Authority()


@pytest.fixture
async def judge() -> AsyncIterator[Callable[..., Awaitable[Principal | Reject | None]]]:
    """Judges a token with a plugin that has the given settings; equal settings share a plugin."""
    plugins: dict[str, Jwt] = {}

    async def judged(
        authority: Authority, token: str, certificate: Any = None, issuer: dict[str, Any] | None = None, **settings: Any
    ) -> Principal | Reject | None:
        table = {"issuer": authority.issuer, **(issuer or {})}
        settings = {"audience": AUDIENCE, "issuers": [table], **settings}
        name = json.dumps(settings, default=str)
        if name not in plugins:
            plugins[name] = configured(Jwt, **settings).instance  # type: ignore[assignment]
        return await plugins[name].authenticate(make_credentials(f"Bearer {token}", certificate=certificate))

    yield judged
    for plugin in plugins.values():
        await plugin.__aexit__()


@pytest.fixture
def unused_port() -> int:
    """A port of loopback that no server listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
