"""Who may talk to the server at all, and the address that an agent is known by."""

import http.client
from typing import Any

import pytest

from gateway_core.downstream.head import _accepts
from gateway_core.downstream.security import canonical_address
from gateway_core.downstream.stream import Accepts


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


@pytest.mark.parametrize(
    ("address", "canonical"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("::1", "127.0.0.1"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("fe80::1%eth0", "fe80::1"),
        ("FD00::0:1", "fd00::1"),
        ("stdio", "stdio"),
    ],
)
def test_one_machine_has_one_address(address: str, canonical: str) -> None:
    assert canonical_address(address) == canonical


@pytest.mark.parametrize(
    ("accept", "json", "stream"),
    [
        ("application/json, text/event-stream;q=0", True, False),
        ("application/json;q=0, */*", False, True),
        ("*/*;q=0.000, text/event-stream;q=0.1", False, True),
        ("application/*;q=0, text/*; Q=0", False, False),
        ("application/json;charset=utf-8;q=1.0", True, False),
    ],
)
def test_an_answer_with_weight_zero_is_refused(accept, json, stream):
    assert _accepts(accept) == Accepts(json, stream)
