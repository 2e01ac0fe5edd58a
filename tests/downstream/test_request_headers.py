"""What the headers of an agent's request say."""

import pytest

from gateway_core.downstream.request_headers import _accepts
from gateway_core.downstream.streams.stream import Accepts


@pytest.mark.parametrize(
    ("accept", "json", "stream"),
    [
        ("application/json, text/event-stream;q=0", True, False),
        ("application/json;q=0, */*", False, True),
        ("*/*;q=0.000, text/event-stream;q=0.1", False, True),
        ("application/*;q=0, text/*; Q=0", False, False),
        ("application/json;charset=utf-8;q=1.0", True, False),
    ],
)
def test_an_answer_with_weight_zero_is_refused(accept, json, stream):
    assert _accepts(accept) == Accepts(json, stream)
