"""What a client does not read: counted until it reads it or leaves, and a reason to serve nothing more."""

import asyncio
import sys
from typing import Any

import pytest

from gateway_core.http1 import writer as http1_writer

SIZE = 20_000_000
"""Bytes of a response: more than the buffers of two sockets hold."""
REQUEST = b"GET /size?%d HTTP/1.1\r\nHost: x\r\n\r\n" % SIZE


async def until(condition: Any) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.01)


async def read_body(reader: asyncio.StreamReader) -> int:
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200")
    return len(await reader.readexactly(SIZE))


@pytest.mark.parametrize(
    ("version", "pauses"),
    [
        ((3, 11, 7), True),
        ((3, 12, 0), False),
        ((3, 12, 8), False),
        ((3, 12, 9), True),
        ((3, 13, 0), False),
        ((3, 13, 1), False),
        ((3, 13, 2), True),
        ((3, 14, 0), True),
        ((4, 0, 0), True),
    ],
)
def test_pythons_whose_writelines_does_not_pause_are_known(version: tuple[int, int, int], pauses: bool) -> None:
    assert http1_writer.pauses((*version, "final", 0)) is pauses


@pytest.mark.parametrize("pauses", [http1_writer.pauses(sys.version_info), False])
async def test_what_a_client_does_not_read_is_counted_until_it_reads_it(
    world: Any, monkeypatch: pytest.MonkeyPatch, pauses: bool
) -> None:
    monkeypatch.setattr("gateway_core.http1.writer._PAUSES", pauses)
    if not pauses:  # as in a Python where `writelines` never pauses
        monkeypatch.setattr("asyncio.selector_events._SelectorSocketTransport.writelines", None)
    reader, writer = await world.dial()
    writer.write(REQUEST)
    await until(lambda: world.application.unread > 100_000)
    await read_body(reader)
    await until(lambda: world.application.unread == 0)
    writer.close()


async def test_what_a_client_did_not_read_is_given_back_when_it_leaves(world: Any) -> None:
    _, writer = await world.dial()
    writer.write(REQUEST)
    await until(lambda: world.application.unread > 0)
    writer.transport.abort()
    await until(lambda: world.application.unread == 0)


async def test_a_client_is_cut_off_if_there_is_no_room_for_what_it_does_not_read(world: Any) -> None:
    world.application.room_unread = 100_000
    reader, writer = await world.dial()
    writer.write(REQUEST)
    with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
        await read_body(reader)
    assert world.application.unread == 0
    writer.close()


async def test_the_next_request_waits_until_the_response_before_it_is_read(world: Any) -> None:
    """Otherwise a client with many requests and no interest in the responses fills the memory."""
    reader, writer = await world.dial()
    writer.write(REQUEST * 5)
    await until(lambda: world.application.unread > 0)
    await asyncio.sleep(0.2)
    assert len(world.application.served) == 1
    for _ in range(5):
        await read_body(reader)
    await until(lambda: world.application.unread == 0)
    writer.write(b"GET /size?10 HTTP/1.1\r\nHost: x\r\n\r\n")
    assert (await reader.read(1000)).endswith(b"x" * 10)
    writer.close()
