"""Heads of requests: what is read from valid ones, and which are refused."""

from typing import Any

import msgspec
import pytest

from gateway_core.http1.head import MAX_HEADERS, HttpError, RequestHead, check_partial, read_head, read_next_head


def read(*lines: str, first: str = "POST /mcp HTTP/1.1") -> RequestHead:
    return read_head("".join(f"{line}\r\n" for line in (first, *lines, "")).encode())


def refused(data: bytes) -> int:
    with pytest.raises(HttpError) as caught:
        read_head(data)
    assert caught.value.close
    return caught.value.status


def test_a_usual_head() -> None:
    head = read("Host: a:1", "Content-Type:application/json", "Content-LENGTH: 12", "X-A: \t b c \t ")
    assert (head.method, head.path, head.query, head.minor) == ("POST", "/mcp", "", 1)
    assert head.fields == {"host": "a:1", "content-type": "application/json", "content-length": "12", "x-a": "b c"}
    assert (head.length, head.chunked, head.keep_alive, head.canonical) == (12, False, True, True)
    assert head.once("x-a") == "b c"
    assert head.once("x-b") is None


def test_the_query_is_no_part_of_the_path() -> None:
    head = read("Host: a", first="GET /a/b?c=d?e HTTP/1.1")
    assert (head.path, head.query) == ("/a/b", "c=d?e")
    head = read("Host: a", first="GET http://a?c=d HTTP/1.1")
    assert (head.path, head.query) == ("/", "c=d")
    assert read("Host: a", first="OPTIONS * HTTP/1.1").path == "*"


def test_repeated_fields_are_joined_and_named() -> None:
    head = read("Host: a", "Accept: b", "X-A: 1", "accept: c")
    assert head.fields["accept"] == "b, c"
    assert head.repeated == {"accept"}
    with pytest.raises(HttpError, match="more than once"):
        head.once("accept")


@pytest.mark.parametrize(
    "lines", [b"", b"X-\xff: a\r\nHost: a\r\n", b"Host: a\r\nX-\xc3\xa4: a\r\n"], ids=["none", "xff", "utf8"]
)
@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
def test_no_header_and_header_names_beyond_ascii_are_bad_requests(lines: bytes, version: bytes) -> None:
    with pytest.raises(HttpError) as refused:
        read_head(b"GET / HTTP/%b\r\n%b\r\n" % (version, lines))
    assert (refused.value.status, refused.value.close) == (400, True)


def test_values_beyond_ascii_are_utf8_with_what_is_not_kept() -> None:
    head = read_head("GET / HTTP/1.1\r\nHost: a\r\nX: grün\r\nY: ".encode() + b"\xff\r\n\r\n")
    assert (head.fields["x"], head.fields["y"]) == ("grün", "\udcff")


@pytest.mark.parametrize(
    ("first", "connection", "keep_alive", "canonical"),
    [
        ("GET / HTTP/1.1", None, True, True),
        ("GET / HTTP/1.1", "close", False, False),
        ("GET / HTTP/1.1", "Upgrade, HTTP2-Settings", True, True),
        ("GET / HTTP/1.1", "x, Close", False, False),
        ("HEAD / HTTP/1.1", None, True, False),
        ("GET / HTTP/1.0", None, False, False),
        ("GET / HTTP/1.0", "Keep-Alive", True, False),
    ],
)
def test_persistence(first: str, connection: str | None, keep_alive: bool, canonical: bool) -> None:
    lines = ["Host: a"] if connection is None else ["Host: a", f"Connection: {connection}"]
    head = read(*lines, first=first)
    assert (head.keep_alive, head.canonical) == (keep_alive, canonical)


def test_expect_counts_in_http11_only() -> None:
    assert read("Host: a", "Expect: 100-Continue").expects_continue
    assert not read("Host: a", "Expect: 100-continue", first="POST / HTTP/1.0").expects_continue
    assert not read("Host: a").expects_continue


GOOD = b"POST / HTTP/1.1\r\nHost: a\r\n"


@pytest.mark.parametrize(
    "data",
    [
        b"\r\n" + GOOD + b"\r\n",
        b"POST / HTTP/1.1\nHost: a\r\n\r\n",
        b"POST  / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"POST / HTTP/1.1 \r\nHost: a\r\n\r\n",
        b"POST / http/1.1\r\nHost: a\r\n\r\n",
        b"POST / HTTP/2.0\r\nHost: a\r\n\r\n",
        b"POST /\xc3\xa4 HTTP/1.1\r\nHost: a\r\n\r\n",
        b"POST /\t HTTP/1.1\r\nHost: a\r\n\r\n",
        b"PO(T / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"POST HTTP/1.1\r\nHost: a\r\n\r\n",
        GOOD + b"X: a\r\n b\r\n\r\n",
        GOOD + b"X: a\r\n\tb: c\r\n\r\n",
        GOOD + b" X: a\r\n\r\n",
        GOOD + b"X : a\r\n\r\n",
        GOOD + b"X\r\n\r\n",
        GOOD + b": a\r\n\r\n",
        GOOD + b"X\xc3\xa4: a\r\n\r\n",
        GOOD + "\u212aey: a\r\n\r\n".encode(),  # KELVIN SIGN, whose lower case is an ASCII k
        GOOD + b"X: a\0b\r\n\r\n",
        GOOD + b"X: a\x7fb\r\n\r\n",
        GOOD + b"X: a\rb\r\n\r\n",
        GOOD + b"X: a\nb: c\r\n\r\n",
        GOOD + b"X: a\r\r\n\r\n",
        GOOD + b"X: \x0bchunked\r\n\r\n",
        GOOD + b"host: a\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.0\r\n\r\n",
        b"GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET http://a:80/ HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET http://x@a/ HTTP/1.1\r\nHost: a\r\n\r\n",
        GOOD + b"Content-Length: 1\r\nContent-Length: 1\r\n\r\n",
        GOOD + b"Content-Length: 1, 1\r\n\r\n",
        GOOD + b"Content-Length: +1\r\n\r\n",
        GOOD + b"Content-Length: 1_0\r\n\r\n",
        GOOD + "Content-Length: \u0661\r\n\r\n".encode(),
        GOOD + "Content-Length: ²\r\n\r\n".encode("latin-1"),
        GOOD + b"Content-Length:\r\n\r\n",
        GOOD + b"Content-Length: 9999999999999999999\r\n\r\n",
        GOOD + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        GOOD + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
        GOOD + b"Transfer-Encoding: chunked, identity\r\n\r\n",
        GOOD + b"Transfer-Encoding: xchunked\r\n\r\n",
        GOOD + b"Transfer-Encoding:\r\n\r\n",
        b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
    ],
)
def test_what_two_parsers_could_read_differently_is_refused(data: bytes) -> None:
    assert refused(data) == 400


def test_other_transfer_codings_are_not_implemented() -> None:
    assert refused(GOOD + b"Transfer-Encoding: gzip, chunked\r\n\r\n") == 501


@pytest.mark.parametrize(
    "lines",
    [
        b"".join(b"X-%d: 1\r\n" % number for number in range(MAX_HEADERS)),
        b"X: " + b"a" * 17_000 + b"\r\n",
        b"".join(b"X-%d: %b\r\n" % (number, b"a" * 10_000) for number in range(4)),
    ],
)
def test_a_head_that_is_too_large_is_refused(lines: bytes) -> None:
    assert refused(GOOD + lines + b"\r\n") == 431


@pytest.mark.parametrize("data", [b"\x16\x03\x01\x02", b"\r\n", b"GET / HTTP/1.1\n", b"GET / HTTP/1.1\rH", b"GE\0"])
def test_a_beginning_that_cannot_become_valid_is_refused_at_once(data: bytes) -> None:
    with pytest.raises(HttpError) as caught:
        check_partial(data, 0)
    assert caught.value.status == 400


def test_a_beginning_may_end_anywhere() -> None:
    whole = GOOD + b"X: b\r\n"
    for end in range(1, len(whole)):
        check_partial(whole[:end], 0)
        check_partial(whole[:end], end - 1)
    with pytest.raises(HttpError) as caught:
        check_partial(b"GET /" + b"a" * 40_000, 0)
    assert caught.value.status == 431


FIRST = b"POST /a HTTP/1.1\r\nHost: a\r\nX: 1\r\nX: 2\r\nY: 3\r\nContent-Length: 4\r\n\r\n"


@pytest.mark.parametrize(
    "second",
    [
        FIRST,
        FIRST.replace(b"Y: 3", b"Y:\t5 \t"),
        FIRST.replace(b"Y: 3", b"y: 5"),
        FIRST.replace(b"Y: 3", b"Y"),
        FIRST.replace(b"Y: 3", b""),
        FIRST.replace(b"Y: 3", b"Z: 5"),
        FIRST.replace(b"Y: 3", b"Y: \xff"),
        FIRST.replace(b"Length: 4", b"Length: 5"),
        FIRST.replace(b"X: 2", b"X: 3"),
        FIRST.replace(b"Y: 3", b"Content-Length: 3"),
        FIRST.replace(b"Y: 3", b"Y : 3"),
        FIRST.replace(b"Y: 3", b"Y: 3\r\n 4"),
        FIRST.replace(b"Y: 3", b"Y: \0"),
        FIRST.replace(b"Y: 3", b"Transfer-Encoding: chunked"),
        FIRST.replace(b"Host: a", b"Host: b"),
        FIRST.replace(b"Y: 3", b"Host: b"),
        FIRST.replace(b"Y: 3", b"Connection: close"),
        FIRST.replace(b"/a", b"/b"),
        FIRST.replace(b"POST", b"HEAD"),
        FIRST.replace(b"HTTP/1.1", b"HTTP/1.0"),
        FIRST.replace(b"Y: 3\r\n", b""),
        FIRST.replace(b"Length: 4", b"Length: x"),
    ],
)
def test_a_head_is_read_the_same_whatever_came_before(second: bytes) -> None:
    def outcome(read: Any) -> Any:
        try:
            return {name: value for name, value in msgspec.structs.asdict(read()).items() if name != "route"}
        except HttpError as error:
            return error.status, error.message

    assert outcome(lambda: read_next_head(second, read_head(FIRST))) == outcome(lambda: read_head(second))


@pytest.mark.parametrize(
    ("line", "same"),
    [
        ("Content-Length: 5", True),
        ("Mcp-Name: other", True),
        ("Origin: http://b", False),
        ("Content-Type: text/plain", False),
        ("MCP-Protocol-Version: 2026-07-28", False),
        ("Host: b", False),
    ],
)
def test_a_route_is_kept_only_while_nothing_differs_that_it_may_depend_on(line: str, same: bool) -> None:
    lines = ["POST / HTTP/1.1", "Host: a", "Origin: http://a", "Content-Type: a/b", "MCP-Protocol-Version: 2025-11-25"]
    lines += ["Mcp-Name: one", "Content-Length: 4"]
    name = line.partition(":")[0]
    changed = [line if given.startswith(f"{name}:") else given for given in lines]
    first, second = ("\r\n".join([*each, "", ""]).encode() for each in (lines, changed))
    before = read_head(first)
    before.route.keep("handler")
    assert (read_next_head(second, before).route.handler == "handler") is same
    assert read_next_head(first, before).route.handler == "handler"
