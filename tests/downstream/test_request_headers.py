"""What the headers of an agent's request say."""

import pytest

from gateway_core.downstream.request_headers import _accepts
from gateway_core.downstream.streams.stream import Accepts


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
