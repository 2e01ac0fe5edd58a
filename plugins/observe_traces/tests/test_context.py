"""Trace context of agents: what is read, and what is not."""

import pytest
from gateway_observe_traces.context import MAX_STATE, Context, read

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "00f067aa0ba902b7"


@pytest.mark.parametrize(
    ("parent", "sampled"),
    [
        (f"00-{TRACE}-{SPAN}-01", True),
        (f"00-{TRACE}-{SPAN}-00", False),
        (f"00-{TRACE}-{SPAN}-03", True),
        (f"00-{TRACE}-{SPAN}-02", False),
        (f"01-{TRACE}-{SPAN}-01-later", True),
    ],
)
def test_a_context_is_read_and_written_in_the_known_version(parent: str, sampled: bool) -> None:
    found = read({"traceparent": parent, "tracestate": "a=1"})
    assert found == Context(TRACE, SPAN, sampled, "a=1")
    assert found.headers() == {"traceparent": f"00-{TRACE}-{SPAN}-0{int(sampled)}", "tracestate": "a=1"}


@pytest.mark.parametrize(
    "parent",
    [
        "",
        "00",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-01-more",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE}-{SPAN}",
        f"00-{TRACE}-{SPAN}-01\n",
        f" 00-{TRACE}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-01, 00-{TRACE}-{SPAN}-01",
        "x" * 8000,
    ],
)
def test_a_malformed_context_is_ignored(parent: str) -> None:
    assert read({"traceparent": parent, "tracestate": "a=1"}) is None


@pytest.mark.parametrize(
    ("state", "kept"),
    [
        ("a=1,b=2", "a=1,b=2"),
        ("", ""),
        ("a=1\r\nX-Admin: 1", ""),
        ("a=ä", ""),
        ("a=" + "x" * (MAX_STATE - 2), "a=" + "x" * (MAX_STATE - 2)),
        ("a=" + "x" * MAX_STATE, ""),
        ("a=1," * 300, ",".join(["a=1"] * 128)),
    ],
    ids=lambda it: it[:20],
)
def test_the_state_is_bounded_by_whole_entries(state: str, kept: str) -> None:
    found = read({"traceparent": f"00-{TRACE}-{SPAN}-01", "tracestate": state})
    assert found is not None
    assert found.state == kept
