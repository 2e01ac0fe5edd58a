"""Compressed answers, which the gateway does not ask for and understands all the same."""

from __future__ import annotations

import gzip
import json
import resource
import zlib
from collections.abc import Callable
from typing import Any

import pytest

from gateway_core.config import LimitsConfig
from gateway_core.errors import OutcomeUnknown

CALL = ("tools/call", {"name": "t", "arguments": {}})
JSON = "application/json"
STREAM = "text/event-stream"


def raw_deflate(data: bytes) -> bytes:
    made = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return made.compress(data) + made.flush()


CODINGS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "GZip": gzip.compress,
    "x-gzip": gzip.compress,
    "deflate": zlib.compress,
    "deflate, identity": raw_deflate,
    "deflate, gzip": lambda data: gzip.compress(zlib.compress(data)),
    "identity": bytes,
    "": bytes,
    "utf-8": bytes,
    "none": bytes,
}


def answer(body: bytes, coding: str, kind: str = JSON, *, status: int = 200, cut: int = 0) -> bytes:
    """An HTTP answer with this body; `cut`: bytes of each chunk, 0 for a known length."""
    head = f"HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\nContent-Encoding: {coding}\r\n".encode()
    if not cut:
        return head + b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
    chunks = [body[at : at + cut] for at in range(0, len(body), cut)]
    return (
        head
        + b"Transfer-Encoding: chunked\r\n\r\n"
        + b"".join(b"%x\r\n%b\r\n" % (len(c), c) for c in chunks)
        + (b"0\r\n\r\n")
    )


def replying(make: Callable[[bytes], bytes], text: str = "found") -> Any:
    """A script that answers each request with a result of `text`, made into an HTTP answer by `make`."""

    async def script(seen: Any, writer: Any) -> None:
        reply = {"jsonrpc": "2.0", "id": seen.message["id"], "result": {"content": [{"type": "text", "text": text}]}}
        writer.write(make(json.dumps(reply).encode()))

    return script


@pytest.mark.parametrize("cut", [0, 1, 7])
@pytest.mark.parametrize("coding", CODINGS)
async def test_an_answer_is_decoded(scripted: Any, connect: Any, coding: str, cut: int) -> None:
    server = await scripted(replying(lambda body: answer(CODINGS[coding](body), coding, cut=cut)))
    link = await connect(server.url)
    for _ in range(3):
        reply = await link.connection.request(*CALL)
        assert json.loads(reply.result)["content"][0]["text"] == "found"
    assert server.connections == 1  # a decoded answer leaves its connection usable


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
async def test_events_are_decoded_as_they_arrive(scripted: Any, connect: Any, coding: str) -> None:
    going_on: list[bool] = []

    async def script(seen: Any, writer: Any) -> None:
        made = zlib.compressobj(wbits=(16 if coding == "gzip" else 0) + zlib.MAX_WBITS)
        writer.write(f"HTTP/1.1 200 X\r\nContent-Type: {STREAM}\r\nContent-Encoding: {coding}\r\n\r\n".encode())
        reply = json.dumps({"jsonrpc": "2.0", "id": seen.message["id"], "result": {"n": 1}})
        writer.write(made.compress(f"data: {reply}\n\n".encode()) + made.flush(zlib.Z_SYNC_FLUSH))
        await seen.hang_up()  # the stream stays open: the answer must come before its end
        going_on.append(True)

    link = await connect((await scripted(script)).url)
    assert json.loads((await link.connection.request(*CALL)).result) == {"n": 1}


async def test_an_error_with_a_bad_status_is_decoded(scripted: Any, connect: Any) -> None:
    async def script(seen: Any, writer: Any) -> None:
        error = {"jsonrpc": "2.0", "id": seen.message["id"], "error": {"code": -32602, "message": "no such thing"}}
        writer.write(answer(gzip.compress(json.dumps(error).encode()), "gzip", status=400))

    link = await connect((await scripted(script)).url)
    assert (await link.connection.request(*CALL)).error.message == "no such thing"


@pytest.mark.parametrize("kind", [JSON, STREAM])
async def test_a_decompression_bomb_ends_at_the_limit(scripted: Any, connect: Any, kind: str) -> None:
    size = 400 * 1024 * 1024
    made = zlib.compressobj(wbits=16 + zlib.MAX_WBITS)
    start = made.compress(b"data: " if kind == STREAM else b"")
    bomb = start + b"".join(made.compress(bytes(1 << 20)) for _ in range(size >> 20)) + made.flush()
    assert len(bomb) < size / 500

    async def script(seen: Any, writer: Any) -> None:
        writer.write(answer(bomb, "gzip", kind))

    link = await connect((await scripted(script)).url, limits=LimitsConfig(response_body=1_000_000))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(OutcomeUnknown, match="larger than 1000000 bytes"):
        await link.connection.request(*CALL)
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < size / 4


@pytest.mark.parametrize("size", [0, 20])
async def test_a_small_bomb_in_a_bomb_ends_at_the_limit(scripted: Any, connect: Any, size: int) -> None:
    bomb = gzip.compress(gzip.compress(bytes(100_000_000)))
    assert len(bomb) < 3000

    async def script(seen: Any, writer: Any) -> None:
        writer.write(answer(bomb, "gzip, gzip", cut=size))

    link = await connect((await scripted(script)).url, limits=LimitsConfig(response_body=1_000_000))
    with pytest.raises(OutcomeUnknown, match="larger than 1000000 bytes"):
        await link.connection.request(*CALL)


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda body: answer(body, "gzip"), "malformed"),
        (lambda body: answer(gzip.compress(body)[:-20], "gzip"), "Input data was truncated"),
        (lambda body: answer(zlib.compress(body)[:-20], "deflate"), "Input data was truncated"),
        (lambda body: answer(body, "br"), "the content coding br"),
        (lambda body: answer(body, "gzip, zstd"), "the content coding zstd"),
        (lambda body: answer(body, "gzip, gzip, gzip"), "3 content codings"),
    ],
    ids=["no-gzip", "cut-gzip", "cut-deflate", "br", "zstd", "thrice"],
)
async def test_what_cannot_be_decoded_is_an_error_that_says_why(
    scripted: Any, connect: Any, make: Callable[[bytes], bytes], why: str
) -> None:
    link = await connect((await scripted(replying(make))).url)
    with pytest.raises(OutcomeUnknown, match=why):
        await link.connection.request(*CALL)


async def test_an_answer_that_lacks_only_its_checksum_is_read(scripted: Any, connect: Any) -> None:
    link = await connect((await scripted(replying(lambda body: answer(gzip.compress(body)[:-8], "gzip")))).url)
    assert (await link.connection.request(*CALL)).error is None


async def test_members_of_gzip_follow_each_other_and_padding_is_ignored(scripted: Any, connect: Any) -> None:
    def make(body: bytes) -> bytes:
        return answer(gzip.compress(body[:20]) + gzip.compress(body[20:]) + bytes(8), "gzip")

    link = await connect((await scripted(replying(make))).url)
    assert (await link.connection.request(*CALL)).error is None
