"""Bodies in chunks and of known length."""

import pytest

from gateway_core.http1.body import MAX_CHUNK_LINE, MAX_EXTENSIONS, MAX_TRAILERS, SLICE, ChunkedBody, LengthBody
from gateway_core.http1.head import HttpError


def chunked(data: bytes, size: int = 1 << 20, limit: int = 1000) -> tuple[bytes, bytes] | None:
    """The body and what follows it, when `data` is fed in pieces of `size`; None if it is incomplete."""
    reader = ChunkedBody(limit)
    for start in range(0, len(data), size):
        rest = data[start : start + size]
        while rest and not reader.complete:
            rest = reader.feed(rest)
        if reader.complete:
            return reader.body(), rest + data[start + size :]
    return None


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_chunks(size: int) -> None:
    data = b'3\r\nabc\r\nA;x="y"\r\n0123456789\r\n000\r\nX: trailer\r\n\r\nGET'
    assert chunked(data, size) == (b"abc0123456789", b"GET")
    assert chunked(b"0\r\n\r\n", size) == (b"", b"")
    for end in range(len(data) - 3):
        assert chunked(data[:end], size) is None


@pytest.mark.parametrize("size", [1, 1000])
@pytest.mark.parametrize(
    "data",
    [
        b"3\nabc\r\n",
        b"3\r\nabcd\r\n",
        b"3\r\nabc\n0\r\n\r\n",
        b"3\r\nabc0\r\n\r\n",
        b" 3\r\nabc\r\n",
        b"3 \r\nabc\r\n",
        b"0x3\r\nabc\r\n",
        b"-3\r\nabc\r\n",
        b"+3\r\nabc\r\n",
        b"\r\n",
        b";x\r\n",
        b"3;a\0b\r\nabc\r\n",
        b"3;a\rb\r\nabc\r\n",
        b"00000000000000003\r\nabc\r\n",
        b"g\r\n",
        b"0\r\nno trailer\r\n\r\n",
        b"0\r\n X: folded\r\n\r\n",
        b"0\r\nX : a\r\n\r\n",
        b"0\r\nContent-Length: 1\r\n\r\n",
        b"0\r\nTransfer-encoding: chunked\r\n\r\n",
        b"0\r\nHost: a\r\n\r\n",
        b"0\r\n\n",
        b"3;" + b"x" * MAX_CHUNK_LINE + b"\r\nabc\r\n",
        b"1;%b\r\nx\r\n" % (b"x" * 200) * (MAX_EXTENSIONS // 200 + 1),
        b"0\r\n" + b"X: %b\r\n" % (b"x" * 1000) * (MAX_TRAILERS // 1000 + 1),
        b"0\r\nX: " + b"x" * (MAX_TRAILERS + 10),
    ],
)
def test_malformed_chunks_are_refused(data: bytes, size: int) -> None:
    with pytest.raises(HttpError) as caught:
        chunked(data, size)
    assert (caught.value.status, caught.value.close) == (400, True)


def test_many_small_chunks_are_read_in_slices() -> None:
    reader, rest, slices = ChunkedBody(100_000), b"1\r\nx\r\n" * 20 * SLICE + b"0\r\n\r\nGET", 0
    while not reader.complete:
        rest, before = reader.feed(rest), len(rest)
        assert before - len(rest) <= 6 * SLICE, "one turn reads no more than a slice"
        slices += 1
    assert (reader.body(), rest) == (b"x" * 20 * SLICE, b"GET")
    assert slices > 20


@pytest.mark.parametrize("data", [b"3e9\r\n", b"ffffffffffffffff\r\n", b"1f4\r\n%b\r\n1f5\r\n" % (b"x" * 500)])
def test_a_body_beyond_the_limit_is_refused_by_the_size_of_its_chunk(data: bytes) -> None:
    with pytest.raises(HttpError) as caught:
        chunked(data)
    assert caught.value.status == 413


@pytest.mark.parametrize("size", [1, 3, 100])
def test_a_body_of_known_length(size: int) -> None:
    reader = LengthBody(5)
    data = b"abcdeGET"
    for start in range(0, len(data), size):
        rest = reader.feed(data[start : start + size])
        if reader.complete:
            break
    assert reader.body() == b"abcde"
    assert rest == data[: start + size][5:]
