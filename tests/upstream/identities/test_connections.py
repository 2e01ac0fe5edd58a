"""The connections of two identities at one upstream: what reaches which of them, and where their secrets go."""

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import jwt
import mcp_types as types
import pytest
import tomli_w
from cryptography.hazmat.primitives.asymmetric import ec
from mcp.client.subscriptions import ResourceUpdated

from gateway_core.upstream.identities import identities
from tests.conformance.tasks_kit import Agent, Events, Lab, Stand
from tests.upstream.identities.conftest import failure, until
from tests.upstream.identities.private_server import URI, PrivateServer, served

ERA = pytest.mark.parametrize("era", ["legacy", "modern"])
QUIET = pytest.mark.filterwarnings("ignore:resources/subscribe is removed")
SERVER_ERA = pytest.mark.parametrize("server_era", ["legacy", "modern"])


@asynccontextmanager
async def watching(made: Any, user: str, era: str, key: str | None = None) -> AsyncIterator[list[str]]:
    """The URIs of the updates that an official client of a user gets while it watches the resource."""
    updates: list[str] = []

    async def received(message: Any) -> None:
        if isinstance(message, types.ResourceUpdatedNotification):
            updates.append(str(message.params.uri))

    if era == "legacy":
        async with made.client(user, era, key, message_handler=received) as client:
            await client.subscribe_resource(URI)
            yield updates
        return

    async def collect(changes: Any) -> None:
        async for event in changes:
            assert isinstance(event, ResourceUpdated)
            updates.append(event.uri)

    async with made.client(user, era, key) as client, client.listen(resource_subscriptions=[URI]) as changes:
        assert changes.honored.resource_subscriptions == [URI]
        collecting = asyncio.create_task(collect(changes))
        try:
            yield updates
        finally:
            collecting.cancel()


@QUIET
@ERA
@SERVER_ERA
async def test_an_update_reaches_the_identity_that_the_server_tells(world: Any, era: str, server_era: str) -> None:
    async with served(PrivateServer(server_era)) as server:
        made = await world(server.url)
        async with watching(made, "ada", era) as ada, watching(made, "ben", era) as ben:
            await until(lambda: {"ada", "ben"} <= {user for user, _, _ in server.streams})
            await server.update("ada")
            await until(lambda: bool(ada))
            assert (len(ada), ben) == (1, [])
            await server.update("ben")
            await until(lambda: bool(ben))
            assert (len(ada), len(ben)) == (1, 1)
            assert server_era == "modern" or sorted(server.subscribed) == ["ada", "ben"]


@QUIET
@ERA
async def test_the_end_of_one_subscription_leaves_that_of_the_other(world: Any, era: str) -> None:
    async with served(PrivateServer("modern")) as server:
        made = await world(server.url)
        async with watching(made, "ada", era) as ada:
            async with watching(made, "ben", era):
                await until(lambda: {"ada", "ben"} <= {user for user, _, _ in server.streams})
            before = len(ada)
            await server.update("ada")
            await until(lambda: len(ada) > before)


@asynccontextmanager
async def tasked(world: Any, key: str = "principal.subject") -> AsyncIterator[tuple[Lab, Any]]:
    """A server with tasks whose users are named by `key`, and the gateway before it."""
    async with Lab("tracker").running() as lab:
        yield lab, await world(lab.url, forward={"X-User-Id": key})


@asynccontextmanager
async def agent(made: Any, user: str, **headers: str) -> AsyncIterator[Agent]:
    async with aiohttp.ClientSession(headers={"X-Forwarded-User": user, **headers}) as http:
        yield Agent(Stand(made.gateway, http, []))


@asynccontextmanager
async def bearing(made: Any, token: str) -> AsyncIterator[Agent]:
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {token}"}) as http:
        yield Agent(Stand(made.gateway, http, []))


async def ended(events: Events) -> None:
    """Read to the end of a stream."""
    while await events.next():
        pass


def users(lab: Lab, *methods: str) -> list[str]:
    """The users of the requests with some methods."""
    return [headers.get("x-user-id", "") for headers, _ in lab.of(*methods)]


async def test_tasks_of_two_identities_with_the_same_id_stay_apart(world: Any) -> None:
    async with tasked(world) as (lab, made), agent(made, "ada") as ada, agent(made, "ben") as ben:
        lab.wire["tools/call"] = {"resultType": "task", **lab.extension.created()}
        mine, other = await ada.begin(), await ben.begin()
        assert mine != other
        async with ada.listen(mine) as to_ada, ben.listen(other) as to_ben:
            assert await to_ada.accepted() == [mine]
            assert await to_ben.accepted() == [other]
            asked = [it for it in lab.of("subscriptions/listen") if "taskIds" in it[1]["params"]["notifications"]]
            assert sorted(headers["x-user-id"] for headers, _ in asked) == ["ada", "ben"]
            first = asked[0][0]["x-user-id"]
            streams, ids = {"ada": to_ada, "ben": to_ben}, {"ada": mine, "ben": other}
            for number, user in enumerate((first, "ben" if first == "ada" else "ada")):
                result = {"content": [{"type": "text", "text": f"of {user}"}], "isError": False}
                lab.extension.listeners[number].say({**lab.tasks["t1"], "status": "completed", "result": result})
                status = await streams[user].status()  # the first message: nothing of the other was told before
                assert (status["taskId"], status["result"]) == (ids[user], result)


async def test_a_task_id_of_one_principal_is_nothing_to_another(world: Any) -> None:
    async with tasked(world) as (lab, made), agent(made, "ada") as ada, agent(made, "ben") as ben:
        task_id = await ada.begin()
        refused = await ben.ask("tasks/get", {"taskId": task_id})
        assert refused["error"]["code"] == (await ben.ask("tasks/get", {"taskId": "made-up"}))["error"]["code"]
        assert users(lab, "tasks/get") == []
        assert (await ada.get(task_id))["status"] == "working"


async def test_a_task_is_asked_for_with_the_values_of_the_agent_that_asks(world: Any) -> None:
    """Of several people with one principal, each is itself at the server, which decides whose task it is."""
    async with tasked(world, "header:X-Tracker-Key") as (lab, made):
        one, two = agent(made, "team", **{"X-Tracker-Key": "ada"}), agent(made, "team", **{"X-Tracker-Key": "ben"})
        async with one as ada, two as ben:
            task_id = await ada.begin()
            await ben.get(task_id)
            assert users(lab, "tasks/get") == ["ben"]
            await ada.get(task_id)
            assert users(lab, "tasks/get") == ["ben", "ada"]
            async with ben.listen(task_id) as events:
                assert await events.accepted() == [task_id]
            asked = [it for it in lab.of("subscriptions/listen") if "taskIds" in it[1]["params"]["notifications"]]
            assert [headers["x-user-id"] for headers, _ in asked] == ["ben"]
            calls = len(users(lab, "tasks/cancel"))
            async with agent(made, "team") as nobody:
                refused = await nobody.ask("tasks/cancel", {"taskId": task_id})
            assert "lacks the header x-tracker-key" in refused["error"]["message"]
            assert len(users(lab, "tasks/cancel")) == calls


@ERA
@SERVER_ERA
@pytest.mark.parametrize("status", [302, 307])
async def test_forwarded_values_follow_no_redirect_to_another_origin(
    world: Any, era: str, server_era: str, status: int
) -> None:
    async with served(PrivateServer(server_era)) as server, served(PrivateServer("modern")) as elsewhere:
        made = await world(server.url)
        for method in ("GET", "initialize", "server/discover"):
            server.redirects[method] = status, elsewhere.url
        async with made.client("ada", era, "ada-key") as ada:
            assert "redirects" in await failure(ada.call_tool("who", {}))
            server.redirects.clear()
            assert not (await ada.call_tool("who", {})).is_error
            for method in ("GET", "DELETE", "tools/call", "resources/read"):
                server.redirects[method] = status, elsewhere.url
            assert "redirects" in await failure(ada.call_tool("who", {}))
            assert "redirects" in await failure(ada.read_resource(URI))
            assert server.of("tools/call") == ["ada", "ada"]
        made.upstream.identities.forget("ada|proxy")
        await until(lambda: server_era == "modern" or "ada" in server.of("DELETE"))
        assert any(headers.get("x-api-key") == "ada-key" for _, _, headers in server.seen)
        assert elsewhere.seen == []


def proofs(tmp_path: Path, how: str) -> tuple[dict[str, Any], list[str], Callable[[], object]]:
    """An authenticating plugin, what proves ada and ben to it, and what ends the proof of ada."""
    if how == "expired":
        key = ec.generate_private_key(ec.SECP256R1())
        jwk = json.loads(jwt.get_algorithm_by_name("ES256").to_jwk(key.public_key()))
        (tmp_path / "keys.json").write_text(json.dumps({"keys": [{**jwk, "kid": "one", "alg": "ES256"}]}))
        issuer, audience, now = "https://login.example.com", "https://gateway.example.com/mcp", int(time.time())
        given = [
            jwt.encode(
                {"iss": issuer, "aud": audience, "sub": name, "iat": now, "exp": now + life},
                key,
                "ES256",
                {"kid": "one", "typ": "at+jwt"},
            )
            for name, life in (("ada", 6), ("ben", 600))
        ]
        issuers = [{"issuer": issuer, "jwks_file": str(tmp_path / "keys.json")}]
        return {"name": "auth_jwt", "audience": audience, "leeway": 0, "issuers": issuers}, given, lambda: None
    plugin = {"name": "auth_apikey", "file": str(tmp_path / "mcp-proxy.keys")}
    config = tmp_path / "keys.toml"
    config.write_text(tomli_w.dumps({"mcp": {"proxy": {"enable": True, "plugins": [plugin]}}}))

    def run(*words: str) -> str:
        command = [str(Path(sys.executable).with_name("rad")), "mcp", "proxy", "keys", *words, "--config", str(config)]
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout.strip()

    return plugin, [run("add", name) for name in ("ada", "ben")], lambda: run("revoke", "ada")


@pytest.mark.parametrize("how", ["expired", "revoked"])
@SERVER_ERA
async def test_without_its_proof_an_identity_is_closed_and_the_other_goes_on(
    world: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str, server_era: str
) -> None:
    monkeypatch.setattr(identities, "IDLE", 0.2)
    monkeypatch.setattr(identities, "SWEEP", 0.05)
    plugin, (first, second), end = proofs(tmp_path, how)
    who, watch = {"name": "who", "arguments": {}}, {"resourceSubscriptions": [URI]}
    async with served(PrivateServer(server_era)) as server:
        made = await world(server.url, forward={"X-User-Id": "principal.subject"}, proxy={"plugins": [plugin]})
        async with bearing(made, first) as ada, bearing(made, second) as ben:
            for one, name in ((ada, "ada"), (ben, "ben")):
                assert (await one.ask("tools/call", who))["result"]["content"][0]["text"] == name
            async with ada.listen(**watch) as to_ada, ben.listen(**watch) as to_ben:
                await until(lambda: {"ada", "ben"} <= {user for user, _, _ in server.streams})
                end()
                while "error" not in (refused := await ada.ask("tools/call", who)):
                    await asyncio.sleep(0.2)
                assert refused["status"] == 401
                with pytest.raises(aiohttp.ClientPayloadError):  # the gateway cuts the stream
                    await ended(to_ada)
                await until(lambda: "ada" not in {user for user, _, _ in server.streams})
                await until(lambda: [it.identity.principal[:3] for it in made.upstream.identities] == ["ben"])
                await server.update("ben")
                while (await to_ben.next())["method"] != "notifications/resources/updated":
                    pass
            assert (await ben.ask("tools/call", who))["result"]["content"][0]["text"] == "ben"
            calls = server.of("tools/call").count("ada")
            assert (await ada.ask("tools/call", who))["status"] == 401
            assert server.of("tools/call").count("ada") == calls
