"""The listener of the control plane: its bounds, its address and its end."""

import asyncio
import contextlib
import json
import logging
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from aiohttp import web_protocol
from loguru import logger

from gateway_core.control import Access, ControlPlane, listener
from gateway_core.http1.hosts import HostGuard

GET = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.fixture
def logged() -> Iterator[list[str]]:
    """The lines of the log that say what failed."""
    lines: list[str] = []
    sink = logger.add(lambda line: lines.append(line.record["message"].splitlines()[0]), level="ERROR")
    yield lines
    logger.remove(sink)


@pytest.fixture
def no_deadline(monkeypatch: Any) -> None:
    """Connections do not end by their deadline."""
    monkeypatch.setattr(listener, "CONNECTION_TIME", 3600.0)


def unloaded(plane: Any, endpoints: Callable[[], Sequence[Any]] = tuple) -> ControlPlane:
    """A control plane that does not listen yet. It answers 404, unless it has endpoints."""
    return ControlPlane(endpoints, plane.operations, Access("t", "", plane.operations.browsers), HostGuard("127.0.0.1"))


def held(plane: Any) -> tuple[ControlPlane, threading.Event]:
    """A control plane that is not loaded before the event is set."""
    may_load = threading.Event()

    def endpoints() -> tuple[()]:
        may_load.wait(60)
        return ()

    return unloaded(plane, endpoints), may_load


async def start_and_get_factory(control: ControlPlane, monkeypatch: Any) -> Callable[[], asyncio.Protocol]:
    """Start a control plane. Returns what asyncio calls for each connection, before it calls `connection_made`."""
    loop = asyncio.get_running_loop()
    factories, create = [], loop.create_server

    async def remember(factory: Any, *args: Any, **options: Any) -> Any:
        factories.append(factory)
        return await create(factory, *args, **options)

    with monkeypatch.context() as patched:
        patched.setattr(loop, "create_server", remember)
        await control.start("127.0.0.1", 0)
    return factories[0]


async def ended(reader: asyncio.StreamReader) -> bytes:
    """What comes until the connection ends."""
    async with asyncio.timeout(60):
        try:
            return await reader.read()
        except ConnectionError:
            return b""


async def test_a_free_port_is_taken_and_told(plane: Any) -> None:
    assert plane.control.port > 0
    assert plane.control.address == f"http://127.0.0.1:{plane.control.port}"


async def test_a_name_becomes_the_address_that_listens(plane: Any) -> None:
    control = unloaded(plane)
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

    first, second = unloaded(plane), unloaded(plane)
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
    other = unloaded(plane)
    with pytest.raises(OSError, match="address already in use"):
        await other.start("127.0.0.1", plane.control.port)
    assert other.address == ""
    await other.close()


async def test_requests_wait_until_the_application_is_loaded_in_a_thread(plane: Any) -> None:
    may_load, threads = threading.Event(), []

    def endpoints() -> tuple[()]:
        threads.append(threading.current_thread())
        may_load.wait(60)
        return ()

    control = unloaded(plane, endpoints)
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


@pytest.mark.usefixtures("no_deadline")
async def test_a_connection_that_is_made_after_the_loading_is_read(plane: Any, monkeypatch: Any) -> None:
    loop, control = asyncio.get_running_loop(), unloaded(plane)
    factory = await start_and_get_factory(control, monkeypatch)
    theirs, ours = socket.socketpair()
    try:
        early = factory()  # by asyncio, one turn of the loop before it calls `connection_made`
        await control.load()
        await loop.connect_accepted_socket(lambda: early, ours)
        reader, writer = await asyncio.open_connection(sock=theirs)
        writer.write(GET)
        assert (await ended(reader)).startswith(b"HTTP/1.1 404 ")
        writer.close()
    finally:
        await control.close()


@pytest.mark.usefixtures("no_deadline")
@pytest.mark.parametrize(
    ("error", "lines"),
    [
        (OSError(22, "the operator has reset the connection"), []),
        (ValueError("a bug"), ["ValueError while beginning a connection of an operator"]),
    ],
)
@pytest.mark.parametrize("is_loaded", [False, True])
async def test_a_connection_that_fails_ends_alone(
    plane: Any, monkeypatch: Any, logged: Any, error: Exception, lines: list[str], is_loaded: bool
) -> None:
    failures = [error]

    def keep_alive(_: Any) -> None:
        if failures:
            raise failures.pop()

    monkeypatch.setattr(web_protocol, "tcp_keepalive", keep_alive)
    control, may_load = held(plane)
    await control.start("127.0.0.1", 0)
    try:
        if is_loaded:
            may_load.set()
            await control.load()
        one, other = [await asyncio.open_connection("127.0.0.1", control.port) for _ in range(2)]
        for _, writer in (one, other):
            writer.write(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        may_load.set()
        await control.load()
        assert await ended(one[0]) == b""
        assert (await ended(other[0])).startswith(b"HTTP/1.1 404 ")
        for _, writer in (one, other):
            writer.close()
    finally:
        may_load.set()
        await control.close()
    assert logged == lines


@pytest.mark.usefixtures("no_deadline")
async def test_a_failure_of_the_loading_is_logged_and_ends_connections(plane: Any, logged: Any) -> None:
    def endpoints() -> tuple[()]:
        raise ImportError("secret")

    control = unloaded(plane, endpoints)
    await control.start("127.0.0.1", 0)
    try:
        for _ in range(2):  # the first one begins the loading
            reader, writer = await asyncio.open_connection("127.0.0.1", control.port)
            writer.write(GET)
            assert await ended(reader) == b""
            writer.close()
        assert logged == ["ImportError while loading the control plane"]
        with pytest.raises(ImportError):
            await control.load()
    finally:
        await control.close()


async def test_a_connection_that_is_made_after_the_end_loads_nothing(plane: Any, monkeypatch: Any) -> None:
    loads = []

    def endpoints() -> tuple[()]:
        loads.append(1)
        return ()

    control = unloaded(plane, endpoints)
    factory = await start_and_get_factory(control, monkeypatch)
    await control.close()
    theirs, ours = socket.socketpair()
    await asyncio.get_running_loop().connect_accepted_socket(factory, ours)
    reader, writer = await asyncio.open_connection(sock=theirs)
    assert await ended(reader) == b""
    writer.close()
    assert loads == []


async def test_a_control_plane_closes_while_it_is_loaded(plane: Any) -> None:
    control, may_load = held(plane)
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
