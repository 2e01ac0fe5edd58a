"""What servers tell by themselves, through a whole gateway: real servers of both eras, agents of both on real sockets.

Clauses 25 (progress), 26 and 28 (cancellation), 34 and 35 (listening), 42 (URIs), 46 (log messages).
"""

import asyncio
import contextlib
import itertools
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from mcp import Client

from gateway_core.config import load
from gateway_core.gateway import Gateway
from tests.ports import free_port
from tests.servers.forks import Fork

SERVER = Path(__file__).parent / "servers" / "teller.py"
RAD = Path(sys.executable).with_name("rad")
META = "io.modelcontextprotocol/"
VERSION = "2026-07-28"
UPDATED = "notifications/resources/updated"
MESSAGE = "notifications/message"
PROGRESS = "notifications/progress"


async def until(condition: Callable[[], Any], seconds: float = 15.0) -> Any:
    async with asyncio.timeout(seconds):
        while not (found := condition()):
            await asyncio.sleep(0.02)
    return found


class Teller:
    """One server, which can be killed and started again at its address."""

    def __init__(self, name: str, folder: Path, *flags: str, stdio: bool = False) -> None:
        self.name, self.journal, self.flags = name, folder / f"{name}.journal", flags
        self.port = 0 if stdio else free_port()
        self.process: Fork | None = None

    def command(self) -> list[str]:
        return [str(SERVER), self.name, str(self.journal), str(self.port or "stdio"), *self.flags]

    def toml(self, **keys: Any) -> str:
        where = (
            {"transport": "http", "url": f"http://127.0.0.1:{self.port}/mcp"}
            if self.port
            else {"transport": "stdio", "command": sys.executable, "args": self.command()}
        )
        lines = [f"{key} = {json.dumps(value)}" for key, value in {"name": self.name, **where, **keys}.items()]
        return "\n".join(["[[mcp.proxy.upstreams]]", *lines, ""])

    async def start(self) -> None:
        if self.port:
            self.process = Fork(*self.command(), quiet=True)
            while True:
                with contextlib.suppress(OSError):
                    _, writer = await asyncio.open_connection("127.0.0.1", self.port)
                    writer.close()
                    return
                await asyncio.sleep(0.05)

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait(10)

    def noted(self, key: str) -> list[Any]:
        """What it wrote down under one key, in order."""
        lines = self.journal.read_text().splitlines() if self.journal.exists() else []
        return [entry[key] for entry in map(json.loads, lines) if key in entry]

    def left(self) -> list[list[str]]:
        """The resources of the listen requests that have ended."""
        return [wanted.get("resourceSubscriptions", []) for wanted in self.noted("unlisten")]


class LegacyAgent:
    """An agent of 2025-11-25, as it is on the wire; `told` is what its standalone GET stream brought."""

    def __init__(self, http: aiohttp.ClientSession, url: str) -> None:
        self._http, self._url, self._ids = http, url, itertools.count(1)
        self._headers: dict[str, str] = {"Accept": "application/json, text/event-stream"}
        self.told: list[dict[str, Any]] = []
        self.capabilities: dict[str, Any] = {}
        self._standing: asyncio.Task[None] | None = None

    async def begin(self) -> "LegacyAgent":
        client = {"name": "old", "version": "1"}
        params = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": client}
        body = {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params}
        async with self._http.post(self._url, json=body, headers=self._headers) as answer:
            self._headers["Mcp-Session-Id"] = answer.headers["Mcp-Session-Id"]
            self.capabilities = (await answer.json())["result"]["capabilities"]
        await self.send({"jsonrpc": "2.0", "method": "notifications/initialized"})
        opened = asyncio.Event()
        self._standing = asyncio.create_task(self._stand_by(opened))
        await opened.wait()
        return self

    async def _stand_by(self, opened: asyncio.Event) -> None:
        async with self._http.get(self._url, headers=self._headers) as answer:
            opened.set()
            async for message in messages(answer):
                self.told.append(message)

    async def send(self, message: dict[str, Any]) -> list[dict[str, Any]]:
        """POST a message; everything that its answer brings, in order."""
        async with self._http.post(self._url, json=message, headers=self._headers) as answer:
            if answer.content_type == "text/event-stream":
                return [message async for message in messages(answer)]
            return [json.loads(body)] if (body := await answer.read()) else []

    async def request(self, method: str, **params: Any) -> list[dict[str, Any]]:
        return await self.send({"jsonrpc": "2.0", "id": next(self._ids), "method": method, "params": params})

    async def call(self, tool: str, token: Any = None, **arguments: Any) -> list[dict[str, Any]]:
        meta = {} if token is None else {"_meta": {"progressToken": token}}
        return await self.request("tools/call", name=tool, arguments=arguments, **meta)

    async def end(self) -> None:
        async with self._http.delete(self._url, headers=self._headers):
            pass

    def updates(self) -> list[str]:
        return [message["params"]["uri"] for message in self.told if message["method"] == UPDATED]


async def messages(answer: aiohttp.ClientResponse) -> AsyncIterator[dict[str, Any]]:
    async for line in answer.content:
        if line.startswith(b"data: ") and line.strip() != b"data:":
            yield json.loads(line[6:])


class Modern:
    """Agents of 2026-07-28, as they are on the wire."""

    def __init__(self, http: aiohttp.ClientSession, url: str) -> None:
        self._http, self._url = http, url

    def _post(self, method: str, params: dict[str, Any], request_id: Any, meta: dict[str, Any]) -> Any:
        client = {f"{META}clientInfo": {"name": "new", "version": "1"}, f"{META}clientCapabilities": {}}
        body = {
            "jsonrpc": "2.0",
            "id": request_id,
            "method": method,
            "params": {**params, "_meta": {f"{META}protocolVersion": VERSION, **client, **meta}},
        }
        headers = {"MCP-Protocol-Version": VERSION, "Mcp-Method": method}
        if "name" in params:
            headers["Mcp-Name"] = params["name"]
        headers["Accept"] = "application/json, text/event-stream"
        return self._http.post(self._url, json=body, headers=headers)

    async def call(self, tool: str, meta: dict[str, Any] | None = None, **arguments: Any) -> list[dict[str, Any]]:
        params = {"name": tool, "arguments": arguments}
        async with self._post("tools/call", params, 1, meta or {}) as answer:
            if answer.content_type == "text/event-stream":
                return [message async for message in messages(answer)]
            return [await answer.json()]

    @contextlib.asynccontextmanager
    async def listen(self, request_id: Any, **wanted: Any) -> AsyncIterator[list[dict[str, Any]]]:
        """What one listen request brings, growing while it is open."""
        heard: list[dict[str, Any]] = []
        async with self._post("subscriptions/listen", {"notifications": wanted}, request_id, {}) as answer:
            assert answer.status == 200, await answer.text()

            async def read() -> None:
                async for message in messages(answer):
                    heard.append(message)
                heard.append({"method": "end of the stream"})

            reading = asyncio.create_task(read())
            try:
                await until(lambda: heard)
                yield heard
            finally:
                reading.cancel()


def updates(heard: list[dict[str, Any]]) -> list[str]:
    return [message["params"]["uri"] for message in heard if message.get("method") == UPDATED]


Serve = Callable[..., Awaitable[Teller]]


@pytest.fixture
async def serve(tmp_path: Path) -> AsyncIterator[Serve]:
    """Start a server: `await serve("a", "legacy")`."""
    started: list[Teller] = []

    async def start(name: str, *flags: str, stdio: bool = False) -> Teller:
        server = Teller(name, tmp_path, *flags, stdio=stdio)
        started.append(server)
        await server.start()
        return server

    yield start
    for server in started:
        server.kill()


def configuration(folder: Path, port: int, *upstreams: str) -> Path:
    path = folder / "mcp-proxy.toml"
    head = f"[mcp.proxy]\nenable = true\nport = {port}\n[mcp.proxy.security]\nrate_limit_per_minute = 0\n"
    path.write_text("\n".join([head, *upstreams]))
    return path


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[Any]:
    """A gateway in this process: `url = await world(upstream, ...)`, the agents' HTTP client is `world.http`."""
    gateways: list[Gateway] = []
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=40)) as http:

        class World:
            def __init__(self) -> None:
                self.http = http

            async def __call__(self, *upstreams: str) -> str:
                gateway = Gateway(load(configuration(tmp_path, free_port(), *upstreams)))
                gateways.append(gateway)
                await gateway.start()
                await gateway.wait_first_discovery()
                await until(lambda: gateway.ready)
                self.gateway, self.url = gateway, f"{gateway.address}/mcp"
                self.modern = Modern(http, self.url)
                return self.url

            async def legacy(self) -> LegacyAgent:
                return await LegacyAgent(http, self.url).begin()

        yield World()
        for gateway in gateways:
            await gateway.stop()


# -- clause 34: listening --------------------------------------------------------------------------------------------


async def test_clause_34_one_acknowledgement_names_what_three_upstreams_of_both_eras_agreed_to(
    serve: Any, world: Any
) -> None:
    a, b, c = await serve("a", "legacy"), await serve("b"), await serve("c", "legacy", "deaf")
    await world(a.toml(), b.toml(), c.toml())
    wanted = ["memo://a/one", "memo://b/one", "memo://c/one", "memo://nobody/one"]
    async with world.modern.listen("mine", toolsListChanged=True, resourceSubscriptions=wanted) as heard:
        acknowledged = heard[0]
        assert acknowledged["method"] == "notifications/subscriptions/acknowledged"
        assert acknowledged["params"]["notifications"] == {
            "toolsListChanged": True,
            "resourceSubscriptions": ["memo://a/one", "memo://b/one"],
        }
        for name in ("a", "b"):
            await world.modern.call(f"{name}_touch", uri=f"memo://{name}/two")  # nobody asked for these
            await world.modern.call(f"{name}_touch", uri=f"memo://{name}/one")
        await until(lambda: len(updates(heard)) == 2)
        assert updates(heard) == ["memo://a/one", "memo://b/one"]
        assert {message["params"]["_meta"][f"{META}subscriptionId"] for message in heard} == {"mine"}


async def test_clause_34_agents_share_one_subscription_which_ends_with_the_last_of_them(serve: Any, world: Any) -> None:
    a, b = await serve("a", "legacy"), await serve("b")
    await world(a.toml(), b.toml())
    both = ["memo://a/one", "memo://b/one"]
    async with world.modern.listen(1, resourceSubscriptions=both) as first:
        async with world.modern.listen(1, resourceSubscriptions=both) as second:
            await world.modern.call("a_touch", uri="memo://a/one")
            await world.modern.call("b_touch", uri="memo://b/one")
            await until(lambda: len(updates(first)) == len(updates(second)) == 2)
        await world.modern.call("a_touch", uri="memo://a/one")
        await until(lambda: len(updates(first)) == 3)
        assert (a.noted("subscribe"), a.noted("unsubscribe")) == (["memo://a/one"], [])
    await until(lambda: a.noted("unsubscribe") == ["memo://a/one"])
    asked = [wanted.get("resourceSubscriptions") for wanted in b.noted("listen")]
    assert [uris for uris in asked if uris] == [["memo://b/one"]]
    await until(lambda: ["memo://b/one"] in b.left())


async def test_clause_34_the_sdks_client_listens_to_resources_of_both_eras(serve: Any, world: Any) -> None:
    a, b = await serve("a", "legacy"), await serve("b")
    url = await world(a.toml(), b.toml())
    both = ["memo://a/one", "memo://b/two"]
    async with (
        Client(url, mode=VERSION, read_timeout_seconds=20) as client,
        client.listen(resource_subscriptions=both) as subscription,
    ):
        assert subscription.honored.resource_subscriptions == both
        events = aiter(subscription)
        for name, uri in zip(("a", "b"), both, strict=True):
            await client.call_tool(f"{name}_touch", {"uri": uri})
            async with asyncio.timeout(10):
                assert (await anext(events)).uri == uri


async def test_clause_34_too_many_resources_are_refused_before_the_stream_begins(serve: Any, world: Any) -> None:
    await world((await serve("a")).toml())
    uris = [f"memo://a/{number}" for number in range(257)]
    with pytest.raises(AssertionError, match="more than 256"):
        async with world.modern.listen(1, resourceSubscriptions=uris):
            pass


# -- clause 35: restarts, the graceful end ---------------------------------------------------------------------------


@pytest.mark.timeout(180)
@pytest.mark.parametrize("era", ["legacy", "modern"])
async def test_clause_35_a_restarted_upstream_is_subscribed_again_and_counts_as_updated(
    serve: Any, world: Any, era: str
) -> None:
    a = await serve("a", *(["legacy"] if era == "legacy" else []))
    b = await serve("b")
    await world(a.toml(health_check_interval=1), b.toml())
    old = await world.legacy()
    assert "result" in (await old.request("resources/subscribe", uri="memo://a/one"))[-1]
    async with world.modern.listen(7, resourceSubscriptions=["memo://a/one", "memo://b/one"]) as heard:
        a.kill()
        await world.modern.call("b_touch", uri="memo://b/one")
        await until(lambda: updates(heard) == ["memo://b/one"])
        await a.start()
        await until(lambda: "memo://a/one" in updates(heard), 90)  # it may have changed while it was away
        await until(lambda: "memo://a/one" in old.updates(), 90)
        before = len(updates(heard)), len(old.updates())
        await world.modern.call("a_touch", uri="memo://a/one")
        await until(lambda: len(updates(heard)) > before[0] and len(old.updates()) > before[1])


async def test_clause_35_sigterm_ends_a_listen_stream_with_its_result(serve: Any, tmp_path: Path) -> None:
    a, b = await serve("a", "legacy"), await serve("b")
    port = free_port()
    command = [str(RAD), "mcp", "proxy", "start", "--config", str(configuration(tmp_path, port, a.toml(), b.toml()))]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        async with aiohttp.ClientSession() as http:
            await _ready(http, port)
            modern = Modern(http, f"http://127.0.0.1:{port}/mcp")
            async with modern.listen("last", resourceSubscriptions=["memo://a/one", "memo://b/one"]) as heard:
                assert heard[0]["params"]["notifications"]["resourceSubscriptions"] == ["memo://a/one", "memo://b/one"]
                process.send_signal(signal.SIGTERM)
                await until(lambda: heard[-1] == {"method": "end of the stream"})
                meta = {f"{META}subscriptionId": "last"}
                assert heard[-2] == {
                    "jsonrpc": "2.0",
                    "id": "last",
                    "result": {"resultType": "complete", "_meta": meta},
                }
        assert await asyncio.to_thread(process.wait, 20) == 0
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(10)


async def _ready(http: aiohttp.ClientSession, port: int) -> None:
    async with asyncio.timeout(20):
        while True:
            with contextlib.suppress(aiohttp.ClientError):
                async with http.get(f"http://127.0.0.1:{port}/healthz") as answer:
                    assert answer.status == 200
                modern = Modern(http, f"http://127.0.0.1:{port}/mcp")
                ends = [await modern.call(f"{name}_log", level="debug", text="x") for name in ("a", "b")]
                if all("result" in end[-1] for end in ends):
                    return
            await asyncio.sleep(0.1)


# -- clause 42: resources --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("era", ["legacy", "modern"])
async def test_clause_42_a_resource_that_clashes_is_subscribed_by_its_published_uri(
    serve: Any, world: Any, era: str
) -> None:
    a, b = await serve("a"), await serve("b", *(["legacy"] if era == "legacy" else []))
    await world(a.toml(), b.toml())
    agent = await world.legacy()
    assert agent.capabilities["resources"]["subscribe"] is True
    listed = (await agent.request("resources/list"))[-1]["result"]["resources"]
    published = next(item["uri"] for item in listed if item["name"] == "b file:///shared")
    assert published != "file:///shared"
    assert "result" in (await agent.request("resources/subscribe", uri=published))[-1]
    await world.modern.call("a_touch", uri="file:///shared")
    await agent.call("b_touch", uri="file:///shared")
    await until(agent.updates)
    assert agent.updates() == [published]
    read = (await agent.request("resources/read", uri=published))[-1]["result"]
    assert read["contents"][0]["text"] == "file:///shared of b"
    if era == "legacy":
        assert b.noted("subscribe") == ["file:///shared"]


@pytest.mark.parametrize("era", ["legacy", "modern"])
async def test_clause_42_what_is_not_subscribed_any_more_is_not_told(serve: Any, world: Any, era: str) -> None:
    a = await serve("a", *(["legacy"] if era == "legacy" else []))
    await world(a.toml())
    agent, other = await world.legacy(), await world.legacy()
    for uri in ("memo://a/one", "memo://a/two"):
        await agent.request("resources/subscribe", uri=uri)
    assert (await agent.request("resources/unsubscribe", uri="memo://a/one"))[-1]["result"] == {}
    if era == "legacy":
        await until(lambda: a.noted("unsubscribe") == ["memo://a/one"])
    else:
        await until(lambda: a.noted("listen")[-1]["resourceSubscriptions"] == ["memo://a/two"])
        await until(lambda: len(a.noted("listen")) == len(a.noted("unlisten")) + 1)
    await agent.call("a_touch", uri="memo://a/one")
    await agent.call("a_touch", uri="memo://a/two")
    await until(agent.updates)
    assert (agent.updates(), other.updates()) == (["memo://a/two"], [])


@pytest.mark.parametrize("uri", ["memo://a/one", "memo://nobody/one"])
async def test_clause_42_subscribing_to_what_announces_nothing_is_a_clear_error(
    serve: Any, world: Any, uri: str
) -> None:
    a, b = await serve("a", "legacy", "deaf"), await serve("b", "legacy", "picky")
    await world(a.toml(), b.toml())
    agent = await world.legacy()
    error = (await agent.request("resources/subscribe", uri=uri))[-1]["error"]
    expected = (-32601, "announces no changes") if uri == "memo://a/one" else (-32002, "not found")
    assert (error["code"], expected[1] in error["message"]) == (expected[0], True)
    refused = (await agent.request("resources/subscribe", uri="memo://b/two"))[-1]
    assert "error" in refused
    assert "result" in (await agent.request("resources/subscribe", uri="memo://b/one"))[-1]


async def test_clause_42_a_resource_below_a_watched_one_is_told_by_a_name_that_can_be_read(
    serve: Any, world: Any
) -> None:
    await world((await serve("a", "legacy")).toml())
    agent = await world.legacy()
    await agent.request("resources/subscribe", uri="memo://a/folder")
    await agent.call("a_touch", uri="memo://a/folder/leaf")
    await agent.call("a_touch", uri="memo://a/folders")
    await agent.call("a_touch", uri="memo://a/folder")
    await until(lambda: len(agent.updates()) >= 2)
    assert agent.updates() == ["memo://a/folder/leaf", "memo://a/folder"]


async def test_clause_42_a_session_that_ends_lets_go_of_everything(serve: Any, world: Any) -> None:
    a, b = await serve("a", "legacy", stdio=True), await serve("b")
    await world(a.toml(), b.toml())
    agent = await world.legacy()
    for uri in ("memo://a/one", "memo://b/one"):
        assert "result" in (await agent.request("resources/subscribe", uri=uri))[-1]
    await agent.end()
    await until(lambda: a.noted("unsubscribe") == ["memo://a/one"])
    await until(lambda: ["memo://b/one"] in b.left())


# -- clause 46: log messages -----------------------------------------------------------------------------------------


def texts(said: list[dict[str, Any]]) -> list[str]:
    return [message["params"]["data"] for message in said if message.get("method") == MESSAGE]


@pytest.mark.parametrize("flags", [(), ("legacy",)])
async def test_clause_46_a_modern_agent_gets_the_log_messages_that_it_asked_for_before_its_answer(
    serve: Any, world: Any, flags: tuple[str, ...]
) -> None:
    await world((await serve("a", *flags)).toml())
    asked = {f"{META}logLevel": "warning"}
    said = await world.modern.call("a_log", asked, level="error", text="broken", count=2)
    assert texts(said) == ["broken 0", "broken 1"]
    assert "result" in said[-1]
    assert texts(await world.modern.call("a_log", asked, level="info", text="idle")) == []
    assert texts(await world.modern.call("a_log", level="error", text="unasked")) == []


async def test_clause_46_an_unknown_level_is_refused(serve: Any, world: Any) -> None:
    await world((await serve("a")).toml())
    refused = await world.modern.call("a_log", {f"{META}logLevel": "loud"}, level="error", text="x")
    assert refused[-1]["error"]["code"] == -32602
    agent = await world.legacy()
    assert (await agent.request("logging/setLevel", level="loud"))[-1]["error"]["code"] == -32602


@pytest.mark.parametrize("flags", [(), ("legacy",)])
async def test_clause_46_each_legacy_agent_has_its_own_level(serve: Any, world: Any, flags: tuple[str, ...]) -> None:
    a = await serve("a", *flags)
    await world(a.toml())
    loud, quiet, silent = await world.legacy(), await world.legacy(), await world.legacy()
    assert loud.capabilities["logging"] == {} or not flags
    assert (await loud.request("logging/setLevel", level="debug"))[-1]["result"] == {}
    await quiet.request("logging/setLevel", level="error")
    for level, expected in (("info", (1, 0, 0)), ("critical", (1, 1, 0))):
        said = [await agent.call("a_log", level=level, text="x") for agent in (loud, quiet, silent)]
        assert tuple(len(texts(answer)) for answer in said) == expected
    if flags:
        await until(lambda: set(a.noted("level")) >= {"debug", "error"})


async def test_clause_46_a_shared_legacy_connection_has_the_lowest_level_that_is_wanted(serve: Any, world: Any) -> None:
    a = await serve("a", "legacy", stdio=True)
    await world(a.toml())
    first, second = await world.legacy(), await world.legacy()
    await first.request("logging/setLevel", level="error")
    await until(lambda: a.noted("level") == ["error"])
    await second.request("logging/setLevel", level="info")
    await until(lambda: a.noted("level") == ["error", "info"])
    await second.end()
    await until(lambda: a.noted("level") == ["error", "info", "error"])
    await first.end()
    await until(lambda: a.noted("level")[3:] == ["emergency"])


async def test_clause_46_what_may_be_several_agents_reaches_none_of_them(serve: Any, world: Any) -> None:
    a = await serve("a", "legacy", stdio=True)
    await world(a.toml())
    first, second = await world.legacy(), await world.legacy()
    for agent in (first, second):
        await agent.request("logging/setLevel", level="debug")
    alone = await first.call("a_log", level="info", text="alone")
    assert texts(alone) == ["alone 0"]
    waiting = asyncio.create_task(second.call("a_wait", label="second", seconds=1.0))
    await until(lambda: a.noted("waiting"))
    together = await first.call("a_log", level="info", text="whose?")
    assert texts(together) + texts(await waiting) + texts(first.told) + texts(second.told) == []


async def test_clause_46_an_agents_own_connection_brings_what_belongs_to_no_call(serve: Any, world: Any) -> None:
    await world((await serve("a", "legacy")).toml())
    first, second = await world.legacy(), await world.legacy()
    await first.request("logging/setLevel", level="info")
    await second.call("a_wait", label="has a session", seconds=0)
    said = await first.call("a_log", level="info", text="later", unrelated=True)
    await until(lambda: texts(said) + texts(first.told))
    assert texts(second.told) == []


# -- clause 25: progress ---------------------------------------------------------------------------------------------


@pytest.fixture(params=["legacy", "modern"])
def era(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize("flags", [(), ("legacy",)])
async def test_clause_25_a_storm_of_progress_is_coalesced_and_ends_with_the_answer(
    serve: Any, world: Any, era: str, flags: tuple[str, ...]
) -> None:
    await world((await serve("a", *flags)).toml())
    if era == "legacy":
        said = await (await world.legacy()).call("a_storm", "p", count=5000)
    else:
        said = await world.modern.call("a_storm", {"progressToken": "p"}, count=5000)
    values = [message["params"]["progress"] for message in said if message.get("method") == PROGRESS]
    assert len(values) < 1000
    assert values == sorted(set(values))
    assert values[-1] == 5000
    assert "result" in said[-1]
    assert {message["params"]["progressToken"] for message in said[:-1]} == {"p"}


async def test_clause_25_equal_tokens_of_two_agents_never_meet(serve: Any, world: Any) -> None:
    await world((await serve("a", stdio=True)).toml())
    ends = await asyncio.gather(*(world.modern.call("a_storm", {"progressToken": "p"}, count=n) for n in (20, 30, 40)))
    for end, count in zip(ends, (20, 30, 40), strict=True):
        assert [message["params"]["progress"] for message in end[:-1]] == list(range(1, count + 1))


# -- clauses 26 and 28: cancellation ---------------------------------------------------------------------------------


async def test_clause_26_no_agent_cancels_the_call_of_another(serve: Any, world: Any) -> None:
    a = await serve("a", "legacy", stdio=True)
    await world(a.toml())
    first, second = await world.legacy(), await world.legacy()
    waiting = asyncio.create_task(first.call("a_wait", label="mine", seconds=1.0))  # its id is 1
    await until(lambda: a.noted("waiting"))
    for agent_id in (1, "1", 2):
        await second.send({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": agent_id}})
    assert "result" in (await waiting)[-1]
    assert a.noted("cancelled") == []


async def test_clause_28_a_listen_that_its_agent_leaves_is_cancelled_upstream_and_no_call_is(
    serve: Any, world: Any
) -> None:
    a = await serve("a", stdio=True)
    await world(a.toml())
    waiting = asyncio.create_task(world.modern.call("a_wait", label="call", seconds=1.5))
    await until(lambda: a.noted("waiting"))
    async with world.modern.listen(1, resourceSubscriptions=["memo://a/one"]) as heard:
        assert heard[0]["params"]["notifications"] == {"resourceSubscriptions": ["memo://a/one"]}
    await until(lambda: ["memo://a/one"] in a.left())
    said = await waiting
    assert [message.get("method") for message in said] == [None]
    assert a.noted("cancelled") == []
