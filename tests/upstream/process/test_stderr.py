"""What is kept of a child's stderr is little, readable, and without secrets."""

import time
from collections.abc import Iterator

import pytest
from loguru import logger

from gateway_core.upstream.concealing import Concealer
from gateway_core.upstream.process.stderr import StderrTail


@pytest.fixture
def records() -> Iterator[list[dict]]:
    found: list[dict] = []
    sink = logger.add(lambda message: found.append(message.record["extra"]), level="DEBUG")
    yield found
    logger.remove(sink)


async def test_the_last_line_is_found_however_the_bytes_are_split() -> None:
    text = "first\n\nsécond\nthe end".encode()
    for cut in range(len(text)):
        tail = StderrTail("server", Concealer(()))
        tail.feed(text[:cut])
        tail.feed(text[cut:])
        assert tail.last == "the end"
        tail.feed(b"\n")
        assert tail.last == "the end"
        assert list(tail._lines) == ["first", "sécond", "the end"]


async def test_secrets_are_hidden_longest_first_and_short_values_are_not() -> None:
    tail = StderrTail("server", Concealer(["hushed", "hushed-long", "1", ""]))
    tail.feed(b"a hushed-long and a hushed at 1\n")
    assert tail.last == "a [REDACTED] and a [REDACTED] at 1"


async def test_lines_are_cut_and_control_characters_escaped() -> None:
    tail = StderrTail("server", Concealer(()))
    tail.feed(b"\x1b[2J\xff\r\n")
    assert tail.last == "\\x1b[2J\ufffd"
    tail.feed(b"x" * 10_000_000)
    tail.feed(b"y\n")
    assert tail.last == "x" * StderrTail.LENGTH


async def test_a_flood_is_cheap_and_only_a_few_lines_of_it_are_logged(records: list[dict]) -> None:
    tail = StderrTail("server", Concealer(["secret"]))
    used = time.process_time()
    for _ in range(160):
        tail.feed(b"secret line\n" * 5000)
    assert time.process_time() - used < 3
    assert 0 < len(records) <= StderrTail.PER_SECOND * 5
    assert {record["line"] for record in records} == {"[REDACTED] line"}
    assert len(tail._lines) == StderrTail.LINES


async def test_a_secret_over_two_lines_is_hidden(records: list[dict]) -> None:
    tail = StderrTail("server", Concealer(["ghp_hu5hAbC9dEfGh1JkLmN0pQ", "tiny-12345"]))
    tail.feed(b"token: ghp_hu5hAbC\n9dEfGh1JkLmN0pQ, and tiny-\n12345 is bad\n")
    assert [record["line"] for record in records] == ["token: [REDACTED]", "[REDACTED], and tiny-", "[REDACTED] is bad"]
