"""Who may talk to the server at all."""

import http.client
from typing import Any

import pytest


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "OPTIONS", "PUT"])
@pytest.mark.parametrize("path", ["/mcp", "/", "/sse", "/messages", "/healthz", "/readyz", "/admin/status", "/nowhere"])
async def test_every_method_and_path_is_guarded(sse_world: Any, method: str, path: str) -> None:
    for name, value in [("Host", "evil.example"), ("Origin", "http://evil.example")]:
        async with sse_world.http.request(method, sse_world.base + path, headers={name: value}) as response:
            assert response.status == 403


async def test_a_forged_host_does_not_move_the_path(world: Any) -> None:
    answer = await world.raw(b"POST /mcp HTTP/1.1\r\nHost: x/healthz?\r\nContent-Length: 0\r\n\r\n", read_for=1)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert http.client.responses[400].encode() in answer
