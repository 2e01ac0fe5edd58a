"""Token exchange (RFC 8693), from the agent's token to the call: each principal has its own token at the upstream."""

import asyncio
import contextlib
import json
import re
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import jwt
import pytest
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec
from mcp import MCPError

from gateway_core.upstream.auth import documents
from tests.upstream.identities.conftest import failure, told, user_server
from tests.upstream.identities.conftest import world as gateways
from tests.upstream.identities.private_server import PrivateServer, served

FIXTURES = (gateways, user_server)
ISSUER = "https://login.example.com"
AUDIENCE = "https://gateway.example.com/mcp"
GRANT = "urn:ietf:params:oauth:grant-type:token-exchange"
ACCESS = "urn:ietf:params:oauth:token-type:access_token"
KEY = ec.generate_private_key(ec.SECP256R1())
ERA = pytest.mark.parametrize("era", ["legacy", "modern"])


def token(subject: str, **claims: Any) -> str:
    """An access token of the agents' authorization server."""
    now = int(time.time())
    made = {"iss": ISSUER, "aud": AUDIENCE, "sub": subject, "iat": now, "exp": now + 600, "scope": "mcp", **claims}
    return jwt.encode(made, KEY, "ES256", {"kid": "one", "typ": "at+jwt"})


class Exchange:
    """The token endpoint; a test decides what it answers."""

    def __init__(self) -> None:
        self.origin = ""
        self.forms: list[dict[str, str]] = []
        self.changes: dict[str, Any] = {}
        """Members of the answer that replace the right ones; None leaves one out."""
        self.answer: Callable[[dict[str, str]], web.StreamResponse] | None = None
        self.delay = 0.0
        self.open = asyncio.Event()
        self.open.set()

    def of(self, subject: str) -> list[dict[str, str]]:
        return [form for form in self.forms if subject_of(form["subject_token"]) == subject]

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.path != "/token":
            document = {"issuer": self.origin, "token_endpoint": f"{self.origin}/token"}
            found = request.path == "/.well-known/oauth-authorization-server"
            return web.json_response(document) if found else web.Response(status=404)
        form = {name: str(value) for name, value in (await request.post()).items()}
        self.forms.append(form)
        await self.open.wait()
        if self.answer is not None:
            return self.answer(form)
        made = {
            "access_token": f"up-{subject_of(form['subject_token'])}-{len(self.forms)}",
            "issued_token_type": ACCESS,
            "token_type": "Bearer",
            "expires_in": 600,
            **self.changes,
        }
        return web.json_response({name: value for name, value in made.items() if value is not None})


def subject_of(subject_token: str) -> str:
    return str(claims_of(subject_token)["sub"])


def claims_of(subject_token: str) -> dict[str, Any]:
    found: dict[str, Any] = jwt.decode(subject_token, options={"verify_signature": False})
    return found


@pytest.fixture
async def exchange() -> AsyncIterator[Exchange]:
    made = Exchange()
    runner = web.ServerRunner(web.Server(made.handle), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made.origin = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield made
    made.open.set()
    await runner.cleanup()


@pytest.fixture
async def start(gateways: Any, user_server: Any, exchange: Exchange, tmp_path: Path) -> Any:
    """Start a gateway whose agents have tokens, over a server that wants other ones: `world = await start(era)`."""
    jwk = json.loads(jwt.get_algorithm_by_name("ES256").to_jwk(KEY.public_key()))
    (tmp_path / "keys.json").write_text(json.dumps({"keys": [{**jwk, "kid": "one", "alg": "ES256"}]}))

    async def run(*flags: str, url: str = "", **auth: Any) -> Any:
        plugin = {"name": "auth_jwt", "audience": AUDIENCE}
        plugin |= {"issuers": [{"issuer": ISSUER, "jwks_file": str(tmp_path / "keys.json")}]}  # type: ignore[dict-item]
        keys = {"client_id": "gw", "client_secret": "s3cr3t-of-gw", "token_url": f"{exchange.origin}/token", **auth}
        return await gateways(
            url or user_server("--bearer", *flags),
            forward={},
            auth={"grant": "token_exchange", **{name: it for name, it in keys.items() if it is not None}},
            proxy={"plugins": [plugin]},
        )

    return run


@ERA
@pytest.mark.parametrize("flags", [(), ("--legacy",)], ids=["modern server", "legacy server"])
async def test_each_principal_has_its_token_upstream(
    start: Any, exchange: Exchange, era: str, flags: tuple[str, ...]
) -> None:
    made = await start(*flags, audience="tracker", scope="tracker:read")
    mine = token("ada")
    async with made.client(None, era, bearer=mine) as ada, made.client(None, era, bearer=token("ben")) as ben:
        assert {"of-ada", "of-ben"} & {tool.name for tool in (await ada.list_tools()).tools} == {"of-ada"}
        assert {"of-ada", "of-ben"} & {tool.name for tool in (await ben.list_tools()).tools} == {"of-ben"}
        await asyncio.gather(*(it.call_tool("keep", {"text": "x"}) for it in (ada, ben) * 3))
        sent = set(await told(ada, "sent"))
    assert {len(exchange.of(name)) for name in ("ada", "ben")} == {1}
    form = exchange.of("ada")[0]
    assert form == {
        "grant_type": GRANT,
        "subject_token": mine,
        "subject_token_type": ACCESS,
        "requested_token_type": ACCESS,
        "audience": "tracker",
        "scope": "tracker:read",
        "resource": made.upstream.config.url,
    }
    assert not any(mine.replace("-", "+") in it for it in sent)  # the agent's own token never reaches the upstream


async def test_many_first_calls_exchange_once(start: Any, exchange: Exchange) -> None:
    made = await start()
    exchange.open.clear()
    async with made.client(None, "modern", bearer=token("cyd")) as client:
        calls = [asyncio.ensure_future(client.call_tool("recall", {})) for _ in range(10)]
        while not exchange.forms:
            await asyncio.sleep(0.01)
        exchange.open.set()
        assert not any(result.is_error for result in await asyncio.gather(*calls))
    assert len(exchange.of("cyd")) == 1


async def test_the_status_counts_exchanges_of_all_principals(start: Any, exchange: Exchange) -> None:
    made = await start()
    async with (
        made.client(None, "modern", bearer=token("gil")) as gil,
        made.client(None, "modern", bearer=token("hal")) as hal,
    ):
        for client in (gil, hal):
            await client.call_tool("recall", {})
    exchange.answer = lambda form: web.json_response({"error": "invalid_grant"}, status=400)
    async with made.client(None, "modern", bearer=token("ida")) as client:
        await failure(client.call_tool("recall", {}))
    (found,) = made.gateway.status()["upstreams"]
    counted = {"renewed": 2, "failed": 1, "login_needed": 0}
    assert found["tokens"] == {"expires_at": None, "renewals": None, "user_renewals": counted}
    assert [len(exchange.of(name)) for name in ("gil", "hal", "ida")] == [1, 1, 1]
    for name in ("gil", "hal", "ida"):
        assert name not in str(found)


async def test_a_refused_token_is_exchanged_again_once(start: Any, exchange: Exchange) -> None:
    made = await start()
    async with made.client(None, "modern", bearer=token("dan")) as client:
        await client.call_tool("revoke", {})
        assert not (await client.call_tool("recall", {})).is_error
        assert len(exchange.of("dan")) == 2
        await client.call_tool("revoke", {})
        with pytest.raises(MCPError, match="401"):
            await client.call_tool("recall", {})
        assert len(exchange.of("dan")) == 2


async def test_a_token_with_less_rights_gets_no_token_of_one_with_more(start: Any, exchange: Exchange) -> None:
    made = await start()
    async with (
        made.client(None, "modern", bearer=token("eve", scope="mcp admin")) as more,
        made.client(None, "modern", bearer=token("eve")) as less,
        made.client(None, "modern", bearer=token("eve", jti="2")) as renewed,
    ):
        for client in (more, less, renewed):
            await client.call_tool("recall", {})
    assert [claims_of(it["subject_token"])["scope"] for it in exchange.of("eve")] == ["mcp admin", "mcp"]


@pytest.mark.parametrize(
    "claims",
    [
        {"authorization_details": [{"type": "account", "id": "1"}]},
        {"realm_access": {"roles": ["admin"]}},
        {"permissions": ["write"]},
        {"act": {"sub": "robot"}},
    ],
)
async def test_any_claim_may_give_rights_but_those_that_change_with_each_token(
    start: Any, exchange: Exchange, claims: dict[str, Any]
) -> None:
    made = await start()
    async with (
        made.client(None, "modern", bearer=token("eve", **claims)) as more,
        made.client(None, "modern", bearer=token("eve", jti="1")) as less,
        made.client(None, "modern", bearer=token("eve", jti="2", iat=1, auth_time=2)) as renewed,
    ):
        for client in (more, less, renewed):
            await client.call_tool("recall", {})
    sent = [claims_of(it["subject_token"]) for it in exchange.of("eve")]
    assert [claims.keys() <= it.keys() for it in sent] == [True, False]


async def test_an_agent_without_an_access_token_is_refused(start: Any, exchange: Exchange) -> None:
    made = await start()
    async with made.client(None, "modern") as client, made.client("fay", "modern") as named:
        for it in (client, named):
            with pytest.raises(MCPError, match=r"not executed.*was not authenticated with an access token"):
                await it.call_tool("tracker:recall", {})
    assert exchange.forms == []


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"issued_token_type": None}, "no issued_token_type"),
        ({"issued_token_type": "urn:ietf:params:oauth:token-type:refresh_token"}, "no issued_token_type"),
        ({"issued_token_type": 7}, "no issued_token_type"),
        ({"token_type": "N_A"}, "not a bearer token"),
        ({"token_type": None}, "no token_type"),
        ({"access_token": ""}, "no usable access_token"),
        ({"access_token": "a b"}, "no usable access_token"),
        ({"pad": "x" * 70000}, "larger than"),
    ],
)
async def test_an_answer_that_is_not_what_was_asked_for_gives_no_token(
    start: Any, exchange: Exchange, changes: dict[str, Any], why: str
) -> None:
    made = await start()
    exchange.changes = changes
    async with made.client(None, "modern", bearer=token("gus")) as client:
        with pytest.raises(MCPError, match=f"not executed.*{why}"):
            await client.call_tool("tracker:recall", {})
    assert made.upstream.facts.state == "healthy"
    assert made.upstream.status.last_error is None


async def test_the_agents_token_is_never_passed_on(start: Any, exchange: Exchange) -> None:
    made = await start()
    mine = token("hal")
    exchange.changes = {"access_token": mine}
    async with made.client(None, "modern", bearer=mine) as client:
        with pytest.raises(MCPError, match="the agent's own token, which is never passed on"):
            await client.call_tool("tracker:recall", {})


async def test_a_refusal_harms_only_its_principal(start: Any, exchange: Exchange, logged: list[str]) -> None:
    made = await start()
    mine = token("ivy")

    def refuse(form: dict[str, str]) -> web.StreamResponse:
        if subject_of(form["subject_token"]) == "ivy":
            return web.json_response({"error": "invalid_grant", "error_description": mine}, status=400)
        answer = {"access_token": "up-joe-1", "issued_token_type": ACCESS, "token_type": "bearer"}
        return web.json_response(answer)

    exchange.answer = refuse
    async with made.client(None, "modern", bearer=mine) as ivy, made.client(None, "modern", bearer=token("joe")) as joe:
        with pytest.raises(MCPError, match=r"HTTP 400 \(invalid_grant\)"):
            await ivy.call_tool("tracker:recall", {})
        assert not (await joe.call_tool("recall", {})).is_error
        with pytest.raises(MCPError, match="invalid_grant"):
            await ivy.call_tool("tracker:recall", {})
        assert len(exchange.of("ivy")) == 1  # the next attempt has to wait
    exchange.answer = None
    async with made.client(None, "modern", bearer=token("ivy", jti="2")) as again:  # but another token does not
        await again.call_tool("tracker:recall", {})
    assert mine not in "".join(logged)
    assert "up-joe-1" not in "".join(logged)


async def test_an_endpoint_that_is_gone_or_slow_harms_only_its_upstream(
    start: Any, exchange: Exchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(documents, "TIMEOUT", 0.3)
    made = await start(token_url="http://127.0.0.1:9/token")
    async with made.client(None, "modern", bearer=token("kim")) as client:
        with pytest.raises(MCPError, match="not reachable"):
            await client.call_tool("tracker:recall", {})
    exchange.open.clear()
    slow = await start()
    async with slow.client(None, "modern", bearer=token("kim")) as client:
        with pytest.raises(MCPError, match=r"no answer within 0\.3 s"):
            await client.call_tool("tracker:recall", {})
    assert {made.upstream.facts.state, slow.upstream.facts.state} == {"healthy"}


async def test_the_issuer_leads_to_the_endpoint_and_another_issuer_to_none(start: Any, exchange: Exchange) -> None:
    made = await start(token_url=None, issuer=exchange.origin)
    async with made.client(None, "modern", bearer=token("liz")) as client:
        await client.call_tool("tracker:recall", {})
        assert exchange.of("liz")[0]["grant_type"] == GRANT
    origin, exchange.origin = exchange.origin, "http://127.0.0.1:1"  # what its metadata says from now on
    lying = await start(token_url=None, issuer=origin)
    async with lying.client(None, "modern", bearer=token("liz")) as client:
        with pytest.raises(MCPError, match="that of another issuer"):
            await client.call_tool("tracker:recall", {})
    assert len(exchange.of("liz")) == 1


async def test_a_server_that_repeats_the_token_does_not_tell_it(start: Any, exchange: Exchange) -> None:
    made = await start()
    exchange.changes = {"access_token": "up-max-very-secret-token"}
    async with made.client(None, "modern", bearer=token("max")) as client:
        with contextlib.suppress(MCPError):
            await client.call_tool("tracker:recall", {})
        result: Any = await client.call_tool("headers", {})
    assert "[REDACTED]" in result.content[0].text
    assert "very-secret" not in str(result)


@pytest.mark.parametrize("status", [302, 307])
async def test_tokens_follow_no_redirect_to_another_origin(start: Any, exchange: Exchange, status: int) -> None:
    """Neither the agent's token at the authorization server, nor the exchanged one at the upstream."""
    made = await start()
    async with served(PrivateServer("modern")) as elsewhere:
        exchange.answer = lambda form: web.Response(status=status, headers={"Location": f"{elsewhere.origin}/token"})
        async with made.client(None, "modern", bearer=token("nan")) as client:
            with pytest.raises(MCPError, match=f"not executed.*HTTP {status}"):
                await client.call_tool("tracker:recall", {})
        assert len(exchange.of("nan")) == 1
        exchange.answer = None
        async with served(PrivateServer("modern")) as server:
            server.redirects["tools/call"] = status, elsewhere.url
            moved = await start(url=server.url)
            async with moved.client(None, "modern", bearer=token("ole")) as client:
                assert re.search(r"redirects (to|with)", await failure(client.call_tool("who", {})))
            assert server.of("tools/call") == ["ole"]
        assert elsewhere.seen == []
