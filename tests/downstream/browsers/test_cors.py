"""Cross-origin requests: preflights, and the headers with which a page may read each response."""

import asyncio
import json
from typing import Any

import pytest

from tests.downstream.auth.keys import Keys

ORIGIN = "http://localhost:6274"
CALL = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "echo", "arguments": {}}}


def preflight(method: str = "POST", *names: str, origin: str = ORIGIN) -> dict[str, str]:
    asked = {"Access-Control-Request-Headers": ",".join(names)} if names else {}
    return {"Origin": origin, "Access-Control-Request-Method": method, **asked}


def names_in(value: str) -> set[str]:
    return {name.strip().lower() for name in value.split(",")}


@pytest.mark.parametrize(
    ("path", "methods"),
    [
        ("/mcp", "GET, POST, DELETE"),
        ("/mcp/", "GET, POST, DELETE"),
        ("/", "GET, POST, DELETE"),
        ("/sse", "GET"),
        ("/sse/", "GET"),
        ("/messages?session_id=x", "POST"),
        ("/healthz", "GET, HEAD"),
        ("/readyz", "GET, HEAD"),
    ],
)
async def test_every_endpoint_answers_preflights(sse_world: Any, path: str, methods: str) -> None:
    async with sse_world.http.options(sse_world.base + path, headers=preflight()) as response:
        assert (response.status, await response.read()) == (204, b"")
        assert response.headers["Access-Control-Allow-Origin"] == ORIGIN
        assert response.headers["Access-Control-Allow-Methods"] == methods
        assert "Origin" in response.headers["Vary"]
        assert int(response.headers["Access-Control-Max-Age"]) > 0
        assert "Access-Control-Allow-Credentials" not in response.headers


@pytest.mark.parametrize(
    "name",
    [
        *("accept", "authorization", "content-type", "last-event-id", "traceparent", "tracestate", "baggage"),
        *("mcp-session-id", "mcp-protocol-version", "mcp-method", "mcp-name", "mcp-param-region", "MCP-Param-x.y"),
    ],
)
async def test_what_clients_of_mcp_send_is_allowed(world: Any, name: str) -> None:
    async with world.http.options(world.url, headers=preflight("POST", "content-type", name)) as response:
        assert name.lower() in names_in(response.headers["Access-Control-Allow-Headers"])


async def test_a_page_may_send_the_headers_that_authenticators_read(start: Any) -> None:
    world = await start(authenticators=[Keys()])
    async with world.http.options(world.url, headers=preflight("POST", "x-api-key")) as response:
        assert response.status == 204
        assert "x-api-key" in names_in(response.headers["Access-Control-Allow-Headers"])
    async with world.http.post(world.url, json=CALL, headers={"Origin": ORIGIN}) as response:
        assert response.status == 401
        assert response.headers["Access-Control-Allow-Origin"] == ORIGIN, "the refusal can be read"


@pytest.mark.parametrize(
    "name",
    ["x-forwarded-user", "x-forwarded-for", "cookie", "x-api-key", "mcp-param-", "mcp-param-a b", "mcp-other", "*"],
)
async def test_other_request_headers_are_not_allowed(world: Any, name: str) -> None:
    async with world.http.options(world.url, headers=preflight("POST", name)) as response:
        assert response.status == 204
        assert name not in names_in(response.headers["Access-Control-Allow-Headers"])


@pytest.mark.parametrize("asked", ["true", None])
async def test_a_public_page_may_reach_a_private_address_if_it_asks(world: Any, asked: str | None) -> None:
    headers = preflight() if asked is None else {**preflight(), "Access-Control-Request-Private-Network": asked}
    async with world.http.options(world.url, headers=headers) as response:
        assert response.headers.get("Access-Control-Allow-Private-Network") == asked


@pytest.mark.parametrize("origin", ["https://app.example.com", "vscode-webview://abc"])
async def test_configured_origins_are_answered_like_loopback_ones(start: Any, origin: str) -> None:
    world = await start(allowed_origins=[origin])
    async with world.http.options(world.url, headers=preflight(origin=origin)) as response:
        assert (response.status, response.headers["Access-Control-Allow-Origin"]) == (204, origin)
    answer = await world.post(CALL, {"Origin": origin})
    assert (answer.status, answer.headers["Access-Control-Allow-Origin"]) == (400, origin)


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://localhost.evil.example", "file://"])
async def test_other_origins_get_no_permission(sse_world: Any, origin: str) -> None:
    asked = {**preflight(origin=origin), "Access-Control-Request-Private-Network": "true"}
    for method, headers in [("OPTIONS", asked), ("POST", {"Origin": origin}), ("GET", {"Origin": origin})]:
        for path in ("/mcp", "/", "/sse", "/messages", "/healthz"):
            async with sse_world.http.request(method, sse_world.base + path, headers=headers) as response:
                assert response.status == 403
                assert not [name for name in response.headers if name.lower().startswith("access-control-")]


async def test_a_request_without_an_origin_gets_no_such_headers(world: Any) -> None:
    session = await world.initialize()
    for answer in [await world.post(CALL, session), await world.post(CALL), await world.modern("tools/list")]:
        assert not [name for name in answer.headers if name.lower().startswith("access-control-")]


async def test_a_page_may_read_the_session_and_every_answer(world: Any, helpers: Any) -> None:
    opened = await world.post(helpers.initialize(), {"Origin": ORIGIN})
    assert opened.headers["Access-Control-Allow-Origin"] == ORIGIN
    assert {"mcp-session-id", "retry-after"} <= names_in(opened.headers["Access-Control-Expose-Headers"])
    session = {"Mcp-Session-Id": opened.headers["Mcp-Session-Id"], "Origin": ORIGIN}
    for _ in range(3):  # later requests of a connection share the route of the first
        answer = await world.post(CALL, session)
        assert (answer.status, answer.headers["Access-Control-Allow-Origin"]) == (200, ORIGIN)
        assert names_in(answer.headers["Vary"]) >= {"origin"}


async def test_one_connection_serves_pages_of_several_origins_and_none(start: Any, helpers: Any) -> None:
    world = await start(allowed_origins=["https://app.example.com"])
    headers, body = helpers.modern("tools/call", {"name": "echo", "arguments": {}})
    reader, writer = await asyncio.open_connection("127.0.0.1", world.server.port)
    for origin in [None, ORIGIN, None, "https://app.example.com", ORIGIN]:
        payload = json.dumps(body).encode()
        named = {"Host": "localhost", "Content-Type": "application/json", **headers}
        if origin is not None:
            named["Origin"] = origin
        lines = "".join(f"{name}: {value}\r\n" for name, value in named.items())
        writer.write(f"POST /mcp HTTP/1.1\r\n{lines}Content-Length: {len(payload)}\r\n\r\n".encode() + payload)
        head = (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)).decode()
        fields = dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if line)
        await reader.readexactly(int(fields["Content-Length"]))
        assert head.startswith("HTTP/1.1 200 ")
        assert fields.get("Access-Control-Allow-Origin") == origin
    writer.close()


@pytest.mark.parametrize(
    ("method", "path", "headers", "body", "status"),
    [
        ("POST", "/mcp", {}, b"{", 400),
        ("POST", "/mcp", {}, b'{"jsonrpc":"2.0","id":1,"method":"ping"}', 400),
        ("POST", "/mcp", {"Mcp-Session-Id": "gone"}, b'{"jsonrpc":"2.0","id":1,"method":"ping"}', 404),
        ("POST", "/mcp", {"Content-Type": "text/plain"}, b"{}", 415),
        ("POST", "/mcp", {"Accept": "image/png"}, b'{"jsonrpc":"2.0","id":1,"method":"ping"}', 406),
        ("PUT", "/mcp", {}, b"", 405),
        ("GET", "/nowhere", {}, b"", 404),
        ("GET", "/.well-known/oauth-protected-resource", {}, b"", 404),
        ("DELETE", "/mcp", {"Mcp-Session-Id": "gone"}, b"", 404),
        ("POST", "/messages", {}, b"{}", 400),
        ("POST", "/mcp", {}, b"x" * 200_000, 413),
    ],
)
async def test_errors_can_be_read_too(
    start: Any, method: str, path: str, headers: dict[str, str], body: bytes, status: int
) -> None:
    world = await start(transport="sse", limits={"request_body": 100_000})
    named = {"Content-Type": "application/json", "Origin": ORIGIN, **headers}
    async with world.http.request(method, world.base + path, headers=named, data=body) as response:
        assert response.status == status
        assert response.headers["Access-Control-Allow-Origin"] == ORIGIN


async def test_a_full_gateway_tells_pages_so(start: Any, helpers: Any) -> None:
    world = await start(max_connections=1)
    headers, body = helpers.modern("subscriptions/listen", {"notifications": {"toolsListChanged": True}})
    stream = {**headers, "Accept": "text/event-stream"}
    held = await world.http.post(world.url, json=body, headers=stream)
    assert held.status == 200
    async with world.http.options(world.url, headers=preflight()) as response:
        assert response.status == 204
    async with world.http.get(world.url, headers={"Origin": ORIGIN}) as response:
        assert (response.status, response.headers["Access-Control-Allow-Origin"]) == (503, ORIGIN)
        assert "Retry-After" in response.headers
    held.close()


async def test_a_bug_can_be_read_too(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway_core.downstream.legacy.Legacy.introduce", lambda *_: 1 / 0)
    answer = await world.post({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {}}, {"Origin": ORIGIN})
    assert (answer.status, answer.headers["Access-Control-Allow-Origin"]) == (500, ORIGIN)


async def test_streams_can_be_read_too(sse_world: Any, helpers: Any) -> None:
    world = sse_world
    session = {**await world.initialize(), "Origin": ORIGIN, "Accept": "text/event-stream"}
    for path, headers in [("/mcp", session), ("/sse", {"Origin": ORIGIN})]:
        async with world.http.get(world.base + path, headers=headers) as response:
            assert response.status == 200
            assert response.headers["Content-Type"] == "text/event-stream"
            assert response.headers["Access-Control-Allow-Origin"] == ORIGIN
    params = {"name": "progress", "arguments": {"steps": 2}, "_meta": {"progressToken": 1}}
    headers, body = helpers.modern("tools/call", params)
    answer = await world.post(body, {**headers, "Origin": ORIGIN, "Accept": "application/json, text/event-stream"})
    assert answer.headers["Content-Type"] == "text/event-stream"
    assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN
    headers, body = helpers.modern("subscriptions/listen", {"notifications": {"toolsListChanged": True}})
    named = {**headers, "Origin": ORIGIN, "Accept": "text/event-stream"}
    async with world.http.post(world.url, json=body, headers=named) as response:
        assert (response.status, response.headers["Access-Control-Allow-Origin"]) == (200, ORIGIN)


async def test_options_without_a_preflight_names_the_methods(world: Any) -> None:
    async with world.http.options(world.url) as response:
        assert (response.status, response.headers["Allow"]) == (204, "GET, POST, DELETE, OPTIONS")
    async with world.http.options(world.base + "/nowhere") as response:
        assert response.status == 404


async def test_a_preflight_of_an_unknown_address_leaves_the_error_to_the_request(world: Any) -> None:
    path = world.base + "/.well-known/oauth-protected-resource"
    async with world.http.options(path, headers=preflight("GET", "mcp-protocol-version")) as response:
        assert response.status == 204
