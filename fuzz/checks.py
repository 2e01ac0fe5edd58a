"""What must hold for any bytes at each place where the gateway reads what others send.

Each function of `CHECKS` gets bytes, and raises if the gateway breaks a rule. `tests/test_fuzz.py` runs them over the
corpus and over generated inputs; `run.py` searches for new inputs.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from gateway_core.api import Principal, Tool
from gateway_core.catalog.entry import Entry
from gateway_core.catalog.lists import Lists
from gateway_core.concealing import HeldSecrets, Secret
from gateway_core.config import loads
from gateway_core.downstream.batch import decode_batch
from gateway_core.errors import INVALID_PARAMS, INVALID_REQUEST, PARSE_ERROR, ConfigError, RpcError
from gateway_core.exchange.exchange import Agent
from gateway_core.http1.head import HttpError, RequestHead
from gateway_core.http1.hosts import HostGuard
from gateway_core.http1.reader import RequestReader
from gateway_core.limits.slices import finish
from gateway_core.mcp.decoder import decode_request, decode_response
from gateway_core.mcp.header_values import decode_header_value, encode_header_value
from gateway_core.mcp.jsonrpc import Message
from gateway_core.mcp.reserved import is_own, is_reserved, without_own, without_reserved
from gateway_core.sealing import Seal
from gateway_core.upstream.transports.events import EventParser, EventTooLarge
from gateway_core.upstream.transports.stdio import Lines, TooLong

CORPUS: Final = Path(__file__).with_name("corpus")
LIMIT: Final = 64
"""Bytes of an event and of a body."""
SECRET: Final = "hu5hAbC9dEfGh1JkLmN0pQrS"
_HELD: Final = HeldSecrets([Secret("a secret", SECRET)])
_WITH_NUMBER: Final = HeldSecrets([Secret("a secret", SECRET), Secret("a number", "7654321098")])
_TOOL: Final = Entry("tool", "t", "t", b'{"name":"t"}', (), Tool("t", "t", {"name": "t"}, ()))
_LISTS: Final = Lists(1, Seal())
_LISTING: Final = finish(_LISTS.listings({"tool": {"t": _TOOL}}, {}))["tools/list", "legacy"]
_GUARD: Final = HostGuard("127.0.0.1", ["gateway.example.com"], ["https://page.example.com"])
_BATCHING: Final = Agent(Principal("agent@127.0.0.1"), "legacy", "2025-03-26")
_FILE: Final = Path("/nowhere/mcp-proxy.toml")


def _constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def read(data: bytes) -> Any:
    """What Python's own reader makes of JSON; numbers stay text. Raises `ValueError`, `RecursionError`."""
    return json.loads(data.decode(), parse_int=str, parse_float=str, parse_constant=_constant)


def _agrees(raw: Any, expected: Any) -> None:
    """Fail unless the raw JSON of a member means what the whole message's other reader found."""
    data = bytes(raw)
    assert b"\n" not in data, "a line break inside would end the message on a pipe"
    assert b"\r" not in data
    assert read(data) == expected


def _has_half_pairs(data: bytes) -> bool:
    """Whether there may be a half surrogate pair, which is replaced in what servers send."""
    return b"\\ud" in data.lower()


def _envelope(message: Message, data: bytes) -> None:
    expected = read(data)
    assert isinstance(expected, dict)
    assert _has_half_pairs(data) or message.method == expected.get("method", "")
    for name in ("params", "result", "error"):
        raw = bytes(getattr(message, name))
        if raw and not _has_half_pairs(data):
            _agrees(raw, expected[name])
    if message.is_request:
        _agrees(message.id, expected["id"])
    params = expected.get("params")
    if message.members:
        assert message.members.keys() == params.keys()


def _decoded(decode: Callable[[bytes], Message], data: bytes) -> None:
    try:
        message = decode(data)
    except RpcError as error:
        assert error.code in (PARSE_ERROR, INVALID_REQUEST)
        return
    _envelope(message, data)


def request(data: bytes) -> None:
    """A message of an agent is refused, or means the same to another reader."""
    _decoded(decode_request, data)


def response(data: bytes) -> None:
    """The same for a message of a server."""
    _decoded(decode_response, data)


def batch(data: bytes) -> None:
    """A batch is refused, or each of its messages means the same to another reader."""
    try:
        messages = decode_batch(data, _BATCHING)
    except RpcError as error:
        assert error.code in (PARSE_ERROR, INVALID_REQUEST)
        return
    expected = read(data)
    assert [message.method for message in messages] == [each.get("method", "") for each in expected]


def events(data: bytes) -> None:
    """An event stream is read alike however it is cut."""

    def parsed(size: int) -> list[Any] | None:
        parser = EventParser(LIMIT)
        found: list[Any] = []
        try:
            for start in range(0, len(data), size):
                found += parser.feed(data[start : start + size])
        except EventTooLarge:
            return None
        assert all(len(event.data) <= LIMIT for event in found)
        return [*found, parser.last_id, parser.retry]

    # A line that is too long is noticed only if it comes in pieces; at once, it is read and forgotten.
    found = [each for each in (parsed(1), parsed(3), parsed(max(len(data), 1))) if each is not None]
    assert all(each == found[0] for each in found)


def lines(data: bytes) -> None:
    """The lines of a pipe are the same however they are cut, and bounded."""

    limit = 4 * TooLong.KEPT

    def split(size: int) -> list[Any]:
        reader = Lines(limit)
        found = [line for start in range(0, len(data), size) for line in reader.feed(data[start : start + size])]
        assert all(len(line) <= limit for line in found if isinstance(line, bytes))
        return [line.request_id if isinstance(line, TooLong) else line for line in found]

    assert split(1) == split(7) == split(max(len(data), 1))


def read_requests(data: bytes, size: int, limit: int = LIMIT) -> Iterator[tuple[RequestHead, bytes]]:
    """The head and body of each complete request in `data`, which is fed in pieces. Raises `HttpError`."""
    reader, head = RequestReader(lambda owner, size: None), None
    for start in range(0, len(data), size):
        reader.feed(data[start : start + size])
        while (head := head or reader.head()) is not None and (body := reader.body(head, limit)) is not None:
            yield head, body
            head = None


def http_request(data: bytes) -> None:
    """Requests are read alike however they are cut."""

    def requests(size: int) -> list[Any]:
        found: list[Any] = []
        try:
            for head, body in read_requests(data, size):
                assert len(body) <= LIMIT
                found.append((head.method, head.path, head.query, dict(head.fields), body))
        except HttpError as error:
            found.append(error.status)
        return found

    assert requests(1) == requests(5) == requests(max(len(data), 1))


def headers(data: bytes) -> None:
    """Any value of a header is judged without an error, and an encoded value is decoded to what it was."""
    text = data.decode("latin-1")
    decode_header_value(text)
    _GUARD.judge(text, text)
    allowed = _GUARD.judge(text, None) is None
    assert not (allowed and set(text) & set("/?#@\\ \t")), "such a host is read in two ways"
    name = data.decode(errors="ignore")
    assert decode_header_value(encode_header_value(name)) == name


def cursor(data: bytes) -> None:
    """A cursor that was not issued is refused."""
    try:
        _LISTS.page(_LISTING, data.decode(errors="replace"))
    except RpcError as error:
        assert error.code == INVALID_PARAMS
    else:
        raise AssertionError("a forged cursor was accepted")


def configuration(data: bytes) -> None:
    """A configuration is read, or refused with problems of one line each."""
    try:
        loads(data.decode(errors="replace"), _FILE, {"HOME": "/"})
    except ConfigError as error:
        assert error.problems
        assert all(problem.isprintable() for problem in error.problems)


def reserved(data: bytes) -> None:
    """No key that only the gateway may set is left, and what is left stays JSON."""
    try:
        value = read(data)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        return
    for remove, unwanted in ((without_own, is_own), (without_reserved, is_reserved)):
        left = json.loads(remove(data))
        meta = left.get("_meta")
        assert not isinstance(meta, dict) or not any(unwanted(key) for key in meta)


def concealing(data: bytes) -> None:
    """No secret is left in text, and none in JSON, which stays JSON."""
    assert SECRET.encode() not in _HELD.clean_line(data)
    try:
        read(data)
    except (ValueError, RecursionError):
        return
    for held in (_HELD, _WITH_NUMBER):
        cleaned = held.clean(data)
        assert SECRET.encode() not in cleaned
        read(cleaned)


CHECKS: Final[dict[str, Callable[[bytes], None]]] = {
    check.__name__: check
    for check in (
        *(request, response, batch, events, lines, http_request),
        *(headers, cursor, configuration, reserved, concealing),
    )
}
