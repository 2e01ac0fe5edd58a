"""The line between "not sent" and "outcome unknown", and what an HTTP client may not do."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import ssl
import subprocess
from pathlib import Path
from typing import Any

import pytest

from gateway_core.api import Principal
from gateway_core.errors import NotSent, OutcomeUnknown
from gateway_core.exchange.exchange import Agent, Exchange
from tests.ports import free_port


def exchange() -> Exchange:
    return Exchange(Agent(Principal("tester"), "modern", "2026-07-28"), "tools/call")


CALL = ("tools/call", {"name": "t", "arguments": {}})


async def test_what_could_not_connect_was_not_sent(connect: Any) -> None:
    for url, reason in (
        (f"http://127.0.0.1:{free_port()}/mcp?key=secret", "cannot connect to 127.0.0.1"),
        ("http://does-not-exist.invalid/mcp?key=secret", "does-not-exist.invalid cannot be resolved"),
    ):
        link = await connect(url, opened=False)
        with pytest.raises(NotSent, match=reason) as caught:
            await link.connection.open(None)
        assert "secret" not in caught.value.reason


async def test_a_server_that_speaks_no_tls_got_nothing(
    scripted: Any, connect: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway_core.upstream.network.host.CONNECT_TIMEOUT", 0.3)

    async def script(seen: Any, writer: Any) -> None:
        raise AssertionError

    server = await scripted(script)
    link = await connect(server.url.replace("http:", "https:"), opened=False)
    with pytest.raises(NotSent):
        await link.connection.open(None)


async def test_a_certificate_that_is_not_trusted_gets_nothing(connect: Any, tmp_path: Path) -> None:
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost"]
    made = subprocess.run([*command, "-keyout", str(key), "-out", str(cert)], capture_output=True, check=False)
    if made.returncode != 0:
        pytest.skip("no openssl here")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    got: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        got.append(await reader.read(100))
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    link = await connect(f"https://localhost:{port}/mcp", opened=False)
    with pytest.raises(NotSent, match="not trusted"):
        await link.connection.open(None)
    server.close()
    assert b"".join(got) == b""


async def test_a_connection_that_takes_too_long_was_not_sent(connect: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway_core.upstream.network.host.CONNECT_TIMEOUT", 0.2)
    # A listener that never accepts and whose queue is full ignores further connections.
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(0)
    port = listener.getsockname()[1]
    loop = asyncio.get_running_loop()
    fillers = [socket.socket() for _ in range(3)]
    for filler in fillers:
        filler.setblocking(False)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(loop.sock_connect(filler, ("127.0.0.1", port)), 0.1)
    client = await connect(f"http://127.0.0.1:{port}/mcp", opened=False)
    with pytest.raises(NotSent, match=r"within 0.2 s"):
        await client.connection.open(None)
    for used in (*fillers, listener):
        used.close()


async def test_a_server_that_accepts_and_closes_leaves_the_outcome_unknown(scripted: Any, connect: Any) -> None:
    async def script(seen: Any, writer: Any) -> None:
        writer.close()

    server = await scripted(script)
    link = await connect(server.url)
    attempt = exchange()
    with pytest.raises(OutcomeUnknown):
        await link.connection.request(*CALL, exchange=attempt)
    assert attempt.sent
    assert len(server.of("tools/call")) == 1


async def test_a_killed_server_fails_its_calls_at_once_and_only_them(scripted: Any, connect: Any) -> None:
    async def script(seen: Any, writer: Any) -> None:
        if seen.message["params"]["name"] == "dies":
            await asyncio.sleep(0.1)
            writer.transport.abort()
            return
        await asyncio.sleep(0.3)
        reply = json.dumps({"jsonrpc": "2.0", "id": seen.message["id"], "result": {"n": 1}})
        writer.write(
            f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(reply)}\r\n\r\n{reply}".encode()
        )

    server = await scripted(script)
    link = await connect(server.url)
    dying = asyncio.create_task(link.connection.request("tools/call", {"name": "dies"}))
    bystanders = [asyncio.create_task(link.connection.request("tools/call", {"name": "x"})) for _ in range(20)]
    with pytest.raises(OutcomeUnknown):
        await dying
    assert all(json.loads(reply.result) == {"n": 1} for reply in await asyncio.gather(*bystanders))
    assert len(server.of("tools/call")) == 21


async def test_not_sent_means_that_mark_sent_was_not_called(connect: Any) -> None:
    link = await connect(f"http://127.0.0.1:{free_port()}/mcp", opened=False)
    marks: list[int] = []
    with pytest.raises(NotSent):
        await link.http.open("POST", {}, body=b"{}", before_send=lambda: marks.append(1))
    assert marks == []


async def test_mark_sent_comes_before_the_first_byte(scripted: Any, connect: Any) -> None:
    attempt = exchange()
    seen_sent: list[bool] = []

    async def script(seen: Any, writer: Any) -> None:
        seen_sent.append(attempt.sent)
        writer.write(b"HTTP/1.1 500 X\r\nContent-Length: 0\r\n\r\n")

    server = await scripted(script)
    link = await connect(server.url)
    with pytest.raises(OutcomeUnknown):
        await link.connection.request(*CALL, exchange=attempt)
    assert seen_sent == [True]


async def test_an_idle_connection_that_the_server_has_closed_is_not_used(scripted: Any, connect: Any) -> None:
    closing: list[asyncio.StreamWriter] = []

    async def script(seen: Any, writer: Any) -> None:
        reply = json.dumps({"jsonrpc": "2.0", "id": seen.message["id"], "result": {}}).encode()
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(reply), reply)
        )
        closing.append(writer)

    server = await scripted(script)
    link = await connect(server.url)
    for _ in range(5):
        assert (await link.connection.request(*CALL)).result == b"{}"
        # The end of the connection is in the kernel, but the event loop has not looked: nothing is awaited here.
        end = socket.socket(fileno=os.dup(closing[-1].transport.get_extra_info("socket").fileno()))
        end.shutdown(socket.SHUT_RDWR)
        end.close()
    assert len(server.of("tools/call")) == 5
    assert server.connections >= 5


async def test_sockets_notice_that_the_other_side_is_gone(scripted: Any, connect: Any) -> None:
    """TCP keepalive, so that an idle stream over a dead path ends within a minute."""

    async def script(seen: Any, writer: Any) -> None:
        raise AssertionError

    link = await connect((await scripted(script)).url)
    [idle] = link.http.connections._idle
    found = idle._transport.get_extra_info("socket")
    assert found.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    if hasattr(socket, "TCP_KEEPIDLE"):
        options = (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
        idle_for, interval, count = (found.getsockopt(socket.IPPROTO_TCP, option) for option in options)
        assert idle_for + interval * count <= 60


async def test_a_closed_client_sends_nothing(connect: Any) -> None:
    link = await connect(f"http://127.0.0.1:{free_port()}/mcp", opened=False)
    await link.http.close()
    with pytest.raises(NotSent, match="closed"):
        await link.http.open("GET", {})
