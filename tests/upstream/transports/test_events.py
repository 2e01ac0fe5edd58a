"""Server-sent events parse the same however they are split, and never grow past the limit."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway_core.upstream.transports.events import Event, EventParser, EventTooLarge


def parse(*chunks: bytes, limit: int = 1000) -> list[Event]:
    parser = EventParser(limit)
    return [event for chunk in chunks for event in parser.feed(chunk)]


def test_an_event_has_type_and_data() -> None:
    assert parse(b"event: endpoint\nid: 7\nretry: 500\ndata: /messages\n\n") == [Event("endpoint", b"/messages")]


def test_type_defaults_to_message_and_is_not_inherited() -> None:
    assert [event.event for event in parse(b"event: a\ndata: 1\n\ndata: 2\n\n")] == ["a", "message"]


def test_the_id_stays_until_another_comes() -> None:
    parser = EventParser(100)
    ids = []
    for event in (b"id: 1\ndata: a\n\n", b"data: b\n\n", b"id\ndata: c\n\n"):
        parser.feed(event)
        ids.append(parser.last_id)
    assert ids == ["1", "1", ""]


def test_data_lines_are_joined_with_newlines_and_one_space_is_dropped() -> None:
    assert parse(b"data:a\ndata:  b\ndata\ndata:\n\n")[0].data == b"a\n b\n\n"


def test_an_event_without_data_is_none_but_its_id_and_retry_count() -> None:
    parser = EventParser(100)
    assert parser.feed(b"event: x\nid: 9\nretry: 20\n\n") == []
    assert (parser.last_id, parser.retry) == ("9", 20)
    assert parser.feed(b"data\n\n") == [Event("message", b"")]
    assert (parser.last_id, parser.retry) == ("9", 20)


def test_comments_unknown_fields_and_bad_values_are_ignored() -> None:
    stream = b": comment\nfoo: bar\nretry: 1x\nretry: 99999999999999\nid: a\0b\ndata: x\n\n"
    parser = EventParser(1000)
    assert parser.feed(stream) == [Event("message", b"x")]
    assert (parser.last_id, parser.retry) == ("", None)


def test_an_unfinished_event_is_not_dispatched() -> None:
    assert parse(b"data: x\n") == []


@pytest.mark.parametrize("end", [b"\n", b"\r", b"\r\n"])
def test_all_line_ends_mean_the_same_at_every_split(end: bytes) -> None:
    stream = b"\xef\xbb\xbfevent: e\ndata: one\ndata: tw\xc3\xb6\n\n: c\ndata: three\nid: 4\n\n".replace(b"\n", end)
    expected = [Event("e", b"one\ntw\xc3\xb6"), Event("message", b"three")]
    assert parse(stream) == expected
    for cut in range(len(stream) + 1):
        assert parse(stream[:cut], stream[cut:]) == expected
    assert parse(*(stream[i : i + 1] for i in range(len(stream)))) == expected


def test_a_byte_order_mark_is_one_only_at_the_start() -> None:
    assert parse(b"\xef\xbbdata: x\n\n") == []
    assert parse(b"\xef\xbb\xbfdata: x\n\n\xef\xbb\xbfdata: y\n\n") == [Event("message", b"x")]


pieces = st.sampled_from(
    [b"data", b"event", b"id", b"retry", b":", b" ", b"\n", b"\r", b"\r\n", b"5", b"\xff", b"\0", b"\xef\xbb\xbf"]
)


@given(st.lists(pieces, max_size=40), st.data())
def test_any_stream_parses_the_same_however_it_is_split(parts: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(parts)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    chunks = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    assert parse(*chunks) == parse(stream)


def test_data_past_the_limit_is_refused() -> None:
    assert parse(b"data: " + b"x" * 90 + b"\n\n", limit=100)[0].data == b"x" * 90
    with pytest.raises(EventTooLarge):
        parse(b"data: " + b"x" * 101 + b"\n\n", limit=100)
    with pytest.raises(EventTooLarge):
        parse(*([b"data: xxxxxxxxx\n"] * 11), limit=100)


def test_an_endless_line_is_refused_and_endless_comments_are_not() -> None:
    with pytest.raises(EventTooLarge):
        parse(*([b"x" * 50] * 3), limit=100)
    assert parse(*([b": ping\n\n"] * 1000), b"data: x\n\n", limit=100) == [Event("message", b"x")]
