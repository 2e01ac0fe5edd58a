"""The last lines of the log: kept within bounds, and read back in both formats."""

from __future__ import annotations

import time
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway_core.log.lines import Format, Renderer
from gateway_core.log.reading import LogLine, excerpt, parsed
from gateway_core.log.recent import Recent

WORDS = st.text(st.characters(codec="utf-8"), max_size=30)
KEYS = st.from_regex(r"[A-Za-z_][a-z0-9_]{0,10}", fullmatch=True)


def everything(recent: Recent, after: int = 0) -> list[str]:
    return [one.text for one in excerpt(recent, after, 1000, lambda _: True).lines]


def test_the_oldest_lines_go_and_numbers_stay() -> None:
    recent = Recent(max_bytes=100)
    for number in range(20):
        recent.add(b"line %d\nother %d\n" % (number, number))
    found = excerpt(recent, 0, 1000, lambda _: True).lines
    assert [one.text for one in found[-2:]] == ["line 19", "other 19"]
    assert len(found) < 16
    assert [one.seq for one in found] == list(range(recent.last - len(found) + 1, recent.last + 1))
    assert everything(recent, found[-2].seq) == ["other 19"]
    assert everything(recent, recent.last) == []


def test_a_limit_keeps_the_latest_that_are_wanted() -> None:
    recent = Recent()
    recent.add(b"".join(b"line %d\n" % number for number in range(100)))
    found = excerpt(recent, 0, 3, lambda line: line.text.endswith("7")).lines
    assert [one.text for one in found] == ["line 77", "line 87", "line 97"]


def test_a_reader_that_goes_on_gets_every_line_and_hears_of_those_that_are_gone() -> None:
    recent = Recent(max_bytes=600)
    recent.add(b"before\n")
    read, at = list[str](), recent.last
    for _ in range(5):
        recent.add(b"".join(b"line %d\n" % number for number in range(50)))
        for _ in range(3):
            found = excerpt(recent, at, 20, lambda _: True)
            assert found.missed == 0
            read += [one.text for one in found.lines]
            at = found.last
    assert read == 5 * [f"line {number}" for number in range(50)]
    recent.add(b"gone\n" * 7)
    recent.add(b"kept" * 200 + b"\n")
    found = excerpt(recent, at, 20, lambda _: True)
    assert (len(found.lines), found.missed, found.last) == (1, 7, recent.last)
    assert excerpt(recent, 1, 20, lambda _: True).missed == 1 + 5 * 50 + 7, "not the numbers before this process"


@pytest.mark.parametrize("colour", [False, True])
@given(
    text=WORDS.filter(lambda it: " " not in it and "\\" not in it and it.isprintable() and it),
    values=st.dictionaries(KEYS, WORDS, max_size=4),
)
def test_a_text_line_is_read_as_it_was_meant(colour: bool, text: str, values: dict[str, str]) -> None:
    line = Renderer("text", colour).render(1_700_000_000.0, "WARNING", text, values)
    found = parsed(7, line)
    assert (found.seq, found.at, found.level, found.text) == (7, 1_700_000_000.0, "WARNING", text)
    assert dict(found.fields) == values


@given(
    text=WORDS,
    values=st.dictionaries(KEYS.filter(lambda key: key not in {"level", "message", "time"}), WORDS, max_size=4),
)
def test_a_json_line_is_read_as_it_was_meant(text: str, values: dict[str, str]) -> None:
    line = Renderer("json", False).render(1_700_000_000.25, "INFO", text, values)
    assert parsed(1, line) == LogLine(1, 1_700_000_000.25, "INFO", text, values)


@pytest.mark.parametrize(
    "line", ["", "{", "[]", "{}", '{"time":1}', '{"time":"x","level":"INFO","message":"m"}', "a b c"]
)
def test_a_line_of_something_else_is_its_text(line: str) -> None:
    assert parsed(1, line) == LogLine(1, 0.0, "INFO", line, {})


@pytest.mark.parametrize("form", ["text", "json"])
def test_half_a_surrogate_pair_can_be_sent_and_a_whole_one_stays(form: Format) -> None:
    line = Renderer(form, colour=False).render(0.0, "INFO", "m \ud800 \U0001f600", {"name": "\udfff \U0001f600"})
    found = parsed(1, line)
    assert found.fields == {"name": "? \U0001f600"}
    msgspec.json.encode([found.text, found.fields])


def test_a_hostile_line_is_read_in_linear_time() -> None:
    hostile: Any = "2026-11-30T10:00:00+00:00 INFO    x" + ' a="' * 200_000
    used = time.process_time()
    assert parsed(1, hostile).level == "INFO"
    assert time.process_time() - used < 30
