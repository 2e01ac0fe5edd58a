"""The handshake of connections over TLS: its limits, client certificates, and renewal, on both event loops."""

import asyncio
import contextlib
import datetime
import os
import socket
import ssl
from collections.abc import Iterator
from typing import Any

import pytest
import trustme
from loguru import logger

from gateway_core.http1 import connection, handshake
from gateway_core.http1.handshake import HandshakePace
from gateway_core.http1.response import Response
from tests.http1.conftest import Run, World, dialled, read_response, until

GET = b"GET %b HTTP/1.1\r\nHost: a\r\n\r\n"
CLOSE = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
NOW = datetime.datetime.now(datetime.UTC)
DAY = datetime.timedelta(days=1)


@pytest.fixture
def lines() -> Iterator[list[str]]:
    """The log."""
    found: list[str] = []
    sink = logger.add(lambda message: found.append(str(message)), format="{message}", level="INFO")
    yield found
    logger.remove(sink)


@pytest.fixture
def asking(server_tls: ssl.SSLContext, authority: trustme.CA) -> ssl.SSLContext:
    """The server asks for a client certificate of the authority, and serves clients without one."""
    server_tls.verify_mode = ssl.CERT_OPTIONAL
    authority.configure_trust(server_tls)
    return server_tls


def with_certificate(client: ssl.SSLContext, issued: trustme.LeafCert) -> ssl.SSLContext:
    issued.configure_cert(client)
    return client


async def ask(world: World, client: ssl.SSLContext | None) -> bytes:
    """The response to one request; empty if the connection fails."""
    with contextlib.suppress(OSError):
        async with dialled(world, client) as (reader, peer):
            peer.write(CLOSE)
            return await reader.read()
    return b""


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


# -- client certificates ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_the_certificate_of_a_client_is_known_and_read_once(
    run: Run, asking: ssl.SSLContext, authority: trustme.CA, version: ssl.TLSVersion, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[bytes] = []
    reads = handshake.read_certificate
    monkeypatch.setattr(handshake, "read_certificate", lambda der: read.append(der) or reads(der))

    async def body(world: World, client: ssl.SSLContext) -> None:
        client.minimum_version = client.maximum_version = version
        with_certificate(client, authority.issue_cert("agent.example", common_name="agent"))
        async with dialled(world, client) as (reader, peer):
            for _ in range(3):
                peer.write(GET % b"/")
                await read_response(reader)
                (open_connection,) = world.server._open
                assert open_connection.certificate.names == ("DNS:agent.example",)
            assert open_connection.secure
        assert len(read) == 1

    run(body)


def test_a_session_that_is_resumed_keeps_the_certificate(
    server_tls: ssl.SSLContext, asking: ssl.SSLContext, authority: trustme.CA, client: ssl.SSLContext, serving: Any
) -> None:
    with_certificate(client, authority.issue_cert("agent.example"))

    def visit(port: int, session: ssl.SSLSession | None) -> tuple[ssl.SSLSession | None, bool]:
        plain = socket.create_connection(("127.0.0.1", port), timeout=10)
        with client.wrap_socket(plain, server_hostname="127.0.0.1", session=session) as wrapped:
            wrapped.sendall(GET % b"/who")
            assert wrapped.recv(10_000)
            return wrapped.session, bool(wrapped.session_reused)

    async def main() -> None:
        async with serving(tls=server_tls) as world:
            seen: list[Any] = []
            world.application.echo = lambda client, *_: seen.append(client.certificate) or Response(b"x")
            session, _ = await asyncio.to_thread(visit, world.server.port, None)
            _, reused = await asyncio.to_thread(visit, world.server.port, session)
            assert reused
            assert seen[0] == seen[1] != None  # noqa: E711

    asyncio.run(main())


def test_a_client_without_a_certificate_has_none(run: Run, asking: ssl.SSLContext) -> None:
    async def body(world: World, client: ssl.SSLContext) -> None:
        async with dialled(world, client) as (reader, peer):
            peer.write(GET % b"/")
            await read_response(reader)
            (open_connection,) = world.server._open
            assert open_connection.certificate is None

    run(body)


async def test_plain_connections_have_no_certificate(world: World) -> None:
    async with dialled(world, None) as (reader, peer):
        peer.write(GET % b"/")
        await read_response(reader)
        (open_connection,) = world.server._open
        assert open_connection.certificate is None
        assert not open_connection.secure


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("kind", ["expired", "not yet valid", "foreign", "absent"])
def test_a_certificate_that_is_not_accepted_ends_the_handshake(
    run: Run,
    asking: ssl.SSLContext,
    authority: trustme.CA,
    lines: list[str],
    kind: str,
    version: ssl.TLSVersion,
) -> None:
    asking.verify_mode = ssl.CERT_REQUIRED if kind == "absent" else ssl.CERT_OPTIONAL
    issued, reason = {
        "expired": (authority.issue_cert("a.example", not_after=NOW - DAY), "certificate has expired"),
        "not yet valid": (
            authority.issue_cert("a.example", not_before=NOW + DAY, not_after=NOW + 2 * DAY),
            "not yet valid",
        ),
        "foreign": (trustme.CA().issue_cert("a.example"), "unable to get local issuer certificate"),
        "absent": (None, "it has no client certificate, and client_certificate is required"),
    }[kind]

    async def body(world: World, client: ssl.SSLContext) -> None:
        client.minimum_version = client.maximum_version = version
        if issued is not None:
            with_certificate(client, issued)
        for _ in range(3):
            assert await ask(world, client) == b""
        assert world.application.served == []
        await until(lambda: not world.server._open)

    run(body)
    (line,) = lines  # one a minute
    assert line.startswith("no TLS connection with 127.0.0.1: ")
    assert reason in line


def test_an_unreadable_certificate_counts_as_none(
    run: Run, asking: ssl.SSLContext, authority: trustme.CA, monkeypatch: pytest.MonkeyPatch, lines: list[str]
) -> None:
    def unreadable(der: bytes) -> Any:
        raise ValueError("odd")

    monkeypatch.setattr(handshake, "read_certificate", unreadable)

    async def body(world: World, client: ssl.SSLContext) -> None:
        with_certificate(client, authority.issue_cert("agent.example"))
        async with dialled(world, client) as (reader, peer):
            peer.write(GET % b"/")
            await read_response(reader)
            (open_connection,) = world.server._open
            assert open_connection.certificate is None

    run(body)
    assert any("cannot be read" in line for line in lines)


# -- failures and limits ----------------------------------------------------------------------------------------------


def test_http_without_tls_is_explained_in_the_log(run: Run, lines: list[str]) -> None:
    async def body(world: World, _: ssl.SSLContext) -> None:
        async with dialled(world, None) as (reader, peer):
            peer.write(CLOSE)
            with contextlib.suppress(ConnectionError):
                await reader.read()

    run(body)
    assert [line.strip() for line in lines] == [
        "no TLS connection with 127.0.0.1: it sent HTTP without TLS; its URL must begin with https://"
    ]


def test_a_client_that_does_not_trust_the_gateway_is_explained_in_the_log(run: Run, lines: list[str]) -> None:
    async def body(world: World, _: ssl.SSLContext) -> None:
        await asyncio.to_thread(distrust, world.server.port)
        await until(lambda: bool(lines))

    def distrust(port: int) -> None:  # in a thread, because asyncio's clients do not say why they close
        plain = socket.create_connection(("127.0.0.1", port), timeout=10)
        with plain, pytest.raises(ssl.SSLCertVerificationError):
            ssl.create_default_context().wrap_socket(plain, server_hostname="127.0.0.1")

    run(body)
    assert "it does not trust the certificate of the gateway" in lines[0]


def test_old_versions_of_tls_are_refused(run: Run, lines: list[str], server_tls: ssl.SSLContext) -> None:
    server_tls.minimum_version = ssl.TLSVersion.TLSv1_2

    async def body(world: World, client: ssl.SSLContext) -> None:
        client.set_ciphers("ALL:@SECLEVEL=0")
        with pytest.warns(DeprecationWarning, match="TLSv1_1"):
            client.minimum_version = client.maximum_version = ssl.TLSVersion.TLSv1_1
        assert await ask(world, client) == b""
        assert world.application.served == []

    run(body)
    assert "only versions of TLS that are no longer secure" in lines[0]


def test_a_client_that_only_connects_is_not_logged(run: Run, lines: list[str]) -> None:
    async def body(world: World, _: ssl.SSLContext) -> None:
        async with dialled(world, None):
            await until(lambda: len(world.server._open) == 1)
        await until(lambda: not world.server._open)

    run(body)
    assert lines == []


def test_silent_connections_keep_no_new_one_out_and_are_bounded(run: Run) -> None:
    """Over plain TCP the same holds; see `test_connections_that_say_nothing_keep_no_new_one_out`."""

    async def body(world: World, client: ssl.SSLContext) -> None:
        most = 4 + 64
        async with contextlib.AsyncExitStack() as stack:
            for number in range(150):
                begun = b"\x16\x03\x01\x02\x00" if number % 2 else b""
                _, peer = await stack.enter_async_context(dialled(world, None))
                peer.write(begun)
            async with dialled(world, client, local_addr=("127.0.0.2", 0)) as (reader, peer):
                peer.write(CLOSE)
                assert (await reader.read()).endswith(b"nothing")
            assert await ask(world, client) != b""
            assert len(world.server._open) <= most
        await until(lambda: not world.server._open)

    run(body, max_connections=4)


def test_connections_that_fail_or_give_way_leave_no_descriptor(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    async def body(world: World, client: ssl.SSLContext) -> None:
        assert await ask(world, client) != b""
        await until(lambda: not world.server._open)
        before = open_files()
        for _ in range(100):
            _, peer = await world.dial()
            peer.write(b"GET / HTTP/1.1\r\n\r\n")
            peer.transport.abort()
        async with contextlib.AsyncExitStack() as stack:
            for _ in range(100):
                await stack.enter_async_context(dialled(world, None))
            await until(lambda: len(world.server._open) <= 68)
        await until(lambda: not world.server._open and open_files() <= before)

    run(body, max_connections=4)


def test_handshakes_of_one_network_beyond_the_rate_wait_and_others_do_not(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handshake, "RATE", 4.0)
    monkeypatch.setattr(handshake, "BURST", 2.0)

    async def body(world: World, client: ssl.SSLContext) -> None:
        ended: list[str] = []

        async def visit(address: str) -> None:
            async with dialled(world, client, local_addr=(address, 0)) as (reader, peer):
                peer.write(CLOSE)
                assert (await reader.read()).endswith(b"nothing")
            ended.append(address)

        many = [asyncio.create_task(visit("127.0.0.1")) for _ in range(6)]
        await until(lambda: len(world.server._open) + len(ended) == 6)
        await visit("127.0.0.2")
        assert ended.index("127.0.0.2") < 5, "the last of the first network wait for a second"
        await asyncio.gather(*many)

    run(body)


def test_the_rate_is_counted_per_network_and_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [1000.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    pace = HandshakePace()
    delays = [pace.delay("a") for _ in range(int(handshake.BURST) + 20)]
    assert delays[: int(handshake.BURST)] == [0.0] * int(handshake.BURST)
    assert delays[-1] == pytest.approx(19 / handshake.RATE, abs=1e-6)
    assert pace.delay("b") == 0.0
    clock[0] += 60
    assert pace.delay("a") == 0.0
    for number in range(2 * handshake.MAX_PACES):
        pace.delay(str(number))
    assert len(pace._due) == handshake.MAX_PACES


def test_a_connection_that_would_wait_too_long_is_closed(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handshake, "RATE", 0.01)
    monkeypatch.setattr(handshake, "BURST", 0.01)
    monkeypatch.setattr(connection, "HEAD_TIMEOUT", 5.0)

    async def body(world: World, client: ssl.SSLContext) -> None:
        assert await ask(world, client) != b""
        assert await ask(world, client) == b""

    run(body)


def test_draining_ends_handshakes_at_once(run: Run) -> None:
    async def body(world: World, _: ssl.SSLContext) -> None:
        async with dialled(world, None) as (reader, _):
            await until(lambda: len(world.server._open) == 1)
            await world.server.drain(60.0)
            assert await reader.read() == b""

    run(body)


# -- renewal ----------------------------------------------------------------------------------------------------------


def test_a_renewed_certificate_serves_new_connections_and_open_ones_go_on(run: Run, authority: trustme.CA) -> None:
    async def body(world: World, client: ssl.SSLContext) -> None:
        def shown(peer: asyncio.StreamWriter) -> str:
            return peer.get_extra_info("ssl_object").getpeercert()["subjectAltName"][0][1]

        async with dialled(world, client) as (reader, old), dialled(world, None) as (_, begun):
            old.write(GET % b"/wait")
            await until(lambda: bool(world.application.pending))
            (pending,) = world.application.pending
            streaming = next(one for one in world.server._open if one.pending)
            stream = await streaming.begin_stream({"Content-Type": "text/event-stream"})
            await reader.readuntil(b"\r\n\r\n")

            renewed = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            authority.issue_cert("renewed.example", "127.0.0.1").configure_cert(renewed)
            world.server.renew(renewed)

            async with dialled(world, client) as (new_reader, new):
                new.write(GET % b"/")
                await read_response(new_reader)
                assert {shown(old), shown(new)} == {"127.0.0.1", "renewed.example"}
            await stream.write(b"data: on\n\n")
            assert await reader.readuntil(b"on\n\n\r\n")
            pending.running.set_result(None)
            assert await reader.readuntil(b"0\r\n\r\n") == b"0\r\n\r\n"
            begun.close()

    run(body)
