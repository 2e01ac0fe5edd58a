"""The listener of the control plane: its bounds, its address and its end."""

import asyncio
import contextlib
import json
import logging
import socket
import threading
from typing import Any

import pytest

from gateway_core.control import Access, ControlPlane, listener
from gateway_core.http1.hosts import HostGuard

GET = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"


async def test_a_free_port_is_taken_and_told(plane: Any) -> None:
    assert plane.control.port > 0
    assert plane.control.address == f"http://127.0.0.1:{plane.control.port}"


async def test_a_name_becomes_the_address_that_listens(plane: Any) -> None:
    control = ControlPlane(tuple, plane.operations, Access("t", "", plane.operations.browsers), HostGuard("localhost"))
    await control.start("localhost", 0)
    try:
        assert control.host in {"127.0.0.1", "::1"}
        _, writer = await asyncio.open_connection(control.host, control.port)
        writer.close()
    finally:
        await control.close()


async def test_every_address_of_a_name_goes_on_in_the_next_process(plane: Any, monkeypatch: Any) -> None:
    async def looked_up(*_: Any, **__: Any) -> list[Any]:
        kind = socket.AF_INET, socket.SOCK_STREAM, 0, ""
        return [(*kind, ("127.0.0.1", 0)), (*kind, ("127.0.0.2", 0))]

    def made() -> ControlPlane:
        access = Access("t", "", plane.operations.browsers)
        return ControlPlane(tuple, plane.operations, access, HostGuard("localhost"))

    first, second = made(), made()
    with monkeypatch.context() as patched:
        patched.setattr(asyncio.get_running_loop(), "getaddrinfo", looked_up)
        await first.start("localhost", 0)
    sockets = [socket.socket(fileno=number) for number in first.duplicates()]
    addresses = [sock.getsockname() for sock in sockets]
    assert {host for host, _ in addresses} == {"127.0.0.1", "127.0.0.2"}
    await first.close()
    await second.start("localhost", 0, sockets)
    try:
        for host, port in addresses:
            _, writer = await asyncio.open_connection(host, port)
            writer.close()
    finally:
        await second.close()


async def test_a_port_in_use_raises_and_leaves_nothing(plane: Any) -> None:
    other = ControlPlane(tuple, plane.operations, Access("t", "", plane.operations.browsers), HostGuard("127.0.0.1"))
    with pytest.raises(OSError, match="address already in use"):
        await other.start("127.0.0.1", plane.control.port)
    assert other.address == ""
    await other.close()


async def test_requests_wait_until_the_application_is_loaded_in_a_thread(plane: Any) -> None:
    may_load, threads = threading.Event(), []

    def endpoints() -> tuple[()]:
        threads.append(threading.current_thread())
        may_load.wait(20)
        return ()

    access = Access("t", "", plane.operations.browsers)
    control = ControlPlane(endpoints, plane.operations, access, HostGuard("127.0.0.1"))
    await control.start("127.0.0.1", 0)
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", control.port)
        leaving = (await asyncio.open_connection("127.0.0.1", control.port))[1]
        writer.write(b"GET /healthz HTTP/1.1\r\n")
        await asyncio.sleep(0.05)  # the head arrives in two parts, and the first one alone is read
        writer.write(b"Host: 127.0.0.1\r\n\r\n")
        leaving.close()
        loads = asyncio.gather(control.load(), control.load())
        may_load.set()
        await loads
        assert (await reader.read()).startswith(b"HTTP/1.1 404 ")
        writer.close()
    finally:
        may_load.set()
        await control.close()
    assert len(threads) == 1
    assert threads[0] is not threading.main_thread()


async def test_a_control_plane_closes_while_it_is_loaded(plane: Any) -> None:
    may_load = threading.Event()

    def endpoints() -> tuple[()]:
        may_load.wait(20)
        return ()

    access = Access("t", "", plane.operations.browsers)
    control = ControlPlane(endpoints, plane.operations, access, HostGuard("127.0.0.1"))
    await control.start("127.0.0.1", 0)
    reader, writer = await asyncio.open_connection("127.0.0.1", control.port)
    loading = asyncio.ensure_future(control.load())
    await asyncio.sleep(0)
    closing = asyncio.ensure_future(control.close())
    await asyncio.sleep(0)
    may_load.set()
    await closing
    await loading
    with contextlib.suppress(ConnectionError):
        assert await reader.read() == b""
    writer.close()


async def test_each_connection_has_one_request(plane: Any) -> None:
    answer = await plane.raw(GET * 2)
    assert answer.count(b"HTTP/1.1 ") == 1
    assert b"Connection: close" in answer


async def test_idle_connections_keep_no_operator_out(plane: Any) -> None:
    """One more than the limit ends the oldest, which has had time for its request."""
    idle = [
        await asyncio.open_connection(plane.control.host, plane.control.port)
        for _ in range(listener.MAX_CONNECTIONS + 1)
    ]
    async with plane.get("/admin/status") as answer:
        assert answer.status == 200
    ends = []
    for reader, writer in (idle[0], idle[-1]):
        writer.write(GET)
        with contextlib.suppress(ConnectionError):
            ends.append(await reader.read())
    assert ends[-1].startswith(b"HTTP/1.1 200 ")
    assert ends[:-1] in ([], [b""])
    for _, writer in idle:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


@pytest.mark.parametrize(
    "sent", [b"", b"GET /healthz HTTP/1.1\r\nHost: loc", b"POST / HTTP/1.1\r\nContent-Length: 9\r\n"]
)
async def test_a_request_that_does_not_come_in_time_is_ended(plane: Any, monkeypatch: Any, sent: bytes) -> None:
    monkeypatch.setattr(listener, "CONNECTION_TIME", 0.3)
    assert await plane.raw(sent) == b""


@pytest.mark.parametrize(
    "sent",
    [
        b"GET /" + b"a" * 10_000 + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nX: " + b"a" * 10_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 100 + b"\r\n",
        b"SSH-2.0-secret\r\n\r\n",
        b"\x16\x03\x01secret\r\n\r\n",
    ],
)
async def test_what_is_too_large_or_not_http_is_refused_and_not_logged(plane: Any, caplog: Any, sent: bytes) -> None:
    with caplog.at_level(logging.DEBUG):
        answer = await plane.raw(sent)  # may be lost, because its connection ends with bytes that nothing reads
    if answer:
        head, _, body = answer.partition(b"\r\n\r\n")
        assert b" 400 " in head.partition(b"\r\n")[0]
        assert b"\r\nServer: radium-mcp-gateway" in head
        assert json.loads(body) == {"error": "this is not a valid HTTP request"}
    assert not [record for record in caplog.records if record.name != "asyncio"]


async def test_a_body_is_not_read(plane: Any) -> None:
    answer = await plane.raw(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200 ")


async def test_the_end_cuts_open_connections_and_may_come_twice(plane: Any) -> None:
    reader, writer = await asyncio.open_connection(plane.control.host, plane.control.port)
    writer.write(GET[:10])
    await asyncio.sleep(0.1)
    await plane.control.close()
    await plane.control.close()
    with contextlib.suppress(ConnectionError):
        assert await reader.read() == b""
    writer.close()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection(plane.control.host, plane.control.port)
