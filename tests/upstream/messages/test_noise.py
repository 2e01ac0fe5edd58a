"""Noise: what slows a server, and what gives it up."""

import asyncio
import sys
from pathlib import Path

import pytest

from gateway_core.config import LimitsConfig, UpstreamConfig
from gateway_core.mcp.names import PROGRESS, UPDATED
from gateway_core.upstream.base import ClientContext
from gateway_core.upstream.messages import noise as noises
from gateway_core.upstream.messages.noise import BURST, PATIENCE, PIECE, RATE, Noise, Noisy, pieces
from gateway_core.upstream.transports.stdio import StdioConnection


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def keep_on(noise: Noise, clock: Clock, method: str, per_second: float, seconds: float) -> float:
    """Hear notifications at that rate; returns the seconds of all pauses."""
    paused, end = 0.0, clock.now + seconds
    while clock.now < end:
        for _ in range(int(per_second / 10)):
            noise.notified(method)
        pause = noise.pause()
        paused += pause
        clock.now += max(pause, 0.1)
    return paused


def test_a_server_that_goes_on_with_noise_is_slowed_then_given_up() -> None:
    clock = Clock()
    noise = Noise(clock)
    assert keep_on(noise, clock, UPDATED, RATE * 4, PATIENCE / 2) > 1
    assert not noise.given_up
    with pytest.raises(Noisy, match=r"is noisy: for \d+ s it sent more than 500 messages, or 2 MB, a second"):
        keep_on(noise, clock, UPDATED, RATE * 4, PATIENCE)
    assert noise.given_up


def test_a_burst_is_neither_slowed_nor_given_up() -> None:
    noise = Noise(Clock())
    for _ in range(int(BURST)):
        noise.notified(UPDATED)
    assert noise.pause() == 0


def test_a_steady_rate_below_the_limit_is_never_slowed() -> None:
    clock = Clock()
    assert keep_on(Noise(clock), clock, UPDATED, RATE * 0.9, 10 * PATIENCE) == 0


def test_progress_and_log_messages_are_slowed_but_not_given_up() -> None:
    clock = Clock()
    noise = Noise(clock)
    assert keep_on(noise, clock, PROGRESS, RATE * 40, 3 * PATIENCE) > 1
    assert not noise.given_up


def test_noise_that_ends_is_forgotten() -> None:
    clock = Clock()
    noise = Noise(clock)
    for _ in range(5):
        keep_on(noise, clock, UPDATED, RATE * 4, PATIENCE / 2)
        clock.now += 60
        noise.pause()
    assert not noise.given_up


def test_large_messages_count_for_several() -> None:
    small, large = Noise(Clock()), Noise(Clock())
    for _ in range(100):
        small.weigh(100)
        large.weigh(1024 * 1024)
    assert small.pause() == 0
    assert large.pause() > 0


def test_large_useful_messages_are_slowed_but_not_given_up() -> None:
    clock = Clock()
    noise, end = Noise(clock), clock.now + 3 * PATIENCE
    paused = 0.0
    while clock.now < end:
        noise.weigh(16 * 1024 * 1024, useful=True)
        pause = noise.pause()
        paused += pause
        clock.now += max(pause, 0.1)
    assert paused > PATIENCE
    assert not noise.given_up


def test_only_a_chunk_with_many_lines_is_cut_into_pieces() -> None:
    text = b"data: " + b"x" * 4 * PIECE + b"\n\n"
    assert list(pieces(text)) == [text]
    flood = b": x\n" * PIECE
    assert b"".join(pieces(flood)) == flood
    assert len(list(pieces(flood))) == 4


SERVER = r"""
import json, sys
noise = open(sys.argv[1]).read()
for line in sys.stdin:
    message = json.loads(line)
    if message.get("method") == "initialize":
        info = {"protocolVersion": "2025-11-25", "capabilities": {}, "serverInfo": {"name": "n", "version": "1"}}
        print(json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": info}), flush=True)
    elif message.get("method") == "server/discover":
        error = {"code": -32601, "message": "no"}
        print(json.dumps({"jsonrpc": "2.0", "id": message["id"], "error": error}), flush=True)
    elif message.get("method") == "ping":
        sys.stdout.write((noise + "\n") * (20_000 if len(noise) < 1000 else 52_000_000 // len(noise)))
        print(json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": {}}), flush=True)
        if len(sys.argv) > 2:
            sys.exit()
        while noise:
            sys.stdout.write((noise + "\n") * (1000 if len(noise) < 1000 else 10))
"""


async def connected(tmp_path: Path, noise: str, *args: str, body: int = 16 * 1024 * 1024) -> StdioConnection:
    path, noisy = tmp_path / "server.py", tmp_path / "noise"
    path.write_text(SERVER)
    noisy.write_text(noise)
    config = UpstreamConfig(name="n", transport="stdio", command=sys.executable, args=(str(path), str(noisy), *args))
    connection = StdioConnection(
        config, LimitsConfig(response_body=body), ClientContext(lambda method, params, exchange: None)
    )
    await connection.open("legacy")
    return connection


def padded(message: str) -> str:
    """A message of 128 KiB."""
    return message.replace("PAD", "x" * 128 * 1024)


NOISES = {
    "no message": '{"x":1}',
    "text": "text",
    "notifications": '{"jsonrpc":"2.0","method":"notifications/resources/updated"}',
    "large lines": padded("PAD"),
    "large notifications": padded(
        '{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":"PAD"}}'
    ),
    "large pings": padded('{"jsonrpc":"2.0","id":"p","method":"ping","params":{"a":"PAD"}}'),
    "lines that are too long": padded("PAD" * 10),
}


@pytest.mark.parametrize("line", NOISES.values(), ids=NOISES.keys())
async def test_a_child_that_floods_its_stdout_leaves_the_loop_to_others_and_is_given_up(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(noises, "PATIENCE", 0.5)
    connection = await connected(tmp_path, line, body=1024 * 1024)
    asking = asyncio.create_task(connection.request("ping", {}))
    turns = 0
    while not connection.closed:
        await asyncio.sleep(0)
        turns += 1
    assert turns > 100, "others had their turns"
    assert connection.noisy
    assert "is noisy" in await connection.wait_closed()
    assert connection.unexpected.counts["pause of a server that sends faster than it is read"]
    with pytest.raises(Exception, match="is noisy"):
        await asking
    await connection.close()


async def test_answers_after_a_burst_arrive_although_the_server_exits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(noises, "RATE", 1e9)
    connection = await connected(tmp_path, "text", "exit")
    reply = await connection.request("ping", {})
    assert reply.error is None
    await connection.close()
