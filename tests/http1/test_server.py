"""The server: limits on connections, draining."""

import asyncio
import gc
from typing import Any

import pytest

from gateway_core.http1 import server as servers
from gateway_core.http1.connection import ServerConnection
from gateway_core.http1.response import Response

GET = b"GET %b HTTP/1.1\r\nHost: a\r\n\r\n"


async def until(condition: Any) -> None:
    async with asyncio.timeout(45):
        while not condition():
            await asyncio.sleep(0.01)


async def test_connections_above_the_limit_are_refused_until_there_is_room(start: Any) -> None:
    world = await start(max_connections=2)
    held = [await world.dial() for _ in range(2)]
    for _, writer in held:
        writer.write(GET % b"/held")
    await until(lambda: world.server.admitted == 2)
    assert (await world.exchange(GET % b"/full")).startswith(b"HTTP/1.1 503 ")
    assert (await world.exchange(GET % b"/", until_closed=False)).startswith(b"HTTP/1.1 200 "), (
        "it asks for no admission"
    )
    reader, writer = await world.dial()
    held[0][1].close()
    await until(lambda: world.server.admitted == 1)
    writer.write(GET % b"/full")
    assert (await reader.readline()).startswith(b"HTTP/1.1 200 ")
    for _, one in (*held, (reader, writer)):
        one.close()
    await until(lambda: world.server.admitted == 0)


async def test_connections_that_say_nothing_keep_no_new_one_out(start: Any) -> None:
    world = await start(max_connections=2)
    silent = [await world.dial() for _ in range(66)]
    for _ in range(4):
        assert (await world.exchange(GET % b"/full", until_closed=False)).startswith(b"HTTP/1.1 200 ")
    for _, writer in silent:
        writer.close()


async def test_the_longest_idle_connection_gives_way_and_no_busy_one(start: Any) -> None:
    world = await start(max_connections=3)
    busy, idle, half = [await world.dial() for _ in range(3)]
    for (_, writer), path in ((busy, b"/held"), (idle, b"/full"), (half, b"/full")):
        writer.write(GET % path)
        await asyncio.sleep(0.1)
    await until(lambda: world.server.admitted == 3)
    half[1].write(b"GET /full HTTP/1.1\r\n")
    await asyncio.sleep(0.1)
    assert (await world.exchange(GET % b"/full", until_closed=False)).startswith(b"HTTP/1.1 200 ")
    assert (await asyncio.wait_for(idle[0].read(), 5)).startswith(b"HTTP/1.1 200 ")
    half[1].write(b"Host: a\r\n\r\n")
    await asyncio.wait_for(half[0].readuntil(b"nothing"), 5)
    await asyncio.wait_for(half[0].readuntil(b"nothing"), 5)
    world.application.pending[0].running.set_result(Response(b"done"))
    assert (await asyncio.wait_for(busy[0].readuntil(b"done"), 5)).startswith(b"HTTP/1.1 200 ")
    for _, writer in (busy, idle, half):
        writer.close()


async def test_a_flood_of_connections_is_cut_off_at_the_oldest(start: Any) -> None:
    world = await start(max_connections=2)
    opened = [await world.dial() for _ in range(90)]
    await until(lambda: sum(reader.at_eof() or reader.exception() is not None for reader, _ in opened) == 90 - 66)
    assert all(reader.at_eof() or reader.exception() is not None for reader, _ in opened[:24])
    for _, writer in opened:
        writer.close()


async def test_others_are_served_between_the_requests_of_one_connection(start: Any) -> None:
    world = await start()
    reader, writer = await world.dial()
    other_reader, other = await world.dial()
    writer.write((GET % b"/many") * 2000)
    other.write((GET % b"/other") * 3)
    await other.drain()
    await other_reader.readuntil(b"nothing")
    await asyncio.wait_for(reader.readexactly(1), 10)
    paths = [head.path for head, _ in world.application.served]
    first = paths.index("/other")
    assert first <= 2, "it did not wait for the first connection"
    received = b""
    while received.count(b"nothing") < 2000:
        received += await asyncio.wait_for(reader.read(65536), 10)
    assert [head.path for head, _ in world.application.served].count("/many") == 2000
    for one in (writer, other):
        one.close()


async def test_bytes_that_arrive_between_two_turns_are_served_in_order(start: Any) -> None:
    world = await start()
    reader, writer = await world.dial()
    for number in range(40):
        writer.write(b"".join(GET % b"/%d" % (number * 10 + step) for step in range(10)))
        await asyncio.sleep(0)
    received = b""
    while received.count(b"nothing") < 400:
        received += await asyncio.wait_for(reader.read(65536), 10)
    assert [int(head.path[1:]) for head, _ in world.application.served] == list(range(400))
    writer.close()


async def test_large_bodies_of_one_address_are_read_at_a_limited_rate(
    start: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(servers, "BODY_BURST", 64 * 1024)
    monkeypatch.setattr("gateway_core.http1.connection.canonical_address", lambda _: "2001:db8::7")
    world = await start(max_body=4 * 1024 * 1024)
    paused: list[float] = []
    count = world.server.pause_for

    def pause_for(network: str, size: int) -> float:
        assert network == "2001:db8::/64"
        paused.append(count(network, size))
        return paused[-1]

    world.server.pause_for = pause_for
    reader, writer = await world.dial()
    body = b"x" * 2 * 1024 * 1024
    writer.write(b"POST /size?3 HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
    assert (await asyncio.wait_for(reader.readline(), 30)).startswith(b"HTTP/1.1 200 ")
    assert any(paused)
    writer.close()


SMALL_CHUNKS = (
    b"POST /many HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 8_000 + b"0\r\n\r\n"
)


async def test_others_are_served_while_a_body_of_small_chunks_is_read(start: Any) -> None:
    world = await start()
    reader, writer = await world.dial()
    other_reader, other = await world.dial()
    writer.write(SMALL_CHUNKS)
    await writer.drain()
    for _ in range(10):
        other.write(GET % b"/other")
        await asyncio.wait_for(other_reader.readuntil(b"nothing"), 10)
    paths = [head.path for head, _ in world.application.served]
    assert paths == ["/other"] * 10, "the body is read in slices"
    received = await asyncio.wait_for(reader.readuntil(b"x" * 8_000), 30)
    assert received.startswith(b"HTTP/1.1 200 ")
    for one in (writer, other):
        one.close()


async def test_small_chunks_of_one_address_are_read_at_a_limited_rate(
    start: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(servers, "BODY_BURST", 1024 * 1024)
    world = await start()
    paused: list[float] = []
    count = world.server.pause_for

    def pause_for(network: str, size: int) -> float:
        paused.append(count(network, size))
        return paused[-1]

    world.server.pause_for = pause_for
    reader, writer = await world.dial()
    writer.write(SMALL_CHUNKS)
    await asyncio.wait_for(reader.readuntil(b"x" * 8_000), 30)
    assert sum(paused) > 1, "small chunks count for more than their bytes"
    writer.close()


async def test_bytes_after_a_refusal_are_dropped_at_a_limited_rate(start: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servers, "BODY_BURST", 64 * 1024)
    world = await start()
    paused: list[float] = []
    count = world.server.pause_for

    def pause_for(network: str, size: int) -> float:
        paused.append(count(network, size))
        return paused[-1]

    world.server.pause_for = pause_for
    reader, writer = await world.dial()
    writer.write(b"GARBAGE\r\n\r\n" + b"x" * 4 * 1024 * 1024)
    assert (await asyncio.wait_for(reader.readline(), 30)).startswith(b"HTTP/1.1 400 ")
    async with asyncio.timeout(30):
        while not any(paused):
            await asyncio.sleep(0.01)
    writer.close()


async def test_draining_lets_responses_finish_and_ends_the_rest(start: Any) -> None:
    world = await start()
    idle, one = await world.dial()
    busy, other = await world.dial()
    stuck, third = await world.dial()
    one.write(GET % b"/")
    await idle.readuntil(b"nothing")
    for writer in (other, third):
        writer.write(GET % b"/wait")
    await asyncio.sleep(0.1)
    draining = asyncio.create_task(world.server.drain(1.0))
    assert await asyncio.wait_for(idle.read(), 5) == b""
    world.application.pending[0].running.set_result(Response(b"done"))
    assert (await asyncio.wait_for(busy.read(), 5)).endswith(b"done")
    await draining
    assert await asyncio.wait_for(stuck.read(), 5) == b"", "it was cut off after the grace"
    assert world.application.pending[1].is_lost
    with pytest.raises(OSError, match=r"[Cc]onnect"):
        await world.dial()
    for writer in (one, other, third):
        writer.close()


async def test_a_connection_that_is_lost_is_freed_without_the_garbage_collector(start: Any) -> None:
    def connections() -> int:
        return sum(isinstance(it, ServerConnection) for it in gc.get_objects())

    world = await start()
    gc.collect()
    gc.disable()
    try:
        before = connections()
        for path in (b"/many", b"/stream"):
            reader, writer = await world.dial()
            writer.write(GET % path)
            assert (await asyncio.wait_for(reader.readline(), 10)).startswith(b"HTTP/1.1 ")
            writer.close()
            await writer.wait_closed()
        async with asyncio.timeout(10):
            while connections() > before:
                await asyncio.sleep(0.05)
    finally:
        gc.enable()
