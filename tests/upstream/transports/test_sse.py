"""The HTTP+SSE transport: against the official SDK's server, and against a server with every fault."""

import asyncio
import contextlib
import json
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from gateway_core.api import Principal
from gateway_core.config import LimitsConfig, UpstreamConfig
from gateway_core.errors import NotSent, OutcomeUnknown, RefusedUpstream
from gateway_core.exchange.exchange import Agent, Exchange
from gateway_core.upstream.base import ClientContext
from gateway_core.upstream.network import host
from gateway_core.upstream.transports.client import HttpClient
from gateway_core.upstream.transports.sse import SseConnection

SERVERS = Path(__file__).parents[1] / "servers"
LIMITS = LimitsConfig(response_body=100_000)
AGENT = Agent(Principal("a"), "legacy", "2025-11-25")


@contextlib.asynccontextmanager
async def connecting(url: str, **values: object) -> AsyncIterator[SseConnection]:
    config = UpstreamConfig(name="server", transport="sse", url=url, **values)
    http = HttpClient(config, LIMITS)
    connection = SseConnection(config, LIMITS, ClientContext(lambda method, params, exchange: None), http)
    try:
        yield connection
    finally:
        await connection.close()
        await http.close()


async def call(connection: SseConnection, tool: str, /, exchange: Exchange | None = None, **arguments: object) -> dict:
    params = {"name": tool, "arguments": arguments}
    reply = await connection.request("tools/call", params, exchange=exchange)
    assert reply.error is None, reply.error
    return json.loads(reply.result)


class Faulty:
    """A legacy server of HTTP+SSE whose tools are faults of the transport."""

    def __init__(self) -> None:
        self.endpoint: str | None = "/messages?session=1"
        self.keep_alive = True
        self.token: str | None = None
        self.tokens_given = 0
        self.received: list[dict] = []
        self.headers: list[dict[str, str]] = []
        self.stream: web.StreamResponse | None = None
        self.stop = asyncio.Event()
        self.url = ""
        self._runner: web.AppRunner | None = None

    async def start(self, port: int = 0) -> None:
        app = web.Application()
        app.add_routes([web.get("/sse", self.get), web.post("/messages", self.post)])
        app.add_routes([web.get("/page", self.page), web.get("/gone", self.gone), web.get("/moved", self.moved)])
        app.add_routes([web.post("/token", self.give_token)])
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", port)
        await site.start()
        self.port = self._runner.addresses[0][1]
        self.url = f"http://127.0.0.1:{self.port}/sse"

    async def close(self) -> None:
        self.stop.set()
        if self._runner is not None:
            await self._runner.cleanup()

    async def page(self, request: web.Request) -> web.Response:
        return web.Response(text="<html>log in</html>", content_type="text/html")

    async def gone(self, request: web.Request) -> web.Response:
        return web.Response(status=404)

    async def moved(self, request: web.Request) -> web.Response:
        return web.Response(status=307, headers={"Location": "http://other.invalid/sse"})

    async def give_token(self, request: web.Request) -> web.Response:
        self.tokens_given += 1
        token = f"token{self.tokens_given}"
        return web.json_response({"access_token": token, "token_type": "Bearer", "expires_in": 3600})

    def stranger(self, request: web.Request) -> bool:
        return self.token is not None and request.headers.get("Authorization") != f"Bearer {self.token}"

    async def get(self, request: web.Request) -> web.StreamResponse:
        self.headers.append(dict(request.headers))
        if self.stranger(request):
            return web.Response(status=401)
        self.stream = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})
        await self.stream.prepare(request)
        if self.endpoint is not None:
            await self.stream.write(f": hello\r\nevent: endpoint\r\ndata: {self.endpoint}\r\n\r\n".encode())
        await self.stop.wait()
        return self.stream

    async def say(self, **message: object) -> None:
        assert self.stream is not None
        data = json.dumps({"jsonrpc": "2.0", **message})
        await self.stream.write(f"event: message\ndata: {data}\n\n".encode())

    async def post(self, request: web.Request) -> web.StreamResponse:
        self.headers.append(dict(request.headers))
        message = await request.json()
        if self.stranger(request):
            return web.Response(status=401)
        self.received.append(message)
        method, number = message["method"], message.get("id")
        if method == "initialize":
            server = {"name": "faulty", "version": "1"}
            about = {"protocolVersion": "2024-11-05", "capabilities": {}, "serverInfo": server}
            await self.say(id=number, result=about)
        elif method == "tools/call":
            return await self.tool(request, number, message["params"])
        accepted = web.Response(status=202, text="Accepted")
        if not self.keep_alive:
            accepted.force_close()
        return accepted

    async def tool(self, request: web.Request, number: int, params: dict) -> web.StreamResponse:
        name, arguments = params["name"], params.get("arguments", {})
        if name == "status":
            return web.Response(status=arguments["status"], headers=arguments.get("headers", {}))
        if name == "rpc_error":
            error = {"jsonrpc": "2.0", "id": number, "error": {"code": -32602, "message": "bad"}}
            return web.json_response(error, status=400)
        if name == "drop":
            assert request.transport is not None
            request.transport.abort()
        elif name == "end_stream":
            self.stop.set()
        elif name == "large":
            await self.say(id=number, result={"text": "x" * 200_000})
        elif name == "slow_post":
            await self.say(id=number, result={"tool": name})
            await asyncio.sleep(90)  # longer than a test may take
        elif name == "noise":
            assert self.stream is not None
            await self.stream.write(b"data: {oops\n\nevent: other\ndata: 1\n\n")
            await self.say(id=f"0{number}", result={})
            await self.say(id=number, result={"tool": name})
        elif name == "no_utf8":
            assert self.stream is not None
            await self.stream.write(
                b'data: {"jsonrpc":"2.0","id":%d,"method":"\xff"}\n\nevent: \xff\ndata: 1\n\n' % number
            )
            await self.say(id=number, result={"tool": name})
        elif name == "echo":
            await self.say(id=number, result={"tool": name, **params})
        return web.Response(status=202, text="Accepted")


@pytest.fixture
async def faulty() -> AsyncIterator[Faulty]:
    server = Faulty()
    await server.start()
    yield server
    await server.close()


@pytest.fixture
async def opened(faulty: Faulty) -> AsyncIterator[SseConnection]:
    async with connecting(faulty.url) as connection:
        await connection.open(None)
        yield connection


@pytest.fixture
async def sdk() -> AsyncIterator[tuple[str, asyncio.subprocess.Process]]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(SERVERS / "sdk_sse.py"), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    port = int(await process.stdout.readline())
    yield f"http://127.0.0.1:{port}/sse", process
    if process.returncode is None:
        process.kill()
    await process.wait()


async def test_the_official_server_is_spoken_to(sdk: tuple[str, asyncio.subprocess.Process]) -> None:
    async with connecting(sdk[0]) as connection:
        info = await connection.open(None)
        assert (info.era, info.name) == ("legacy", "sdk-sse")
        answers = await asyncio.gather(*(call(connection, "add", a=number, b=1) for number in range(30)))
        assert [answer["structuredContent"]["result"] for answer in answers] == list(range(1, 31))

        class Back:
            told: list[bytes] = []  # noqa: RUF012

            def notify(self, method: str, params: bytes) -> None:
                self.told.append(params)

            async def ask(self, method: str, params: bytes) -> bytes:
                raise AssertionError

        await call(connection, "count", exchange=Exchange(AGENT, "tools/call", back=Back(), progress_token=b"1"), to=3)
        assert [json.loads(params)["progress"] for params in Back.told] == [1, 2, 3]


async def test_a_killed_server_ends_all_calls_at_once(sdk: tuple[str, asyncio.subprocess.Process]) -> None:
    url, process = sdk
    async with connecting(url) as connection:
        await connection.open(None)
        exchanges = [Exchange(AGENT, "tools/call") for _ in range(3)]
        calls = [asyncio.create_task(call(connection, "sleep", exchange=one, seconds=30)) for one in exchanges]
        async with asyncio.timeout(5):
            while not all(exchange.sent for exchange in exchanges):
                await asyncio.sleep(0.01)
        process.kill()
        ends = await asyncio.gather(*calls, return_exceptions=True)
        assert all(isinstance(end, OutcomeUnknown) for end in ends)
        with pytest.raises(NotSent):
            await call(connection, "add", a=1, b=2)


async def test_configured_headers_go_with_every_request(faulty: Faulty) -> None:
    async with connecting(faulty.url, headers={"X-Key": "k"}) as connection:
        await connection.open(None)
        await call(connection, "echo")
    assert len(faulty.headers) == 4
    assert all(headers["X-Key"] == "k" for headers in faulty.headers)
    assert faulty.headers[0]["Accept"] == "text/event-stream"
    assert all(headers["Content-Type"] == "application/json" for headers in faulty.headers[1:])


@pytest.mark.parametrize(
    "endpoint",
    [
        "http://127.0.0.1:1/messages",
        "https://127.0.0.1/messages",
        "//example.org/messages",
        "http://localhost/messages",
        "http://user:pw@127.0.0.1:{port}/messages",
        "http://[",
    ],
)
async def test_an_endpoint_elsewhere_is_refused(faulty: Faulty, endpoint: str) -> None:
    faulty.endpoint = endpoint.format(port=faulty.port)
    async with connecting(faulty.url) as connection:
        with pytest.raises(NotSent, match="endpoint"):
            await connection.open(None)
        assert connection.closed
    assert faulty.received == []


@pytest.mark.parametrize("endpoint", ["messages", "/messages?a=%2F", "http://127.0.0.1:{port}/messages#x"])
async def test_an_endpoint_of_the_same_origin_is_used(faulty: Faulty, endpoint: str) -> None:
    faulty.endpoint = endpoint.format(port=faulty.port)
    async with connecting(faulty.url) as connection:
        assert (await connection.open(None)).name == "faulty"


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("/page", "not an event stream"),
        ("/gone", "HTTP 404"),
        ("/moved", "to http://other.invalid, another origin"),
        ("/nothing", "HTTP 404"),
    ],
)
async def test_what_is_no_event_stream_is_not_sent(faulty: Faulty, path: str, text: str) -> None:
    async with connecting(faulty.url.replace("/sse", path)) as connection:
        with pytest.raises(NotSent, match=text):
            await connection.open(None)


async def test_a_refused_connection_is_not_sent(unused_tcp_port: int) -> None:
    async with connecting(f"http://127.0.0.1:{unused_tcp_port}/sse") as connection:
        with pytest.raises(NotSent, match="cannot connect"):
            await connection.open(None)


async def test_a_silent_stream_names_no_endpoint(faulty: Faulty, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway_core.upstream.transports.sse.ENDPOINT_SHARE", 0.003)
    faulty.endpoint = None
    async with connecting(faulty.url) as connection:
        with pytest.raises(NotSent, match="named no endpoint"):
            await connection.open(None)


@pytest.mark.parametrize("status", [401, 403, 413, 415, 421, 429])
async def test_statuses_that_prove_nothing_ran_are_refusals(opened: SseConnection, status: int) -> None:
    with pytest.raises(RefusedUpstream) as caught:
        await call(opened, "status", status=status, headers={"Retry-After": "7"})
    assert (caught.value.status, caught.value.retry_after) == (status, 7)
    assert not opened.closed


async def test_503_is_a_refusal_only_with_retry_after(opened: SseConnection) -> None:
    with pytest.raises(RefusedUpstream):
        await call(opened, "status", status=503, headers={"Retry-After": "1"})
    with pytest.raises(OutcomeUnknown):
        await call(opened, "status", status=503)


@pytest.mark.parametrize("status", [307, 500, 502, 504])
async def test_other_statuses_leave_the_outcome_unknown(opened: SseConnection, status: int) -> None:
    with pytest.raises(OutcomeUnknown, match=f"HTTP {status}"):
        await call(opened, "status", status=status)
    assert not opened.closed


async def test_a_forgotten_session_ends_the_connection(opened: SseConnection) -> None:
    with pytest.raises(OutcomeUnknown, match="forgotten the session"):
        await call(opened, "status", status=404)
    assert opened.closed


async def test_a_json_rpc_error_in_the_post_is_the_reply(opened: SseConnection) -> None:
    reply = await opened.request("tools/call", {"name": "rpc_error"})
    assert reply.error is not None
    assert reply.error.code == -32602


async def test_a_dropped_post_leaves_the_outcome_unknown_and_the_others_alone(opened: SseConnection) -> None:
    bystander = asyncio.create_task(call(opened, "silent"))
    exchange = Exchange(AGENT, "tools/call")
    with pytest.raises(OutcomeUnknown):
        await call(opened, "drop", exchange=exchange)
    assert exchange.sent
    assert (await call(opened, "echo"))["tool"] == "echo"
    assert not bystander.done()
    bystander.cancel()


async def test_a_post_that_cannot_connect_is_not_sent(faulty: Faulty) -> None:
    faulty.keep_alive = False
    async with connecting(faulty.url) as connection:
        await connection.open(None)
        assert faulty._runner is not None
        for site in list(faulty._runner.sites):
            await site.stop()
        exchange = Exchange(AGENT, "tools/call")
        with pytest.raises(NotSent):
            await call(connection, "echo", exchange=exchange)
        assert not exchange.sent


async def test_a_post_whose_connection_is_accepted_and_closed_is_not_sent(
    faulty: Faulty, monkeypatch: pytest.MonkeyPatch
) -> None:
    faulty.keep_alive = False
    dial = host.dial

    async def dial_and_lose(made: Any, *_: Any) -> Any:
        connection = await dial(made, *listener.getsockname(), None, None)
        listener.accept()[0].close()
        return connection

    async with connecting(faulty.url) as connection:
        await connection.open(None)
        exchange = Exchange(AGENT, "tools/call")
        with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as listener:
            monkeypatch.setattr(host, "dial", dial_and_lose)
            with pytest.raises(NotSent, match="closed the connection before the request was sent"):
                await call(connection, "echo", exchange=exchange)
        assert not exchange.sent


async def test_the_end_of_the_stream_ends_all_calls_at_once(opened: SseConnection) -> None:
    bystander = asyncio.create_task(call(opened, "silent"))
    await call(opened, "echo")
    with pytest.raises(OutcomeUnknown, match="ended its event stream"):
        await call(opened, "end_stream")
    with pytest.raises(OutcomeUnknown):
        await bystander
    assert await opened.wait_closed() == "ended its event stream"


async def test_an_event_past_the_limit_ends_the_connection(opened: SseConnection) -> None:
    with pytest.raises(OutcomeUnknown, match="larger than 100000 bytes"):
        await call(opened, "large")
    assert opened.closed


async def test_an_answer_on_the_stream_does_not_wait_for_the_post(opened: SseConnection) -> None:
    assert await call(opened, "slow_post") == {"tool": "slow_post"}


async def test_noise_on_the_stream_is_counted(opened: SseConnection) -> None:
    assert await call(opened, "noise") == {"tool": "noise"}
    assert opened.unexpected.counts == {"malformed message": 1, "unknown event": 1, "response to no request": 1}


async def test_cancelling_tells_the_server(opened: SseConnection, faulty: Faulty) -> None:
    task = asyncio.create_task(call(opened, "silent"))
    async with asyncio.timeout(5):
        while not any(m.get("params", {}).get("name") == "silent" for m in faulty.received):
            await asyncio.sleep(0.01)
    task.cancel()
    async with asyncio.timeout(1):
        while faulty.received[-1]["method"] != "notifications/cancelled":
            await asyncio.sleep(0.01)
    assert faulty.received[-1]["params"]["requestId"] == faulty.received[-2]["id"]


async def test_a_refused_token_is_replaced_once_and_the_request_sent_again(faulty: Faulty) -> None:
    auth = {
        "token_url": faulty.url.replace("/sse", "/token"),
        "client_id": "gateway",
        "client_secret": "a-long-secret",
    }
    faulty.token = "token2"
    async with connecting(faulty.url, auth=auth) as connection:
        await connection.open(None)
        assert (await call(connection, "echo"))["tool"] == "echo"
        assert faulty.tokens_given == 2
        faulty.token = "another"
        with pytest.raises(RefusedUpstream) as caught:
            await call(connection, "echo")
        assert caught.value.status == 401
    assert [message["method"] for message in faulty.received].count("tools/call") == 1


async def test_a_token_refused_in_the_middle_is_replaced(faulty: Faulty) -> None:
    auth = {"token_url": faulty.url.replace("/sse", "/token"), "client_id": "g", "client_secret": "a-long-secret"}
    async with connecting(faulty.url, auth=auth) as connection:
        await connection.open(None)
        faulty.token = "token2"
        assert (await call(connection, "echo"))["tool"] == "echo"
    assert faulty.tokens_given == 2


async def test_a_call_that_was_not_posted_when_the_stream_ended_is_not_sent(
    opened: SseConnection, faulty: Faulty, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def slow(*_: object, **__: object) -> None:
        await asyncio.sleep(30)

    monkeypatch.setattr(opened._http, "_send", slow)
    exchange = Exchange(AGENT, "tools/call")
    task = asyncio.create_task(call(opened, "echo", exchange=exchange))
    await asyncio.sleep(0.05)
    faulty.stop.set()
    with pytest.raises(NotSent):
        await task
    assert not exchange.sent


async def test_a_message_that_is_no_utf8_costs_that_message_alone(opened: SseConnection) -> None:
    assert (await call(opened, "no_utf8"))["tool"] == "no_utf8"
    assert (await call(opened, "echo"))["tool"] == "echo"
    assert not opened.closed


async def test_a_reader_that_fails_closes_its_connection(
    opened: SseConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(parser: object, chunk: bytes) -> list[object]:
        raise ZeroDivisionError

    monkeypatch.setattr("gateway_core.upstream.transports.events.EventParser.feed", broken)
    with pytest.raises(OutcomeUnknown, match="failed to read"):
        await call(opened, "echo")
    async with asyncio.timeout(5):
        assert "failed to read" in await opened.wait_closed()


async def test_a_reader_that_fails_before_the_endpoint_is_noticed_at_once(
    faulty: Faulty, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(parser: object, chunk: bytes) -> list[object]:
        raise ZeroDivisionError

    monkeypatch.setattr("gateway_core.upstream.transports.events.EventParser.feed", broken)
    async with connecting(faulty.url) as connection:
        with pytest.raises(NotSent, match="failed to read"):
            await connection.open(None)
