"""The HTTP server itself: addresses, sizes, framing, slowness, connections, operators."""

import asyncio
import json
import socket
import timeit
from typing import Any

import aiohttp
import msgspec
import pytest

from gateway_core.api import CallResult
from gateway_core.downstream.agents import principal_of
from gateway_core.downstream.auth.caller import caller_at
from gateway_core.errors import OVERLOADED, RpcError

PING = b'{"jsonrpc":"2.0","id":1,"method":"ping"}'


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1]) if answer.startswith(b"HTTP/1.") else 0


def request(head: str, body: bytes = b"") -> bytes:
    return head.replace("\n", "\r\n").encode() + b"\r\n\r\n" + body


async def test_addresses(world: Any) -> None:
    for path in ("/nowhere", "/mcp//", "/MCP", "//mcp", "//", "/%6dcp", "/sse", "/sse/", "/messages", "/admin/status"):
        async with world.http.get(aiohttp.client.URL(world.base + path, encoded=True)) as response:
            assert response.status == 404, path
            assert "/mcp" in (await response.json())["error"]
    for path in ("/mcp", "/mcp/", "/"):
        for method in ("PUT", "PATCH", "HEAD"):
            async with world.http.request(method, world.base + path) as response:
                assert response.status == 405
                assert response.headers["Allow"] == "GET, POST, DELETE, OPTIONS"


async def test_a_slash_at_the_end_makes_no_difference(world: Any, helpers: Any) -> None:
    for path in ("/mcp/", "/mcp/?key=1"):
        opened = await world.post(helpers.initialize(), path=path)
        session = {"Mcp-Session-Id": opened.headers["Mcp-Session-Id"]}
        assert (await world.post(PING, session, path=path)).status == 200
        stream = {**session, "Accept": "text/event-stream"}
        async with world.http.get(world.base + path, headers=stream) as response:
            assert (response.status, response.content_type) == (200, "text/event-stream")
        async with world.http.delete(world.base + path, headers=session) as response:
            assert response.status == 204
        headers, body = helpers.modern("tools/list")
        assert (await world.post(body, headers, path=path)).status == 200
    for path in ("/healthz/", "/readyz/"):
        async with world.http.get(world.base + path) as response:
            assert response.status == 200
            assert ("ready" in await response.json()) is path.startswith("/ready")


@pytest.mark.parametrize("params", ["null", "[]", "[ ]"])
async def test_empty_params_are_no_params(world: Any, params: str) -> None:
    session = await world.initialize()
    for method, status in [("ping", 200), ("tools/list", 200), ("notifications/initialized", 202)]:
        request_id = '"id":1,' if status == 200 else ""
        body = f'{{"jsonrpc":"2.0",{request_id}"method":"{method}","params":{params}}}'
        answer = await world.post(body.encode(), session)
        assert answer.status == status, (method, answer.body)
        assert status == 202 or "result" in answer.json


@pytest.mark.parametrize("params", ["[1]", "[{}]", "0", '""', "false", "[[]]"])
async def test_other_params_that_are_no_object_are_refused(world: Any, params: str) -> None:
    session = await world.initialize()
    answer = await world.post(f'{{"jsonrpc":"2.0","id":1,"method":"ping","params":{params}}}'.encode(), session)
    assert (answer.status, answer.json["error"]["code"]) == (400, -32600)


async def test_a_notification_with_id_null_is_a_notification(world: Any) -> None:
    answer = await world.post(PING.replace(b'"id":1', b'"id":null'))
    assert answer.status == 400, "a request needs an id"
    session = await world.initialize()
    asked = world.post(
        {"jsonrpc": "2.0", "id": 5, "method": "tools/call", "params": {"name": "sleep", "arguments": {}}}, session
    )
    asking = asyncio.ensure_future(asked)
    await world.pipeline.started.wait()
    for params in (None, [], {"requestId": 5}):
        notification = {"jsonrpc": "2.0", "id": None, "method": "notifications/cancelled", "params": params}
        answer = await world.post(notification, session)
        assert (answer.status, answer.body) == (202, b"")
    assert (await asking).json["error"]["code"] == -31006
    lost = {"jsonrpc": "2.0", "id": None, "error": {"code": -32700, "message": "unreadable"}}
    assert (await world.post(lost, session)).status == 202


async def test_no_params_are_enough_for_modern_notifications_too(world: Any) -> None:
    for member in ('"params":null', '"params":[]', '"id":null'):
        body = f'{{"jsonrpc":"2.0","method":"notifications/cancelled",{member}}}'.encode()
        assert (await world.post(body, {"MCP-Protocol-Version": "2026-07-28"})).status == 202


async def test_health_and_readiness(world: Any) -> None:
    async with world.http.get(world.base + "/healthz") as response:
        assert response.status == 200
    for ready, expected in [(True, 200), (False, 503)]:
        world.ready = ready
        async with world.http.get(world.base + "/readyz") as response:
            assert response.status == expected
            assert await response.json() == {"ready": ready}
        async with world.http.get(world.base + "/healthz") as response:
            assert response.status == 200
    async with world.http.post(world.base + "/healthz") as response:
        assert response.status == 405


@pytest.mark.parametrize("media_type", ["text/plain", "application/x-www-form-urlencoded", "application/jsonp", ""])
async def test_other_content_types_are_not_accepted(world: Any, media_type: str) -> None:
    assert (await world.post(PING, {"Content-Type": media_type})).status == 415


@pytest.mark.parametrize("media_type", ["application/json; charset=utf-8", "Application/JSON"])
async def test_parameters_and_case_of_the_content_type_do_not_matter(world: Any, media_type: str) -> None:
    session = await world.initialize()
    assert (await world.post(PING, {**session, "Content-Type": media_type})).status == 200


async def test_compressed_bodies_are_not_accepted(world: Any) -> None:
    assert (await world.post(PING, {"Content-Encoding": "gzip"})).status == 415


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", -32700),
        (b"{oops", -32700),
        (b"\xff", -32700),
        (b"[]", -32600),
        (b"[" + PING + b"]", -32600),
        (b'"x"', -32600),
        (b"{}", -32600),
        (b'{"jsonrpc":"1.0","id":1,"method":"ping"}', -32600),
        (b'{"jsonrpc":"2.0","id":1.5,"method":"ping"}', -32600),
        (b'{"jsonrpc":"2.0","id":null,"method":"ping"}', -32600),
        (b'{"jsonrpc":"2.0","id":1,"method":"ping","params":[1]}', -32600),
        (b'{"jsonrpc":"2.0","id":1,"method":"tools/list","method":"tools/call"}', -32600),
        (b'{"jsonrpc":"2.0","id":1,"Method":"x","method":"ping"}', -32600),
        (b'{"jsonrpc":"2.0","id":1,"method":"ping","params":' + b'{"a":' * 100 + b"1" + b"}" * 101, -32600),
    ],
)
async def test_what_is_no_message_is_a_bad_request_without_an_id(world: Any, body: bytes, code: int) -> None:
    answer = await world.post(body)
    assert answer.status == 400
    assert answer.json["error"]["code"] == code
    assert "id" not in answer.json
    assert answer.headers["Content-Type"] == "application/json"


async def test_a_refused_message_leaves_the_connection_usable(world: Any) -> None:
    bad = request("POST /mcp HTTP/1.1\nHost: localhost\nContent-Type: application/json\nContent-Length: 1", b"{")
    good = request("GET /healthz HTTP/1.1\nHost: localhost\nConnection: close")
    answer = await world.raw(bad + good)
    assert answer.count(b"HTTP/1.1 400 ") == 1
    assert answer.count(b"HTTP/1.1 200 ") == 1


async def test_a_large_body_is_refused_unread(start: Any) -> None:
    world = await start(limits={"request_body": 1000})
    head = "POST /mcp HTTP/1.1\nHost: localhost\nContent-Type: application/json\n"
    answer = await world.raw(request(head + "Content-Length: 20000000"), read_for=10)
    assert status(answer) == 413
    assert b"Connection: close" in answer
    chunk = b"200\r\n" + b" " * 0x200 + b"\r\n"
    answer = await world.raw(request(head + "Transfer-Encoding: chunked", chunk * 3), read_for=10)
    assert status(answer) == 413


async def test_a_body_within_the_limit_is_read_in_pieces(start: Any) -> None:
    world = await start(limits={"request_body": 3_000_000})
    session = await world.initialize()
    arguments = {"a": "x" * 2_000_000}
    params = {"name": "echo", "arguments": arguments}
    answer = await world.post({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}, session)
    assert json.loads(answer.json["result"]["content"][0]["text"]) == arguments


async def test_a_client_that_waits_for_100_continue_gets_it(world: Any) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", world.server.port)
    head = "POST /mcp HTTP/1.1\nHost: localhost\nContent-Type: application/json\nExpect: 100-continue\n"
    writer.write(request(f"{head}Content-Length: {len(PING)}"))
    assert (await asyncio.wait_for(reader.readline(), 2)).startswith(b"HTTP/1.1 100")
    await reader.readline()
    writer.write(PING)
    assert (await asyncio.wait_for(reader.readline(), 2)).startswith(b"HTTP/1.1 400")  # no session
    writer.close()


async def test_too_many_or_too_large_headers_are_refused(world: Any) -> None:
    head = "GET /healthz HTTP/1.1\nHost: localhost\n"
    many = "\n".join(f"X-{number}: 1" for number in range(150))
    long = "X: " + "a" * 20_000
    large = "\n".join(f"X-{number}: {'a' * 10_000}" for number in range(4))
    for headers in (many, long, large):
        answer = await world.raw(request(head + headers))
        assert status(answer) == 431
        assert b"aaaa" not in answer
    assert status(await world.raw(request(f"GET /{'a' * 20_000} HTTP/1.1\nHost: localhost"))) in {400, 414, 431}


CHUNKED_PING = b"%x\r\n%b\r\n0\r\n\r\n" % (len(PING), PING)
POST = "POST /mcp HTTP/1.1\nHost: localhost\nContent-Type: application/json\n"


@pytest.mark.parametrize(
    "data",
    [
        request(POST + f"Content-Length: {len(PING)}\nTransfer-Encoding: chunked", CHUNKED_PING),
        request(POST + f"Transfer-Encoding: chunked\nContent-Length: {len(PING)}", CHUNKED_PING),
        request(POST + f"Content-Length: {len(PING)}\nContent-Length: {len(PING) + 1}", PING),
        request(POST + f"Content-Length: {len(PING)}\nContent-Length: {len(PING)}", PING),
        request(POST + f"Content-Length: +{len(PING)}", PING),
        request(POST + "Content-Length: -1", PING),
        request(POST + "Content-Length: 0x10", PING),
        request(POST + f"Content-Length : {len(PING)}", PING),
        request(POST + "Transfer-Encoding: xchunked", CHUNKED_PING),
        request(POST + "Transfer-Encoding: chunked, identity", CHUNKED_PING),
        request(POST + "Transfer-Encoding: chunked\nTransfer-Encoding: chunked", CHUNKED_PING),
        request(POST + "Transfer-Encoding: gzip\nTransfer-Encoding: chunked", CHUNKED_PING),
        request(POST + "Transfer-Encoding : chunked", CHUNKED_PING),
        request(POST + "Transfer-Encoding: \x0bchunked", CHUNKED_PING),
        request(POST + "Transfer-Encoding: chunked, gzip", CHUNKED_PING),
        request(POST + "Transfer-Encoding: chunked", b"zz\r\n" + PING),
        request(POST + "Transfer-Encoding: chunked", b"-1\r\n" + PING),
        request(POST + f"X: a\n folded\nContent-Length: {len(PING)}", PING),
        request(POST + f"X: a\0b\nContent-Length: {len(PING)}", PING),
        request(POST + f"X\nContent-Length: {len(PING)}", PING),
        request(POST + f": a\nContent-Length: {len(PING)}", PING),
        POST.replace("\n", "\r").encode() + b"\r\r" + PING,
        b"POST /mcp\r\n\r\n",
        b"POST /mcp HTTP/9.9\r\nHost: localhost\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
)
async def test_ambiguous_framing_is_a_bad_request_and_ends_the_connection(world: Any, data: bytes) -> None:
    smuggled = request("GET /healthz HTTP/1.1\nHost: localhost")
    answer = await world.raw(data + smuggled, read_for=4)
    assert status(answer) == 400
    assert answer.count(b"HTTP/1.") == 1
    assert not world.pipeline.exchanges


@pytest.mark.parametrize("coding", ["gzip, chunked", "identity, chunked"])
async def test_a_transfer_coding_that_is_not_understood_is_refused(world: Any, coding: str) -> None:
    smuggled = request("GET /healthz HTTP/1.1\nHost: localhost")
    answer = await world.raw(request(POST + f"Transfer-Encoding: {coding}", CHUNKED_PING) + smuggled, read_for=4)
    assert status(answer) == 501
    assert answer.count(b"HTTP/1.") == 1


@pytest.mark.parametrize(
    ("target", "host", "expected"),
    [
        ("http://127.0.0.1:3000/healthz", "127.0.0.1:3000", 200),
        ("HTTP://LOCALHOST/healthz?a=b", "localhost", 200),
        ("http://localhost/healthz", "evil.example", 400),
        ("http://evil.example/healthz", "localhost", 400),
        ("http://evil.example/mcp", "evil.example", 403),
        ("http://localhost@evil.example/healthz", "localhost", 400),
        ("http://localhost:99999/healthz", "localhost", 400),
        ("http:///healthz", "localhost", 400),
        ("http://localhost/healthz", None, 400),
        ("http://localhost", "localhost", 400),  # the MCP endpoint; a GET there needs a session
        ("ftp://localhost/healthz", "localhost", 404),
    ],
)
async def test_an_absolute_target_is_judged_by_its_own_authority(
    world: Any, target: str, host: str | None, expected: int
) -> None:
    line = f"\nHost: {host}" if host is not None else ""
    head = f"GET {target} HTTP/1.1{line}\nAccept: text/event-stream\nConnection: close"
    assert status(await world.raw(request(head))) == expected


async def test_a_post_to_an_absolute_target_is_served(world: Any, helpers: Any) -> None:
    body = json.dumps(helpers.initialize()).encode()
    head = POST.replace("/mcp", "http://localhost/mcp") + f"Connection: close\nContent-Length: {len(body)}"
    answer = await world.raw(request(head, body))
    assert status(answer) == 200
    assert b"Mcp-Session-Id" in answer


async def test_slow_headers_and_silent_sockets_are_ended(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway_core.http1.connection.HEAD_TIMEOUT", 0.5)
    session = await world.initialize()
    silent, slow, other = await asyncio.gather(
        world.raw(b"", read_for=5),
        world.raw(b"POST /mcp HTTP/1.1\r\nHost: loc", read_for=5),
        world.post(PING, session),
    )
    assert status(silent) == status(slow) == 408
    assert other.status == 200


async def test_slow_headers_after_a_request_are_ended(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway_core.http1.connection.HEAD_TIMEOUT", 0.5)
    reader, writer = await asyncio.open_connection("127.0.0.1", world.server.port)
    writer.write(request("GET /healthz HTTP/1.1\nHost: localhost"))
    await asyncio.wait_for(reader.readuntil(b'{"status":"ok"}'), 2)
    await asyncio.sleep(1.8)  # idle between requests is no slowness
    writer.write(b"GET /healthz HT")
    assert status(await asyncio.wait_for(reader.read(), 5)) == 408
    writer.close()


@pytest.mark.parametrize("pieces", [1, 3])
async def test_half_a_header_behind_a_finished_request_is_ended(
    world: Any, monkeypatch: pytest.MonkeyPatch, pieces: int
) -> None:
    monkeypatch.setattr("gateway_core.http1.connection.HEAD_TIMEOUT", 0.5)
    whole = request(f"{POST}Content-Length: {len(PING)}", PING) + request("GET /healthz HTTP/1.1\nHost: localhost")
    data = whole + b"GET /healthz HTTP/1.1\r\n"
    reader, writer = await asyncio.open_connection("127.0.0.1", world.server.port)
    size = len(data) // pieces + 1
    for start in range(0, len(data), size):
        writer.write(data[start : start + size])
        await asyncio.sleep(0.05)
    answer = await asyncio.wait_for(reader.read(), 5)
    assert answer.count(b"HTTP/1.1 ") == 3
    assert b"HTTP/1.1 408" in answer
    writer.close()


async def test_whole_requests_leave_the_connection_idle(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway_core.http1.connection.HEAD_TIMEOUT", 0.5)
    chunked = request(POST + "Transfer-Encoding: chunked", CHUNKED_PING)
    for data in (request(f"{POST}Content-Length: {len(PING)}", PING) * 2, chunked, chunked * 40):
        assert b"HTTP/1.1 408" not in await world.raw(data, read_for=2)
    reader, writer = await asyncio.open_connection("127.0.0.1", world.server.port)
    for byte in chunked:
        writer.write(bytes([byte]))
        await asyncio.sleep(0)
    await asyncio.sleep(2)
    assert not reader.at_eof()
    writer.close()


async def test_a_slow_body_is_ended(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway_core.http1.connection.BODY_TIMEOUT", 0.3)
    answer = await world.raw(request(POST + "Content-Length: 100", b"{"), read_for=5)
    assert status(answer) == 408


async def test_an_agent_that_does_not_read_is_hung_up_on_alone(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway_core.http1.writer.WRITE_TIMEOUT", 1.0)
    session = await world.initialize()
    params = {"name": "big", "arguments": {"bytes": 12_000_000}}
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}).encode()
    raw = socket.socket()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    raw.setblocking(False)
    await asyncio.get_running_loop().sock_connect(raw, ("127.0.0.1", world.server.port))
    lines = "\n".join(f"{name}: {value}" for name, value in session.items())
    await asyncio.get_running_loop().sock_sendall(raw, request(f"{POST}{lines}\nContent-Length: {len(body)}", body))
    await asyncio.sleep(0.5)
    assert (await world.post(PING, session)).status == 200
    before = world.server.connections
    async with asyncio.timeout(8):
        while world.server.connections == before:
            await asyncio.sleep(0.05)
    assert (await world.post(PING, session)).status == 200
    raw.close()


async def listening(world: Any, helpers: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection with an open stream."""
    headers, message = helpers.modern("subscriptions/listen", {"notifications": {"toolsListChanged": True}})
    body = json.dumps(message).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", world.server.port)
    lines = "\n".join(f"{name}: {value}" for name, value in headers.items())
    writer.write(request(f"{POST}{lines}\nAccept: text/event-stream\nContent-Length: {len(body)}", body))
    assert b" 200 " in await reader.readline()
    return reader, writer


async def test_silent_connections_keep_no_agent_out(start: Any) -> None:
    world = await start(max_connections=2)
    silent = [await asyncio.open_connection("127.0.0.1", world.server.port) for _ in range(66)]
    assert world.server.connections == 0
    for _ in range(3):
        assert status(await world.raw(request(POST + f"Content-Length: {len(PING)}", PING), read_for=0.3)) == 400
    for _, writer in silent:
        writer.close()


async def test_too_many_connections_are_told_to_come_back_while_operators_get_in(start: Any, helpers: Any) -> None:
    world = await start(max_connections=2)
    held = [await listening(world, helpers) for _ in range(2)]
    assert world.server.connections == 2
    answers = await asyncio.gather(*(world.raw(request(POST + f"Content-Length: {len(PING)}", PING)) for _ in range(6)))
    for answer in answers:
        assert status(answer) == 503
        assert b"Retry-After: 1" in answer
        assert b"Connection: close" in answer
    close = "HTTP/1.1\nHost: localhost\nConnection: close"
    assert status(await world.raw(request(f"GET /healthz {close}"))) == 200
    assert status(await world.raw(request(f"GET /readyz {close}"))) == 200
    for _, writer in held:
        writer.close()
        await writer.wait_closed()
    await asyncio.sleep(0.05)
    assert world.server.connections == 0
    await world.initialize()


async def test_a_flood_of_silent_connections_is_cut_off(start: Any) -> None:
    world = await start(max_connections=2)
    opened = [await asyncio.open_connection("127.0.0.1", world.server.port) for _ in range(90)]
    await asyncio.sleep(0.1)
    cut = [reader for reader, _ in opened if reader.at_eof() or reader.exception()]
    assert len(cut) == 90 - 66
    for _, writer in opened:
        writer.close()


async def test_a_port_in_use_is_an_os_error(world: Any, start: Any) -> None:
    with pytest.raises(OSError, match="address already in use"):
        await world.downstream.http_server().start("127.0.0.1", world.server.port)


async def test_requests_on_one_connection_are_of_whatever_era(world: Any, helpers: Any) -> None:
    session = await world.initialize()
    connector = aiohttp.TCPConnector(limit=1)
    async with aiohttp.ClientSession(connector=connector) as http:
        for number in range(3):
            headers, body = helpers.modern("tools/call", {"name": "echo"}, number)
            async with http.post(world.url, json=body, headers=headers) as response:
                assert (await response.json())["id"] == number
            call = {"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": {"name": "echo"}}
            async with http.post(world.url, json=call, headers=session) as response:
                assert (await response.json())["id"] == number
    assert [exchange.agent.era for exchange in world.pipeline.exchanges] == ["modern", "legacy"] * 3


async def test_nothing_that_was_sent_is_logged(world: Any, capfd: pytest.CaptureFixture[str]) -> None:
    from loguru import logger

    lines: list[str] = []
    sink = logger.add(lines.append, level="TRACE", diagnose=False)
    session = await world.initialize("secret-name")
    call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "bug", "arguments": {"k": "secret"}}}
    await world.post(call, {**session, "X-Secret": "secret"})
    await world.post(b"{secret", session)
    await world.raw(b"secret secret\r\n\r\n", read_for=1)
    await world.raw(request("GET / HTTP/1.1\nHost: localhost\nsecret"), read_for=1)
    logger.remove(sink)
    out, err = capfd.readouterr()
    assert lines
    assert "secret" not in "".join(lines) + out + err


async def test_house_is_kept_on_after_a_chore_has_failed(start: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from loguru import logger

    lines: list[str] = []
    sink = logger.add(lines.append, level="ERROR", diagnose=False)
    monkeypatch.setattr("gateway_core.downstream.data_plane.HOUSEKEEPING_INTERVAL", 0.05)
    world = await start(limits={"session_idle": 0.2})
    expire = world.store.expire

    def fail(_: Any) -> None:
        monkeypatch.setattr(world.store, "expire", expire)
        raise ZeroDivisionError

    monkeypatch.setattr(world.store, "expire", fail)
    session = await world.initialize()
    async with asyncio.timeout(5):
        while not world.ended:
            await asyncio.sleep(0.05)
    logger.remove(sink)
    assert world.ended == [session["Mcp-Session-Id"]]
    assert len(lines) == 1
    assert "ZeroDivisionError while keeping house" in lines[0]


@pytest.mark.parametrize("era", ["legacy", "modern"])
async def test_a_bug_is_answered_with_the_id_of_the_request(
    world: Any, helpers: Any, monkeypatch: pytest.MonkeyPatch, era: str
) -> None:
    def fail(*_: Any) -> None:
        raise ZeroDivisionError("secret")

    session = await world.initialize()
    monkeypatch.setattr("gateway_core.downstream.calls.gate.Gate.enter", fail)
    body = {"jsonrpc": "2.0", "id": "x", "method": "tools/call", "params": {"name": "echo"}}
    answer = await (
        world.post(body, session) if era == "legacy" else world.modern("tools/call", {"name": "echo"}, request_id="x")
    )
    assert answer.status == 500
    assert answer.json["id"] == "x"
    assert answer.json["error"]["code"] == -32603
    assert b"secret" not in answer.body


async def test_an_error_that_is_no_json_is_answered_as_a_bug(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    async def call(*_: Any) -> CallResult:
        return CallResult.failed(RpcError(1, "x", object()))

    monkeypatch.setattr(world.pipeline, "call", call)
    answer = await world.modern("tools/call", {"name": "echo"}, request_id=7)
    assert answer.json["id"] == 7
    assert answer.json["error"]["code"] == -32603


async def test_no_new_work_begins_when_memory_is_short(world: Any, helpers: Any) -> None:
    session = await world.initialize()
    budget = world.budget
    budget.level, budget.tight = 0.93, True
    calls = [
        await world.modern("tools/call", {"name": "echo", "arguments": {}}),
        await world.post(helpers.initialize(), {}),
        await world.post({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "echo"}}, session),
    ]
    for answer in calls:
        assert answer.json["error"]["code"] == OVERLOADED
        assert answer.json["error"]["message"] == "the gateway uses 93% of its memory (limits.memory)"
    assert [(answer.status, answer.headers.get("Retry-After")) for answer in calls[:2]] == [(503, "2"), (503, "2")]
    assert world.downstream.gate.rejected == 3
    assert (await world.modern("tools/list")).status == 200, "what calls in flight may need"
    budget.level, budget.tight = 0.5, False
    assert (await world.modern("tools/call", {"name": "echo", "arguments": {}})).status == 200


async def test_a_body_for_which_there_is_no_memory_is_rejected_and_counted(
    world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(world.budget, "limit", 200_000)
    answer = await world.modern("tools/call", {"name": "echo", "arguments": {"text": "x" * 300_000}})
    assert (answer.status, answer.json["error"]["code"]) == (503, OVERLOADED)
    assert "limits.memory" in answer.json["error"]["message"]
    assert world.downstream.gate.rejected == 1
    assert (await world.modern("tools/call", {"name": "echo", "arguments": {}})).status == 200


async def test_the_idlest_sessions_end_when_memory_is_nearly_full(world: Any) -> None:
    sessions = [await world.initialize() for _ in range(20)]
    world.downstream.sessions.end_idle()
    answers = [await world.post(PING, session) for session in sessions]
    assert [answer.status for answer in answers] == [404, 404] + [200] * 18


@pytest.mark.parametrize("member", ["clientInfo", "capabilities"])
async def test_what_an_agent_says_of_itself_is_bounded(world: Any, helpers: Any, member: str) -> None:
    request = helpers.initialize()
    request["params"][member] = {"name": "x", "version": "1", "more": "y" * 70_000}
    answer = await world.post(request)
    assert answer.json["error"]["message"] == f"{member} is larger than 65536 bytes"
    assert len(world.downstream.sessions) == 0


def test_a_long_claim_is_not_searched_character_by_character() -> None:
    caller = caller_at("127.0.0.1")

    def seconds(version: str) -> float:
        info = msgspec.json.encode({"name": "n", "version": version})
        return min(timeit.repeat(lambda: principal_of(info, caller), number=20, repeat=5))

    assert seconds("v" * 64_000) < 20 * seconds("v" * 256)
    assert principal_of(msgspec.json.encode({"name": "n", "version": "v" * 64_000}), caller).client_version == "v" * 64
