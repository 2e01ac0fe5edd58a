"""What the headers of an agent's request say."""

import pytest

from gateway_core.downstream.request_headers import HeaderFacts, _accepts, facts_of
from gateway_core.downstream.streams.stream import Accepts
from gateway_core.http1.head import read_head, read_next_head


@pytest.mark.parametrize(
    ("accept", "json", "stream", "names_stream"),
    [
        ("application/json, text/event-stream;q=0", True, False, False),
        ("application/json;q=0, */*", False, True, False),
        ("*/*;q=0.000, text/event-stream;q=0.1", False, True, True),
        ("application/*;q=0, text/*; Q=0", False, False, False),
        ("application/json;charset=utf-8;q=1.0", True, False, False),
        ("application/json, Text/Event-Stream", True, True, True),
        ("text/*", False, True, False),
    ],
)
def test_which_answers_a_request_accepts(accept, json, stream, names_stream):
    assert _accepts(accept) == Accepts(json, stream, names_stream)


HEAD = (
    "POST /mcp HTTP/1.1\r\nHost: a\r\nAccept: application/json\r\nMCP-Protocol-Version: 2026-07-28\r\n"
    "Traceparent: 00-1-01\r\nContent-Length: 2\r\n\r\n"
)


@pytest.mark.parametrize(
    ("before", "after", "differs"),
    [
        ("00-1-01", "00-2-01", ()),
        ("application/json", "text/event-stream", ("acceptable",)),
        ("2026-07-28", "2025-11-25", ("has_legacy_version", "is_legacy")),
        ("Traceparent", "Mcp-Session-Id", ("is_legacy",)),
        ("Traceparent", "Mcp-Param-City", ("has_params",)),
    ],
)
def test_what_the_headers_of_a_route_say_is_not_kept_for_other_headers(before, after, differs):
    first = read_head(HEAD.encode())
    known = facts_of(first)
    found = facts_of(read_next_head(HEAD.replace(before, after).encode(), first))
    changed = {name for name in HeaderFacts.__struct_fields__ if getattr(found, name) != getattr(known, name)}
    assert (changed, found is known) == (set(differs), not differs)
