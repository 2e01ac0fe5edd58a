"""Reading requests from bytes, wherever they are cut."""

import pytest

from fuzz.checks import read_requests
from gateway_core.http1.head import HttpError
from gateway_core.http1.reader import RequestReader

Read = tuple[str, bytes]

STREAM = (
    b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nabcde"
    b"GET /b HTTP/1.1\r\nHost: a\r\n\r\n"
    b"POST /c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x\r\nde\r\n0\r\nX: y\r\n\r\n"
    b"POST /d HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"
)


def requests(data: bytes, size: int, limit: int = 1000) -> list[Read]:
    return [(head.path, body) for head, body in read_requests(data, size, limit)]


@pytest.mark.parametrize("size", [*range(1, 40), 1000])
def test_requests_are_read_wherever_they_are_cut(size: int) -> None:
    assert requests(STREAM, size) == [("/a", b"abcde"), ("/b", b""), ("/c", b"abcde"), ("/d", b"")]


@pytest.mark.parametrize("size", [1, 5, 1000])
def test_a_body_is_taken_up_to_the_limit(size: int) -> None:
    assert len(requests(STREAM, size, 5)) == 4
    with pytest.raises(HttpError) as caught:
        requests(STREAM, size, 4)
    assert caught.value.status == 413


@pytest.mark.parametrize("size", range(1, 10))
@pytest.mark.parametrize("line", [b"GET /\rHTTP", b"GET / HTTP/1.1\nHost", b"GET / HTTP/1.1\r\nX: \0"])
def test_a_bad_byte_in_half_a_head_is_found_wherever_it_is_cut(line: bytes, size: int) -> None:
    with pytest.raises(HttpError):
        requests(line, size)


def test_the_body_of_a_refused_request_is_skipped_if_it_is_there() -> None:
    reader = RequestReader(lambda owner, size: None)
    reader.feed(STREAM)
    head = reader.head()
    assert head is not None
    assert reader.skip(head)
    head = reader.head()
    assert head is not None
    assert (head.path, reader.skip(head)) == ("/b", True)
    head = reader.head()
    assert head is not None
    assert (head.path, reader.skip(head)) == ("/c", False)
