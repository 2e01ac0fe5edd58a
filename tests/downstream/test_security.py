"""Who may talk to the server at all."""

import http.client
import json
from typing import Any

import pytest


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "OPTIONS", "PUT"])
@pytest.mark.parametrize("path", ["/mcp", "/", "/sse", "/messages", "/healthz", "/readyz", "/admin/status", "/nowhere"])
async def test_every_method_and_path_is_guarded(sse_world: Any, method: str, path: str) -> None:
    for name, value in [("Host", "evil.example"), ("Origin", "http://evil.example")]:
        async with sse_world.http.request(method, sse_world.base + path, headers={name: value}) as response:
            probe = path in {"/healthz", "/readyz"} and name == "Host"
            assert response.status == ({"GET": 200, "OPTIONS": 204}.get(method, 405) if probe else 403)


@pytest.mark.parametrize("host", ["10.1.2.3:8080", "[fd00::5]:80", "gateway.default.svc.cluster.local"])
async def test_probes_may_use_any_host_and_learn_nothing(world: Any, host: str) -> None:
    for path, bodies in [("/healthz", ['{"status":"ok"}']), ("/readyz", ['{"ready":true}', '{"ready":false}'])]:
        async with world.http.get(world.base + path, headers={"Host": host}) as response:
            assert await response.text() in bodies
            assert response.status in {200, 503}


async def test_a_forged_host_does_not_move_the_path(world: Any) -> None:
    answer = await world.raw(b"POST /mcp HTTP/1.1\r\nHost: x/healthz?\r\nContent-Length: 0\r\n\r\n", read_for=1)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert http.client.responses[400].encode() in answer


@pytest.mark.parametrize("value", [b"\xff", "ä".encode()], ids=["xff", "utf8"])
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        *[(name, 400) for name in ("Host", "MCP-Protocol-Version", "Mcp-Method", "Mcp-Name", "Mcp-Param-a")],
        *[("Origin", 403), ("Accept", 406), ("Content-Type", 415), ("X-Other", 200)],
    ],
)
async def test_bytes_beyond_ascii_are_refused_in_headers_that_the_gateway_reads(
    world: Any, helpers: Any, name: str, expected: int, value: bytes
) -> None:
    headers, message = helpers.modern("tools/call", {"name": "echo"})
    body = json.dumps(message).encode()
    usual = {"Host": "localhost", "Content-Type": "application/json", "Content-Length": str(len(body))}
    fields = {key: text.encode() for key, text in {**usual, **headers, "Connection": "close"}.items()} | {name: value}
    lines = b"".join(b"%b: %b\r\n" % (key.encode(), text) for key, text in fields.items())
    answer = await world.raw(b"POST /mcp HTTP/1.1\r\n%b\r\n%b" % (lines, body))
    assert answer.startswith(b"HTTP/1.1 %d " % expected)


async def test_the_host_of_the_public_address_is_allowed(start: Any) -> None:
    world = await start(public_url="https://gateway.example.com")
    for host, status in (("gateway.example.com", 405), ("evil.example", 403)):
        async with world.http.request("PUT", world.url, headers={"Host": host}) as response:
            assert response.status == status
